//! Reads exposition pages as real programs print them. A malformed line is reported with its number
//! and reason and costs only itself; no input panics, and nothing is allocated per well-formed line.
//!
//! Sources: the Prometheus text format 0.0.4 and OpenMetrics 1.0 specifications, with what Prometheus 3
//! adds to both: names outside the classic character set in double quotes.

use super::Dialect;
use crate::label::{is_plain_label_name, is_plain_metric_name};
use crate::{Labels, MetricKind, SeriesKey, Timestamp};
use std::borrow::Cow;
use std::fmt;

/// What one line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Line<'a> {
    /// A value of a series.
    Sample(SampleLine<'a>),
    /// `# TYPE name kind`.
    Type(&'a str, MetricKind),
    /// `# HELP name text`, the text still escaped.
    Help(&'a str, &'a str),
    /// `# UNIT name unit`.
    Unit(&'a str, &'a str),
}

/// A sample line. Its labels stay in the parser until the next line is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleLine<'a> {
    /// Name and labels exactly as printed: a key for caches of known series.
    pub series: &'a str,
    /// The value.
    pub value: f64,
    /// The time, where the page gives one.
    pub time: Option<Timestamp>,
    /// Whether a newline follows; only the last line of a page may lack it.
    pub terminated: bool,
}

/// Why a line was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// No metric name where one is due.
    MetricName,
    /// A bad label name, or no `=` after it.
    LabelName,
    /// A label value without its quotes.
    LabelValue,
    /// Labels that do not end with `}`.
    UnclosedLabels,
    /// The same label twice.
    DuplicateLabel,
    /// More labels in one line than any series has.
    TooManyLabels,
    /// No value.
    MissingValue,
    /// A value that is no number, or outside the range of a double.
    Value,
    /// A timestamp that is no number.
    Time,
    /// Text after the end of the sample.
    Trailing,
    /// A `# TYPE` line that names no known type.
    Type,
    /// An OpenMetrics page that ends without `# EOF`: it was cut.
    MissingEof,
    /// A last line without its newline, from a target whose pages have it: the value may be cut. Not
    /// found by the parser, which sees one page only, but by its caller.
    CutPage,
}

impl Reason {
    /// A short constant name, fit for a label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::MetricName => "metric_name",
            Self::LabelName => "label_name",
            Self::LabelValue => "label_value",
            Self::UnclosedLabels => "unclosed_labels",
            Self::DuplicateLabel => "duplicate_label",
            Self::TooManyLabels => "too_many_labels",
            Self::MissingValue => "missing_value",
            Self::Value => "value",
            Self::Time => "time",
            Self::Trailing => "trailing",
            Self::Type => "type",
            Self::MissingEof => "missing_eof",
            Self::CutPage => "cut_page",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotUtf8 => "not valid UTF-8",
            Self::MetricName => "no valid metric name",
            Self::LabelName => "no valid label name followed by =",
            Self::LabelValue => "label value is not a closed double-quoted string",
            Self::UnclosedLabels => "labels do not end with }",
            Self::DuplicateLabel => "a label name appears twice",
            Self::TooManyLabels => "more than 1,024 labels in one line",
            Self::MissingValue => "no value",
            Self::Value => "value is no number in the range of a double",
            Self::Time => "timestamp is no number",
            Self::Trailing => "unexpected text after the sample",
            Self::Type => "unknown metric type",
            Self::MissingEof => "page ends without # EOF, it may be cut",
            Self::CutPage => "page ends within this line, its value may be cut",
        })
    }
}

/// One line that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The line, counted from 1.
    pub line: usize,
    /// Why.
    pub reason: Reason,
    /// The start of the line, at most [`EXCERPT`] bytes, invalid UTF-8 replaced.
    pub excerpt: String,
}

/// Longest excerpt of a malformed line, in bytes.
pub const EXCERPT: usize = 120;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {:?}", self.line, self.reason, self.excerpt)
    }
}

