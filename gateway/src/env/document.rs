//! A `.env` file as a lossless document: the text as it is, and where in it each setting stands.
//!
//! A setting is `KEY=value`, with `export ` before it if one likes. A value is bare (to the end of the line or to a ` #` comment),
//! in `'…'` or `` `…` `` (as it stands), or in `"…"` (`\n \r \t \\ \" \$` are escapes); what is quoted may go over lines. The last
//! setting of a key counts. What is no setting, comment or blank is a fault; the lines around it keep their meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// What a file says, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    text: String,
    settings: Vec<Setting>,
    faults: Vec<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    key: String,
    value: String,
    line: usize,
    /// The value with its quotes.
    raw: Range<usize>,
    /// All its lines with their ends.
    whole: Range<usize>,
}

/// A place that says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and the remedy.
    pub reason: String,
    repair: Option<(Range<usize>, String)>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl Fault {
    /// Whether [`Document::repaired`] mends it.
    pub fn is_repairable(&self) -> bool {
        self.repair.is_some()
    }
}

/// Why an edit cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EditError {
    /// The key would not be read back.
    #[error("{0:?} is no key: letters, digits, _ . and -, and no digit first")]
    Key(String),
    /// The value would not be read back.
    #[error("the value of {0} holds a NUL byte, which no environment can")]
    Value(String),
    /// Reading the edited text gave something else; nothing was changed.
    #[error("{0} could not be set without changing other settings; edit the file by hand")]
    Unsafe(String),
}

const BOM: char = '\u{feff}';

impl Document {
    /// Reads a text. Never fails: what says nothing is among the faults.
    pub fn parse(text: &str) -> Self {
        let mut document = Self { text: text.to_owned(), settings: Vec::new(), faults: Vec::new() };
        let mut at = if text.starts_with(BOM) { BOM.len_utf8() } else { 0 };
        let mut line = 1;
        while at < text.len() {
            let end = line_end(text, at);
            let end = match statement(text, at, end, line) {
                Ok(None) => end,
                Ok(Some(setting)) => {
                    let end = setting.whole.end;
                    document.settings.push(setting);
                    end
                }
                Err(fault) => {
                    document.faults.push(fault);
                    end
                }
            };
            line += text[at..end].matches('\n').count();
            at = end;
        }
        document
    }

