use super::eval::evaluate;
use super::parse::parse;
use super::source::Source;
use super::{Expr, Test};
use crate::unit_test::points;
use model::{Labels, Timestamp};
use proptest::prelude::*;

/// Series as `name{labels}` and promtool's values, 10 s apart.
fn source(series: &[(&str, &str)]) -> Source {
    let stated = series.iter().map(|(name, values)| {
        let Expr::Select(selector) = parse(name).unwrap() else { panic!("{name}") };
        let pairs: Vec<(String, String)> = selector
            .matchers
            .iter()
            .map(|it| match &it.test {
                Test::Is(value) => (it.label.clone(), value.clone()),
                other => panic!("{other:?}"),
            })
            .collect();
        (selector.metric.clone(), Labels::from_pairs(pairs), points(values, 10_000).unwrap())
    });
    Source::Stated(stated.collect())
}

/// The elements of `text` after so many seconds.
fn at(series: &[(&str, &str)], seconds: i64, text: &str) -> String {
    let expr = parse(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
    let elements = match evaluate(&expr, &source(series), Timestamp(seconds * 1_000)) {
        Ok(elements) => elements,
        Err(error) => return error.to_string(),
    };
    let mut shown: Vec<String> = elements
        .iter()
        .map(|it| {
            let labels: Vec<String> = it.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!("{{{}}} {}", labels.join(","), (it.value * 1e6).round() / 1e6)
        })
        .collect();
    shown.sort();
    shown.join("; ")
}

#[test]
fn thresholds_leave_what_holds() {
    let up = [("up{job=\"a\"}", "1 1 0"), ("up{job=\"b\"}", "1 1 1"), ("up{job=\"c\"}", "1 stale")];
    assert_eq!(at(&up, 20, "up == 0"), "{job=a} 0");
    assert_eq!(at(&up, 20, "up"), "{job=a} 0; {job=b} 1");
    assert_eq!(at(&up, 20, "up == bool 0"), "{job=a} 1; {job=b} 0");
    assert_eq!(at(&up, 20, "up{job=~\"[bc]\"} offset 10s"), "{job=b} 1");
    assert_eq!(at(&up, 20, "absent(up{job=\"c\"})"), "{job=c} 1");
    assert_eq!(at(&up, 20, "absent(up{job=\"a\"})"), "");
    assert_eq!(at(&up, 330, "up"), "", "five minutes without a sample");
    assert_eq!(at(&up, 20, "gone(up[1m])"), "{job=c} 20");
    assert_eq!(at(&up, 10, "gone(up[1m])"), "{job=c} 10");
    assert_eq!(at(&up, 0, "gone(up[1m])"), "");
}

#[test]
fn operators_bind_and_match_as_in_promql() {
    let it = [
        ("a{x=\"1\"}", "6"),
        ("a{x=\"2\"}", "8"),
        ("b{x=\"1\"}", "2"),
        ("b{x=\"3\"}", "2"),
        ("c{x=\"1\",y=\"p\"}", "3"),
        ("c{x=\"1\",y=\"q\"}", "4"),
    ];
    assert_eq!(at(&it, 0, "a / b"), "{x=1} 3");
    assert_eq!(at(&it, 0, "2 + 3 * 2 ^ 2 ^ 1 - -1"), "{} 15");
    assert_eq!(at(&it, 0, "a > 7 or b"), "{x=1} 2; {x=2} 8; {x=3} 2");
    assert_eq!(at(&it, 0, "a and b"), "{x=1} 6");
    assert_eq!(at(&it, 0, "a unless b"), "{x=2} 8");
    assert_eq!(at(&it, 0, "sum(a)"), "{} 14");
    assert_eq!(at(&it, 0, "sum by (x) (c) / on(x) b"), "{x=1} 3.5");
    assert_eq!(at(&it, 0, "count without (y) (c)"), "{x=1} 2");
    assert_eq!(at(&it, 0, "c / on(x) group_left b"), "{x=1,y=p} 1.5; {x=1,y=q} 2");
    assert!(at(&it, 0, "c / on(x) b").contains("several series of the left side"));
    assert_eq!(at(&it, 0, "10 < a"), "", "a number on the left is compared too");
    assert_eq!(at(&it, 0, "7 < a"), "{x=2} 8");
}

#[test]
fn functions_over_time_follow_prometheus() {
    let it = [("c", "0+10x6"), ("r", "0 10 20 5 15 25 35"), ("g", "1 2 3 4 5 6 7")];
    // 1 every second, sampled every 10 s.
    assert_eq!(at(&it, 60, "rate(c[1m])"), "{} 1");
    assert_eq!(at(&it, 60, "increase(c[1m])"), "{} 60");
    assert_eq!(at(&it, 60, "increase(r[50s])"), "{} 43.75", "a reset counts from zero");
    assert_eq!(at(&it, 60, "deriv(g[1m])"), "{} 0.1");
    assert_eq!(at(&it, 60, "predict_linear(g[1m], 60)"), "{} 13");
    assert_eq!(at(&it, 60, "max_over_time(g[30s]) - min_over_time(g[30s])"), "{} 2");
    assert_eq!(at(&it, 60, "avg_over_time(g[30s])"), "{} 6");
    assert_eq!(at(&it, 60, "quantile_over_time(0.5, g[30s])"), "{} 6");
    assert_eq!(at(&it, 60, "resets(r[1m])"), "{} 1");
    assert_eq!(at(&it, 60, "changes(r[1m])"), "{} 5");
    assert_eq!(at(&it, 0, "rate(c[1m])"), "", "one sample has no rate");
    assert_eq!(at(&it, 60, "absent_over_time(nothing{a=\"b\"}[1m])"), "{a=b} 1");
}

#[test]
fn a_quantile_is_read_from_buckets() {
    let it = [("h{le=\"0.1\"}", "50"), ("h{le=\"1\"}", "90"), ("h{le=\"+Inf\"}", "100")];
    assert_eq!(at(&it, 0, "histogram_quantile(0.5, h)"), "{} 0.1");
    assert_eq!(at(&it, 0, "histogram_quantile(0.7, h)"), "{} 0.55");
    assert_eq!(at(&it, 0, "histogram_quantile(0.99, h)"), "{} 1");
    assert_eq!(at(&it, 0, "histogram_quantile(1 - 0.5, h)"), "{} 0.1");
}

#[test]
fn faults_name_their_place_and_the_remedy() {
    for (text, place, why) in [
        (
            "up ==",
            5,
            "a metric, a number, a function or a bracket is missing here, there is the end",
        ),
        ("rate(up)", 7, "a range is missing here, such as [5m]"),
        ("up[5m] > 1", 2, "a range is only taken by a function"),
        ("up{job=api}", 7, "must stand in quotes"),
        ("up{job=~\"(\"}", 8, "is no regular expression"),
        ("foo(up)", 0, "the function foo is not known"),
        ("up > 1 2", 7, "the number 2 is not expected here"),
        ("up{job=\"a\"", 10, "\"}\" is missing here"),
        ("up == \"a", 6, "has no closing \""),
        ("rate(up[5q])", 8, "neither a number nor a duration"),
        ("up $ 1", 3, "means nothing"),
        (&"(".repeat(200), 64, "nested too deeply"),
        ("up == 0 and time()", 12, "a number stands on one side"),
        ("time() < 5", 9, "two numbers are compared"),
        ("sum(1)", 4, "series are missing here"),
        ("abs(1)", 0, "argument 1 of abs must be series"),
        ("clamp_max(up, up)", 0, "argument 2 of clamp_max must be a number"),
        ("up{job=~\"\\d+\"}", 9, "\\d is no escape"),
    ] {
        let fault = parse(text).unwrap_err();
        assert!(fault.at == place && fault.why.contains(why), "{text}: {fault:?}");
    }
}

proptest! {
    #[test]
    fn no_text_brings_the_parser_down(text in "[a-z0-9(){}\\[\\]<>=!~\"'+*/^, .:-]{0,60}") {
        if let Ok(expr) = parse(&text) {
            let _ = evaluate(&expr, &source(&[("a", "1 2 3")]), Timestamp(20_000));
            let _ = (expr.asks_for_absence(), expr.reads_history());
        }
    }
}

#[test]
fn a_value_says_on_which_samples_it_rests() {
    let it = [("a{x=\"1\"}", "1 2 3 4"), ("a{x=\"2\"}", "1 2"), ("b{x=\"1\"}", "1")];
    let spans = |text: &str| {
        let elements = evaluate(&parse(text).unwrap(), &source(&it), Timestamp(30_000)).unwrap();
        let mut spans: Vec<[i64; 3]> = elements
            .iter()
            .map(|it| [it.span.newest, it.span.behind, it.span.oldest].map(|ms| ms / 1_000))
            .collect();
        spans.sort_unstable();
        spans
    };
    assert_eq!(spans("a"), [[10, 10, 10], [30, 30, 30]]);
    // Fresh evidence does not make up for what is behind, on whichever side it stands.
    assert_eq!(spans("sum(a)"), [[30, 10, 10]]);
    assert_eq!(spans("a and b"), [[30, 0, 0]]);
    assert_eq!(spans("b and a"), [[30, 0, 0]]);
    assert_eq!(spans("a{x=\"1\"} > b"), [[30, 0, 0]]);
    // A range is as new as its newest sample, and as old as its oldest.
    assert_eq!(spans("max_over_time(a{x=\"1\"}[20s])"), [[30, 30, 20]]);
}
