//! YAML with places: a node is asked for what it must be, and what it is not is a fault with line, column and remedy.

use saphyr::{LoadableYamlNode, MarkedYaml, Marker, Scalar, YamlData};
use saphyr_parser::{Event, Parser};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong, and what to do.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.why)
    }
}

/// Collects the faults of one file.
#[derive(Debug)]
pub(crate) struct Faults {
    file: String,
    pub(crate) all: Vec<Fault>,
}

/// Largest file of rules or tests.
const LARGEST: u64 = 16 << 20;

/// The text of a file that a person wrote.
pub(crate) fn read(path: &Path) -> Result<String, Fault> {
    let fault = |why: String| Fault { file: path.display().to_string(), line: 1, column: 1, why };
    let size = std::fs::metadata(path)
        .map_err(|error| fault(format!("could not be read: {error}")))?
        .len();
    if size > LARGEST {
        return Err(fault(format!("is larger than {LARGEST} bytes; split it")));
    }
    std::fs::read_to_string(path).map_err(|error| fault(format!("could not be read: {error}")))
}

/// A node of the document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a>(pub(crate) &'a MarkedYaml<'a>);

impl Faults {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), all: Vec::new() }
    }

    pub(crate) fn add(&mut self, node: Node<'_>, why: impl Into<String>) {
        let (line, column) = node.place();
        self.all.push(Fault { file: self.file.clone(), line, column, why: why.into() });
    }

    /// A fault `at` so many characters into the text of `node`.
    pub(crate) fn add_within(&mut self, node: Node<'_>, at: usize, why: &str) {
        let (mut line, mut column) = node.place();
        let text = node.text().unwrap_or_default();
        let before: Vec<char> = text.chars().take(at).collect();
        if text.contains('\n') {
            // The lines of a block text are indented alike.
            let breaks = before.iter().filter(|c| **c == '\n').count();
            line += breaks;
            if breaks > 0 {
                column += before.iter().rev().take_while(|c| **c != '\n').count();
            } else {
                column += at;
            }
        } else {
            column += at + usize::from(node.is_quoted());
        }
        self.all.push(Fault { file: self.file.clone(), line, column, why: why.to_owned() });
    }

    /// The first document of a text; none in an empty one.
    pub(crate) fn load<'a>(&mut self, text: &'a str) -> Option<MarkedYaml<'a>> {
        // The loader takes the last of two keys in silence, and copies what an alias stands for.
        if let Some((marker, why)) = unfit(text) {
            let (line, column) = (marker.line(), marker.col() + 1);
            self.all.push(Fault { file: self.file.clone(), line, column, why });
            return None;
        }
        match MarkedYaml::load_from_str(text) {
            Ok(documents) => documents.into_iter().next(),
            Err(error) => {
                let (line, column) = (error.marker().line(), error.marker().col() + 1);
                let why = format!("is no YAML: {}", error.info());
                self.all.push(Fault { file: self.file.clone(), line, column, why });
                None
            }
        }
    }
}

/// The first place at which a text is YAML that is not taken here. What is no YAML at all is left to the loader.
fn unfit(text: &str) -> Option<(Marker, String)> {
    /// Keys of a mapping that were met, and whether the next is a key; none of a list.
    type Level = Option<(BTreeSet<String>, bool)>;
    let mut levels: Vec<Level> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        let mut key = None;
        match &event {
            Event::Alias(_) => {
                return Some((span.start, "aliases are not taken; write it out".to_owned()));
            }
            Event::Scalar(text, ..) => key = Some(text.to_string()),
            Event::MappingEnd | Event::SequenceEnd => drop(levels.pop()),
            _ => {}
        }
        let begins = matches!(event, Event::MappingStart(..) | Event::SequenceStart(..));
        if begins || key.is_some() {
            // In a mapping keys and values take turns.
            if let Some(Some((met, is_key))) = levels.last_mut() {
                if let (true, Some(key)) = (*is_key, key)
                    && !met.insert(key.clone())
                {
                    return Some((span.start, format!("the key {key:?} stands twice; remove one")));
                }
                *is_key = !*is_key;
            }
        }
        match event {
            Event::MappingStart(..) => levels.push(Some((BTreeSet::new(), true))),
            Event::SequenceStart(..) => levels.push(None),
            _ => {}
        }
    }
    None
}

impl<'a> Node<'a> {
    /// Line and column, from 1.
    pub(crate) fn place(self) -> (usize, usize) {
        (self.0.span.start.line().max(1), self.0.span.start.col() + 1)
    }

    fn is_quoted(self) -> bool {
        let len = self.0.span.end.index().saturating_sub(self.0.span.start.index());
        self.text().is_some_and(|text| len > text.chars().count())
    }

    /// A scalar as text; numbers and truths as they would be written.
    pub(crate) fn text(self) -> Option<String> {
        match &self.0.data {
            YamlData::Value(Scalar::String(text)) => Some(text.to_string()),
            YamlData::Value(Scalar::Integer(number)) => Some(number.to_string()),
            YamlData::Value(Scalar::FloatingPoint(number)) => Some(number.into_inner().to_string()),
            YamlData::Value(Scalar::Boolean(truth)) => Some(truth.to_string()),
            _ => None,
        }
    }

    pub(crate) fn items(self) -> Option<Vec<Node<'a>>> {
        match &self.0.data {
            YamlData::Sequence(items) => Some(items.iter().map(Node).collect()),
            YamlData::Value(Scalar::Null) => Some(Vec::new()),
            _ => None,
        }
    }

    pub(crate) fn pairs(self) -> Option<Vec<(Node<'a>, Node<'a>)>> {
        match &self.0.data {
            YamlData::Mapping(pairs) => {
                Some(pairs.iter().map(|(k, v)| (Node(k), Node(v))).collect())
            }
            YamlData::Value(Scalar::Null) => Some(Vec::new()),
            _ => None,
        }
    }

    /// The values of a mapping by the names that are known; others are faults.
    pub(crate) fn fields<const N: usize>(
        self,
        what: &str,
        known: [&str; N],
        faults: &mut Faults,
    ) -> [Option<Node<'a>>; N] {
        let mut found = [None; N];
        let Some(pairs) = self.pairs() else {
            faults.add(self, format!("{what} must be a mapping with some of {}", known.join(", ")));
            return found;
        };
        for (key, value) in pairs {
            let name = key.text().unwrap_or_default();
            match known.iter().zip(&mut found).find(|(have, _)| **have == name) {
                Some((_, place)) => *place = Some(value),
                None => faults.add(
                    key,
                    format!("{what} has no key {name:?}; known are {}", known.join(", ")),
                ),
            }
        }
        found
    }

    pub(crate) fn want_text(self, what: &str, faults: &mut Faults) -> String {
        self.text().unwrap_or_else(|| {
            faults.add(self, format!("{what} must be a text"));
            String::new()
        })
    }

    pub(crate) fn want_duration(self, what: &str, faults: &mut Faults) -> Duration {
        let text = self.text().unwrap_or_default();
        if text == "0" {
            return Duration::ZERO;
        }
        model::time::parse_duration(&text).unwrap_or_else(|_| {
            faults.add(self, format!("{what} is {text:?}; give a duration such as 30s, 5m or 1h"));
            Duration::ZERO
        })
    }
}