    /// The text, byte for byte.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What says nothing, in the order of the lines.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The value that counts for `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.setting(key).map(|setting| setting.value.as_str())
    }

    /// Every key with the value that counts.
    pub fn values(&self) -> BTreeMap<&str, &str> {
        self.settings.iter().map(|it| (it.key.as_str(), it.value.as_str())).collect()
    }

    /// The line, from 1, at which the value that counts for `key` stands.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        self.setting(key).map(|setting| setting.line)
    }

    /// Keys that are set more than once, with their lines.
    pub fn repeated(&self) -> Vec<(&str, Vec<usize>)> {
        let mut lines: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for setting in &self.settings {
            lines.entry(&setting.key).or_default().push(setting.line);
        }
        lines.into_iter().filter(|(_, lines)| lines.len() > 1).collect()
    }

    fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().rfind(|setting| setting.key == key)
    }

    /// The document with `key` set to `value`: where it stands, or as a new line at the end.
    ///
    /// # Errors
    /// The key or the value cannot be written so that it is read back.
    pub fn set(&self, key: &str, value: &str) -> Result<Self, EditError> {
        if !is_key(key) {
            return Err(EditError::Key(key.to_owned()));
        }
        if value.contains('\0') {
            return Err(EditError::Value(key.to_owned()));
        }
        let mut text = self.text.clone();
        match self.setting(key) {
            Some(setting) if setting.value == value => {}
            Some(setting) => {
                let old = &self.text[setting.raw.clone()];
                let written = write_value(value, old.chars().next());
                // `KEY=#` and `KEY= # note` alike: a comment must stay one.
                text.replace_range(setting.raw.clone(), &written);
            }
            None => {
                let end = self.line_ending();
                let body = text.strip_prefix(BOM).unwrap_or(&text);
                if !body.is_empty() && !text.ends_with('\n') {
                    text.push_str(end);
                }
                text.extend([key, "=", &write_value(value, None), end]);
            }
        }
        let mut wanted = self.values();
        wanted.insert(key, value);
        self.proved(text, &wanted, key)
    }

    /// The document without `key`; every line that sets it goes.
    ///
    /// # Errors
    /// Other settings would change.
    pub fn unset(&self, key: &str) -> Result<Self, EditError> {
        let mut text = self.text.clone();
        for setting in self.settings.iter().rev().filter(|setting| setting.key == key) {
            text.replace_range(setting.whole.clone(), "");
        }
        let mut wanted = self.values();
        wanted.remove(key);
        self.proved(text, &wanted, key)
    }

    /// The document with every fault mended that can be without losing a setting, and how many there were. Quotes that are open can make
    /// one mend undo what another line says: then each is tried by itself.
    pub fn repaired(&self) -> (Self, usize) {
        let repairs: Vec<_> =
            self.faults.iter().filter_map(|fault| fault.repair.as_ref()).collect();
        let keys = |document: &Self| self.values().keys().all(|key| document.get(key).is_some());
        let mut text = self.text.clone();
        for (range, with) in repairs.iter().rev() {
            text.replace_range(range.clone(), with);
        }
        let all = Self::parse(&text);
        if keys(&all) {
            return (all, repairs.len());
        }
        let (mut mended, mut count) = (self.clone(), 0);
        // From the end, so that what lies before stays where it is.
        for (range, with) in repairs.iter().rev().take(MOST_ALONE) {
            let mut text = mended.text.clone();
            text.replace_range(range.clone(), with);
            let next = Self::parse(&text);
            if keys(&next) {
                (mended, count) = (next, count + 1);
            }
        }
        (mended, count)
    }

    /// The edited text, if it says `wanted` and has no new fault.
    fn proved(
        &self,
        text: String,
        wanted: &BTreeMap<&str, &str>,
        key: &str,
    ) -> Result<Self, EditError> {
        let edited = Self::parse(&text);
        if edited.values() == *wanted && edited.faults.len() == self.faults.len() {
            return Ok(edited);
        }
        Err(EditError::Unsafe(key.to_owned()))
    }

    /// That of most lines.
    fn line_ending(&self) -> &'static str {
        let crlf = self.text.matches("\r\n").count();
        if crlf * 2 > self.text.matches('\n').count() { "\r\n" } else { "\n" }
    }
}

/// Mends that are tried by themselves: each reads the whole file.
const MOST_ALONE: usize = 200;

/// Whether `text` may stand before `=`.
pub(super) fn is_key(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(first) && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// The end of the line that begins at `at`, its line end included.
fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |n| at + n + 1)
}

/// The setting that begins in the line `at..end`; none for a blank and a comment.
fn statement(text: &str, at: usize, end: usize, line: usize) -> Result<Option<Setting>, Fault> {
    let bare = text[at..end].trim();
    if bare.is_empty() || bare.starts_with('#') {
        return Ok(None);
    }
    let fault = |reason: &str, repair: Option<String>| {
        let start = at + (text[at..end].len() - text[at..end].trim_start().len());
        let repair = repair.map(|with| (start..start + bare.len(), with));
        Fault { line, reason: reason.to_owned(), repair }
    };
    if let Some(inner) = wholly_quoted(bare) {
        return Err(fault(
            "the whole line is in quotes, so it sets nothing; `repair` takes them off",
            Some(inner.to_owned()),
        ));
    }
    let Some(equals) = bare.find('=') else {
        return Err(fault(
            "no `=`, so it sets nothing; `repair` makes it a comment",
            Some(format!("# {bare}")),
        ));
    };
    let name = bare[..equals].trim_end();
    let key = name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
    let key = key.map_or(name, str::trim_start);
    if !is_key(key) {
        return Err(fault(
            &format!("{key:?} is no key: letters, digits, _ . and -, and no digit first"),
            None,
        ));
    }
    let after = at + text[at..end].find('=').unwrap_or(0) + 1;
    let (value, raw, stop) = value(text, after, end).map_err(|reason| fault(reason, None))?;
    Ok(Some(Setting { key: key.to_owned(), value, line, raw, whole: at..stop }))
}

