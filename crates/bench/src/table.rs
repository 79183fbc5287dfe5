//! Numbers side by side: a row for each measure, a column for each system.

use crate::system::Kind;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What a benchmark found.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<(String, BTreeMap<&'static str, String>)>,
}

impl Table {
    /// Notes a number of `kind`; a measure's row stands where it was first noted.
    pub(crate) fn note(&mut self, kind: Kind, measure: &str, value: impl Into<String>) {
        let at = self.rows.iter().position(|(name, _)| name == measure);
        let at = at.unwrap_or_else(|| {
            self.rows.push((measure.to_owned(), BTreeMap::new()));
            self.rows.len() - 1
        });
        if let Some((_, values)) = self.rows.get_mut(at) {
            values.insert(kind.name(), value.into());
        }
    }

    /// The table as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| measure |");
        for kind in Kind::ALL {
            let _ = write!(text, " {} |", kind.name());
        }
        text.push_str("\n| --- | ---: | ---: | ---: |\n");
        for (measure, values) in &self.rows {
            let _ = write!(text, "| {measure} |");
            for kind in Kind::ALL {
                let _ = write!(text, " {} |", values.get(kind.name()).map_or("–", String::as_str));
            }
            text.push('\n');
        }
        text
    }
}