#[derive(Clone, Copy, Debug)]
struct RawLabel<'a> {
    name: Quoted<'a>,
    value: Quoted<'a>,
}

/// Text between quotes, escapes still in it.
#[derive(Clone, Copy, Debug)]
struct Quoted<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Quoted<'a> {
    fn text(self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }
}

/// A page being read. Iterate with [`Parser::next_line`]; cost is linear in the page.
#[derive(Debug)]
pub struct Parser<'a> {
    rest: &'a [u8],
    dialect: Dialect,
    line: usize,
    eof_seen: bool,
    finished: bool,
    name: Quoted<'a>,
    labels: Vec<RawLabel<'a>>,
}

impl<'a> Parser<'a> {
    /// Starts at the first line of `page`.
    pub fn new(page: &'a [u8], dialect: Dialect) -> Self {
        // Windows programs may put a byte-order mark first.
        let rest = page.strip_prefix(b"\xef\xbb\xbf").unwrap_or(page);
        let name = Quoted { raw: "", escaped: false };
        Self { rest, dialect, line: 0, eof_seen: false, finished: false, name, labels: Vec::new() }
    }

    /// The next line that says something; comments and blank lines are skipped. `None` at the end.
    pub fn next_line(&mut self) -> Option<Result<Line<'a>, Malformed>> {
        while !self.rest.is_empty() && !self.eof_seen {
            let (bytes, terminated) = self.take_line();
            let outcome = match std::str::from_utf8(bytes) {
                Ok(text) => self.read(text, terminated),
                Err(_) => Err(Reason::NotUtf8),
            };
            match outcome {
                Ok(Some(line)) => return Some(Ok(line)),
                Ok(None) => {}
                Err(reason) => return Some(Err(self.malformed(reason, bytes))),
            }
        }
        if self.dialect == Dialect::OpenMetrics && !self.eof_seen && !self.finished {
            self.finished = true;
            return Some(Err(self.malformed(Reason::MissingEof, b"")));
        }
        None
    }

    /// The next line, if its first `len` bytes are a series that `is_known` knows and a sample follows; else
    /// `None`, and [`Parser::next_line`] reads it. Spares reading labels again that were read before; they are
    /// not at hand then.
    pub fn next_known(
        &mut self,
        len: usize,
        is_known: impl FnOnce(&[u8]) -> bool,
    ) -> Option<SampleLine<'a>> {
        let (series, tail) = self.rest.split_at_checked(len)?;
        if self.eof_seen || !matches!(tail.first(), Some(b' ')) || !is_known(series) {
            return None;
        }
        let end = memchr::memchr(b'\n', tail);
        let (tail, rest) = tail.split_at_checked(end.unwrap_or(tail.len()))?;
        let tail = std::str::from_utf8(tail.strip_suffix(b"\r").unwrap_or(tail)).ok()?;
        let (value, time) = self.read_tail(tail).ok()?;
        let series = std::str::from_utf8(series).ok()?;
        self.rest = rest.get(1..).unwrap_or_default();
        self.line += 1;
        Some(SampleLine { series, value, time, terminated: end.is_some() })
    }

    /// The identity of the sample line just returned.
    pub fn key(&self) -> SeriesKey {
        let labels = self.labels.iter().map(|label| (label.name.text(), label.value.text()));
        SeriesKey::new(self.name.text(), Labels::from_pairs(labels))
    }

    /// The labels of the sample line just returned, unescaped, in the page's order.
    pub fn labels(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + '_ {
        self.labels.iter().map(|label| (label.name.text(), label.value.text()))
    }

    /// The metric name of the sample line just returned.
    pub fn metric(&self) -> Cow<'a, str> {
        self.name.text()
    }

    /// The number of the line just returned, counted from 1.
    pub fn line_number(&self) -> usize {
        self.line
    }

    fn malformed(&self, reason: Reason, bytes: &[u8]) -> Malformed {
        let cut = bytes.get(..EXCERPT).unwrap_or(bytes);
        Malformed { line: self.line, reason, excerpt: String::from_utf8_lossy(cut).into_owned() }
    }

    fn take_line(&mut self) -> (&'a [u8], bool) {
        self.line += 1;
        let (line, terminated) = match memchr::memchr(b'\n', self.rest) {
            Some(end) => {
                let (line, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, b""));
                self.rest = rest.get(1..).unwrap_or_default();
                (line, true)
            }
            None => (std::mem::take(&mut self.rest), false),
        };
        (line.strip_suffix(b"\r").unwrap_or(line), terminated)
    }

    fn read(&mut self, text: &'a str, terminated: bool) -> Result<Option<Line<'a>>, Reason> {
        let text = text.trim_start_matches(BLANK);
        match text.as_bytes().first() {
            None => Ok(None),
            Some(b'#') => self.read_comment(text),
            Some(_) => self.read_sample(text, terminated).map(|line| Some(Line::Sample(line))),
        }
    }

    fn read_comment(&mut self, text: &'a str) -> Result<Option<Line<'a>>, Reason> {
        let body = text.trim_start_matches('#').trim_start_matches(BLANK);
        let (word, body) = split_blank(body);
        if word == "EOF" && self.dialect == Dialect::OpenMetrics {
            self.eof_seen = true;
            return Ok(None);
        }
        if !matches!(word, "TYPE" | "HELP" | "UNIT") {
            return Ok(None);
        }
        let (name, body) = if body.starts_with('"') {
            let (name, rest) = quoted(body).ok_or(Reason::MetricName)?;
            (name.raw, rest.trim_start_matches(BLANK))
        } else {
            split_blank(body)
        };
        if name.is_empty() {
            return Err(Reason::MetricName);
        }
        match word {
            "TYPE" => {
                let kind =
                    MetricKind::from_word(body.trim_end_matches(BLANK)).ok_or(Reason::Type)?;
                Ok(Some(Line::Type(name, kind)))
            }
            "HELP" => Ok(Some(Line::Help(name, body))),
            _ => Ok(Some(Line::Unit(name, body.trim_end_matches(BLANK)))),
        }
    }

    fn read_sample(&mut self, text: &'a str, terminated: bool) -> Result<SampleLine<'a>, Reason> {
        self.labels.clear();
        let bare = text.find(['{', ' ', '\t']).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(bare).ok_or(Reason::MetricName)?;
        self.name = Quoted { raw: name, escaped: false };
        let opened = rest.trim_start_matches(BLANK);
        let rest = match opened.strip_prefix('{') {
            Some(inside) => self.read_labels(inside)?,
            None => rest,
        };
        if bare > 0 && !is_plain_metric_name(name) || self.name.raw.is_empty() {
            return Err(Reason::MetricName);
        }
        let series = text.get(..text.len() - rest.len()).ok_or(Reason::MetricName)?;
        let (value, time) = self.read_tail(rest)?;
        Ok(SampleLine { series, value, time, terminated })
    }

    /// Reads what follows a series: value, time, exemplar.
    fn read_tail(&self, text: &str) -> Result<(f64, Option<Timestamp>), Reason> {
        let (value, rest) = split_blank(text.trim_start_matches(BLANK));
        if value.is_empty() {
            return Err(Reason::MissingValue);
        }
        let value = number(value).ok_or(Reason::Value)?;
        let (time, rest) = match rest.as_bytes().first() {
            None | Some(b'#') => (None, rest),
            Some(_) => {
                let (time, rest) = split_blank(rest);
                (Some(self.read_time(time).ok_or(Reason::Time)?), rest)
            }
        };
        // What follows a # is an exemplar; it belongs to a trace, not to the series.
        if !rest.is_empty() && !rest.starts_with('#') {
            return Err(Reason::Trailing);
        }
        Ok((value, time))
    }

    /// Reads the labels after `{` and returns what follows `}`.
    fn read_labels(&mut self, mut rest: &'a str) -> Result<&'a str, Reason> {
        loop {
            rest = rest.trim_start_matches(BLANK);
            if let Some(after) = rest.strip_prefix('}') {
                return Ok(after);
            }
            if rest.is_empty() {
                return Err(Reason::UnclosedLabels);
            }
            let (name, after) = if rest.starts_with('"') {
                quoted(rest).ok_or(Reason::LabelName)?
            } else {
                let end = rest.find(['=', ' ', '\t', ',', '}', '"']).unwrap_or(rest.len());
                let (name, after) = rest.split_at_checked(end).ok_or(Reason::LabelName)?;
                if !is_plain_label_name(name) {
                    return Err(Reason::LabelName);
                }
                (Quoted { raw: name, escaped: false }, after)
            };
            let after = after.trim_start_matches(BLANK);
            if let Some(value) = after.strip_prefix('=') {
                let (value, after) =
                    quoted(value.trim_start_matches(BLANK)).ok_or(Reason::LabelValue)?;
                if name.raw.is_empty() {
                    return Err(Reason::LabelName);
                }
                if self.labels.len() >= MOST_LABELS {
                    return Err(Reason::TooManyLabels);
                }
                if self.labels.iter().any(|have| have.name.raw == name.raw) {
                    return Err(Reason::DuplicateLabel);
                }
                self.labels.push(RawLabel { name, value });
                rest = after;
            } else if rest.starts_with('"') && self.name.raw.is_empty() && self.labels.is_empty() {
                self.name = name; // {"metric.name", label="value"}
                rest = after;
            } else {
                return Err(Reason::LabelName);
            }
            rest = rest.trim_start_matches(BLANK);
            match rest.strip_prefix(',') {
                Some(after) => rest = after,
                None if rest.starts_with('}') => {}
                None => return Err(Reason::UnclosedLabels),
            }
        }
    }

    fn read_time(&self, text: &str) -> Option<Timestamp> {
        match self.dialect {
            Dialect::Prometheus => text.parse().ok().map(Timestamp),
            Dialect::OpenMetrics => {
                let millis = (number(text)? * 1000.0).round();
                let fits = millis >= i64::MIN as f64 && millis < i64::MAX as f64;
                fits.then_some(Timestamp(millis as i64))
            }
        }
    }
}

/// Labels of one line. Each is compared with those before it.
const MOST_LABELS: usize = 1_024;

const BLANK: [char; 2] = [' ', '\t'];

/// The first word and what follows it and its blanks.
fn split_blank(text: &str) -> (&str, &str) {
    match text.find(BLANK) {
        Some(at) => {
            let (word, rest) = text.split_at_checked(at).unwrap_or((text, ""));
            (word, rest.trim_start_matches(BLANK))
        }
        None => (text, ""),
    }
}

/// The text in the double quotes that `text` starts with, and what follows them.
fn quoted(text: &str) -> Option<(Quoted<'_>, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut from = 0;
    let mut escaped = false;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', inside.as_bytes().get(from..)?)?;
        if inside.as_bytes().get(at) == Some(&b'"') {
            let raw = inside.get(..at)?;
            return Some((Quoted { raw, escaped }, inside.get(at + 1..)?));
        }
        escaped = true;
        // The character after a backslash is ASCII where it matters; others are passed over whole below.
        from = at + 2;
    }
}

/// Undoes `\\`, `\"` and `\n`; any other escape stays as it is, as in Prometheus.
pub fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some(c @ ('\\' | '"')) => out.push(c),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// A value as Prometheus reads it: decimal, `NaN`, `Inf`; no digits that overflow to infinity.
fn number(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let overflow = value.is_infinite() && text.bytes().any(|b| b.is_ascii_digit());
    (!overflow).then_some(value)
}