/// `'KEY=value'` with nothing else on the line: what a shell of another system leaves.
fn wholly_quoted(bare: &str) -> Option<&str> {
    let quote = bare.chars().next().filter(|c| "'\"`".contains(*c))?;
    let inner = bare.strip_prefix(quote)?.strip_suffix(quote)?;
    let (key, _) = inner.split_once('=')?;
    (is_key(key.trim()) && !inner.contains(quote)).then_some(inner)
}

/// A value, its range with quotes, and the end of its last line.
fn value(
    text: &str,
    after: usize,
    end: usize,
) -> Result<(String, Range<usize>, usize), &'static str> {
    let rest = &text[after..end];
    let start = after + rest.len() - rest.trim_start_matches([' ', '\t']).len();
    let quote = text[start..end].chars().next().filter(|c| "'\"`".contains(*c));
    let Some(quote) = quote else {
        let line = &text[start..end];
        // A comment begins with `#` after a blank; `a#b` is a value.
        let commented = line.char_indices().find(|(n, c)| {
            *c == '#' && *n > 0 && line[..*n].ends_with([' ', '\t'])
                || *c == '#' && *n == 0 && start > after
        });
        let bare = line[..commented.map_or(line.len(), |(n, _)| n)].trim_end();
        if bare.is_empty() && commented.is_some() {
            return Ok((String::new(), after..after, end)); // the comment keeps its blank
        }
        return Ok((bare.to_owned(), start..start + bare.len(), end));
    };
    let (value, close) = quoted(text, start + 1, quote)
        .ok_or("the quote is never closed; close it, or leave it away")?;
    let stop = line_end(text, close);
    let tail = text[close..stop].trim();
    if !(tail.is_empty() || tail.starts_with('#')) {
        return Err("there is text after the closing quote; quote the whole value, or add `#`");
    }
    Ok((value, start..close, stop))
}

/// What stands from `at` to the closing quote, and where that ends.
fn quoted(text: &str, at: usize, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text[at..].char_indices();
    while let Some((n, c)) = chars.next() {
        if c == quote {
            return Some((value, at + n + 1));
        }
        if c != '\\' || quote != '"' {
            value.push(c);
            continue;
        }
        match chars.next()?.1 {
            'n' => value.push('\n'),
            'r' => value.push('\r'),
            't' => value.push('\t'),
            c @ ('\\' | '"' | '$') => value.push(c),
            c => value.extend(['\\', c]),
        }
    }
    None
}

/// A value so that this reader, and the common ones, read it back: in the quotes that it had, if they can hold it.
fn write_value(value: &str, old: Option<char>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+,-=?&~".contains(c);
    let had = old.filter(|c| "'\"`".contains(*c));
    let bare = !value.is_empty() && value.chars().all(plain);
    // Within '…' some readers take a backslash before ' or \ for an escape.
    let literal = |quote: char| {
        let odd = value.ends_with('\\') || value.contains("\\\\") || value.contains("\\'");
        !value.contains([quote, '\r', '\n']) && !odd
    };
    match had {
        None if bare => value.to_owned(),
        Some(quote @ ('\'' | '`')) if literal(quote) => format!("{quote}{value}{quote}"),
        Some('"') if !value.contains(['$', '\\', '"']) => escaped(value, true),
        _ if literal('\'') => format!("'{value}'"),
        _ => escaped(value, had == Some('"')),
    }
}

/// In `"…"`; with `lines` a line break stays one.
fn escaped(value: &str, lines: bool) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' | '$' => out.extend(['\\', c]),
            '\r' => out.push_str("\\r"),
            '\n' if !lines => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
