use super::parse::{Line, Malformed, Parser, Reason};
use super::{Dialect, encode};
use crate::{Labels, SeriesKey, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Everything the parser says about a page, one line each, values by their bits where they are special.
fn read(page: &[u8], dialect: Dialect) -> String {
    let mut parser = Parser::new(page, dialect);
    let mut out = String::new();
    while let Some(line) = parser.next_line() {
        let number = parser.line_number();
        let _ = match line {
            Ok(Line::Sample(s)) => {
                let time = s.time.map_or(String::new(), |t| format!(" @{}", t.millis()));
                writeln!(out, "{number} {} = {}{time}", parser.key(), s.value)
            }
            Ok(Line::Type(name, kind)) => writeln!(out, "{number} type {name} {}", kind.as_str()),
            Ok(Line::Help(name, text)) => writeln!(out, "{number} help {name} {text}"),
            Ok(Line::Unit(name, unit)) => writeln!(out, "{number} unit {name} {unit}"),
            Err(bad) => writeln!(out, "{number} bad {}", bad.reason.as_str()),
        };
    }
    out
}

fn check(page: &str, expected: &str) {
    assert_eq!(read(page.as_bytes(), Dialect::Prometheus), expected, "page {page:?}");
}

fn check_open(page: &str, expected: &str) {
    assert_eq!(read(page.as_bytes(), Dialect::OpenMetrics), expected, "page {page:?}");
}

#[test]
fn a_sample_has_name_labels_value_and_time() {
    check("up 1\n", "1 up = 1\n");
    check(
        "a:b{x=\"1\",y=\"z\"} 2.5 1700000000123\n",
        "1 a:b{x=\"1\",y=\"z\"} = 2.5 @1700000000123\n",
    );
    check(" \ta { x = \"1\" , } \t 1 \t -5  ", "1 a{x=\"1\"} = 1 @-5\n");
    check("a{} 1\n", "1 a = 1\n");
    check("a{x=\"1\"}7\n", "1 a{x=\"1\"} = 7\n");
}

#[test]
fn empty_label_values_mean_no_label() {
    check("a{x=\"\",y=\"1\"} 1\n", "1 a{y=\"1\"} = 1\n");
}

#[test]
fn escapes_are_undone_and_unknown_ones_kept() {
    check(
        r#"a{p="C:\\dir\n\"q\" \d é }{,="} 1"#,
        "1 a{p=\"C:\\\\dir\\n\\\"q\\\" \\\\d é }{,=\"} = 1\n",
    );
}

#[test]
fn special_values_are_read() {
    check(
        "a NaN\nb +Inf\nc -Inf\nd nan\ne inf\nf -0\ng 1e-300\n",
        "1 a = NaN\n2 b = inf\n3 c = -inf\n4 d = NaN\n5 e = inf\n6 f = -0\n7 g = 1e-300\n"
            .replace("1e-300", &format!("{}", 1e-300))
            .as_str(),
    );
}

#[test]
fn a_page_need_not_end_with_a_newline() {
    check("a 1\nb 2", "1 a = 1\n2 b = 2\n");
    let mut parser = Parser::new(b"a 1\nb 2", Dialect::Prometheus);
    let ends: Vec<bool> = std::iter::from_fn(|| parser.next_line())
        .map(|line| matches!(line, Ok(Line::Sample(s)) if s.terminated))
        .collect();
    assert_eq!(ends, [true, false]);
}

#[test]
fn carriage_returns_and_byte_order_marks_are_passed_over() {
    check("\u{feff}# TYPE a gauge\r\na 1\r\n\r\nb 2\r\n", "1 type a gauge\n2 a = 1\n4 b = 2\n");
}

#[test]
fn help_and_type_may_repeat() {
    check(
        "# HELP a Helps \\n you\n# TYPE a counter\na 1\n# HELP a Helps\n# TYPE a counter\na{x=\"1\"} 1\n#c\n# c d\n##\n",
        "1 help a Helps \\n you\n2 type a counter\n3 a = 1\n4 help a Helps\n5 type a counter\n6 a{x=\"1\"} = 1\n",
    );
}

#[test]
fn invalid_utf8_costs_its_line_only() {
    let page = b"a 1\nb{x=\"\xff\xfe\"} 2\nc 3\n";
    assert_eq!(read(page, Dialect::Prometheus), "1 a = 1\n2 bad not_utf8\n3 c = 3\n");
}

#[test]
fn each_malformed_line_names_its_reason() {
    for (line, reason) in [
        ("1up 1", Reason::MetricName),
        ("{x=\"1\"} 1", Reason::MetricName),
        ("{\"a\",\"b\"} 1", Reason::LabelName),
        ("é 1", Reason::MetricName),
        ("a{1x=\"1\"} 1", Reason::LabelName),
        ("a{x} 1", Reason::LabelName),
        ("a{x=1} 1", Reason::LabelValue),
        ("a{x=\"1} 1", Reason::LabelValue),
        ("a{x=\"1\\", Reason::LabelValue),
        ("a{x=\"1\\\"} 1", Reason::LabelValue),
        ("a{x=\"1\" y=\"2\"} 1", Reason::UnclosedLabels),
        ("a{x=\"1\"", Reason::UnclosedLabels),
        ("a{", Reason::UnclosedLabels),
        ("a{x=\"1\",x=\"2\"} 1", Reason::DuplicateLabel),
        ("a", Reason::MissingValue),
        ("a{x=\"1\"}", Reason::MissingValue),
        ("a{x=\"1\"}le=\"6400\" 204", Reason::Value),
        ("a 1_000", Reason::Value),
        ("a 0x10", Reason::Value),
        ("a 1e999", Reason::Value),
        ("a 1 2.5", Reason::Time),
        ("a 1 99999999999999999999", Reason::Time),
        ("a 1 2 3", Reason::Trailing),
        ("# TYPE a thing", Reason::Type),
        ("# TYPE", Reason::MetricName),
    ] {
        check(&format!("{line}\nok 1\n"), &format!("1 bad {}\n2 ok = 1\n", reason.as_str()));
    }
}

#[test]
fn open_metrics_adds_exemplars_seconds_units_and_an_end() {
    check_open(
        "# TYPE a counter\n# UNIT a seconds\na_total{x=\"1\"} 17 1700000000.5 # {trace_id=\"K # z\"} 0.5 1.2\nb 1 # {} 1\n# EOF\n",
        "1 type a counter\n2 unit a seconds\n3 a_total{x=\"1\"} = 17 @1700000000500\n4 b = 1\n",
    );
    check_open("a 1\n# EOF\nafter 1\n", "1 a = 1\n");
    check_open("a 1\n", "1 a = 1\n1 bad missing_eof\n");
    check_open("a 1 1e300\n# EOF", "1 bad time\n");
}

#[test]
fn names_outside_the_classic_set_are_quoted() {
    check(
        "{\"my.metric\",\"a.b\"=\"1\",c=\"2\"} 3\n",
        "1 {\"my.metric\",\"a.b\"=\"1\",c=\"2\"} = 3\n",
    );
}

#[test]
fn the_failed_gateways_page_gives_all_413_good_series() {
    let page = include_bytes!("../../tests/data/real-malformed-buckets.prom");
    let mut parser = Parser::new(page, Dialect::Prometheus);
    let (mut series, mut bad, mut comments) = (BTreeSet::new(), Vec::new(), 0);
    while let Some(line) = parser.next_line() {
        match line {
            Ok(Line::Sample(_)) => assert!(series.insert(parser.key()), "{}", parser.key()),
            Ok(_) => comments += 1,
            Err(malformed) => bad.push(malformed),
        }
    }
    assert_eq!((series.len(), bad.len()), (413, 27));
    assert!(comments > 804);
    assert!(bad.iter().all(|malformed| malformed.reason == Reason::Value));
    let first = bad.first().map(ToString::to_string).unwrap_or_default();
    assert!(first.starts_with("line ") && first.contains("le=\\\"25\\\""), "{first}");
}

#[test]
fn a_page_cut_anywhere_loses_only_what_was_cut() {
    let page = include_bytes!("../../tests/data/real-after-14-requests.prom");
    let whole = read(page, Dialect::Prometheus);
    for end in 0..page.len() {
        let cut = read(page.get(..end).unwrap_or_default(), Dialect::Prometheus);
        let kept: Vec<&str> = cut.lines().collect();
        let complete = kept.len().saturating_sub(1);
        assert!(whole.lines().take(complete).eq(kept.into_iter().take(complete)), "cut at {end}");
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,12}", any::<String>().prop_map(|s| s.replace('\r', ""))]
}

prop_compose! {
    fn key()(
        metric in prop_oneof!["[a-zA-Z_:][a-zA-Z0-9_:]{0,20}", text()],
        labels in prop::collection::btree_map(prop_oneof!["[a-zA-Z_][a-zA-Z0-9_]{0,8}", text()], text(), 0..5),
    ) -> SeriesKey {
        let metric = if metric.is_empty() { "m".to_owned() } else { metric };
        SeriesKey::new(metric, Labels::from_pairs(labels.into_iter().filter(|(name, _)| !name.is_empty())))
    }
}

proptest! {
    #[test]
    fn what_the_encoder_writes_the_parser_reads(
        samples in prop::collection::vec((key(), any::<f64>(), prop::option::of(-1_000_000_000_000_i64..4_000_000_000_000)), 0..8),
        open in any::<bool>(),
    ) {
        let dialect = if open { Dialect::OpenMetrics } else { Dialect::Prometheus };
        let mut page = String::new();
        for (key, value, time) in &samples {
            encode::sample(&mut page, dialect, &key.metric, key.labels.iter(), *value, time.map(Timestamp));
        }
        if open { page.push_str("# EOF\n"); }
        let mut parser = Parser::new(page.as_bytes(), dialect);
        for (key, value, time) in &samples {
            let line = parser.next_line();
            let Some(Ok(Line::Sample(read))) = line else { panic!("{line:?} in {page}") };
            prop_assert_eq!(&parser.key(), key);
            prop_assert!(read.value.to_bits() == value.to_bits() || read.value.is_nan() && value.is_nan());
            prop_assert_eq!(read.time, time.map(Timestamp));
        }
        prop_assert!(parser.next_line().is_none());
    }

    #[test]
    fn no_page_panics(page in prop::collection::vec(any::<u8>(), 0..400), open in any::<bool>()) {
        read(&page, if open { Dialect::OpenMetrics } else { Dialect::Prometheus });
    }

    #[test]
    fn no_nearly_valid_page_panics(page in "([a#{}\"=,\\\\ \\n1e+-]|le|TYPE|HELP|EOF|é){0,60}") {
        read(page.as_bytes(), Dialect::Prometheus);
        read(page.as_bytes(), Dialect::OpenMetrics);
    }
}

/// Reads a page line by line, each sample by its known length where that works, and counts those.
fn read_known(page: &str, dialect: Dialect) -> (Vec<String>, usize) {
    let lines = |parser: &mut Parser<'_>| parser.next_line().map(|line| format!("{line:?}"));
    let mut slow = Parser::new(page.as_bytes(), dialect);
    let mut quick = Parser::new(page.as_bytes(), dialect);
    let (mut read, mut known) = (Vec::new(), 0);
    while let Some(line) = slow.next_line() {
        let len = if let Ok(Line::Sample(sample)) = &line { sample.series.len() } else { 0 };
        match quick.next_known(len, |text| !text.is_empty()) {
            Some(sample) => {
                known += 1;
                read.push(format!("{:?}", Ok::<_, Malformed>(Line::Sample(sample))));
            }
            None => read.extend(lines(&mut quick)),
        }
        assert_eq!(read.last(), Some(&format!("{line:?}")));
        assert_eq!(quick.line_number(), slow.line_number());
    }
    assert_eq!(lines(&mut quick), None);
    (read, known)
}

#[test]
fn a_known_series_is_read_the_same_without_its_labels() {
    let page = "# TYPE a counter\na{x=\"1\"} 1\na{x=\"\u{e4} b\"} 2 1795418000000\r\n\nb 3\n  b 4\nb\t5\nb x\nc NaN";
    let (read, known) = read_known(page, Dialect::Prometheus);
    assert_eq!((read.len(), known), (8, 3), "{read:#?}");
    let (read, known) = read_known("a 1 # {id=\"x\"} 2\na 2\n# EOF\na 3\n", Dialect::OpenMetrics);
    assert_eq!((read.len(), known), (2, 2));
    let real = include_str!("../../tests/data/real-malformed-buckets.prom");
    let (_, known) = read_known(real, Dialect::Prometheus);
    assert_eq!(known, 413, "all its good samples");
    let mut parser = Parser::new(b"a {x=\"1\"} 5\n", Dialect::Prometheus);
    assert_eq!(parser.next_known(1, |_| true), None, "the labels follow a blank");
    assert!(parser.next_line().unwrap().is_ok());
}
