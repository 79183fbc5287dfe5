//! The environment file: read without loss, changed value by value, published whole or not at all.
//!
//! - `document`: the text and what it says; an edit touches the value's bytes only
//! - `journal`: every version that was, and what became of each change
//! - `commit`: lock → read → compare → edit → note → replace → judge, and back if it must be
//! - `flags`: what the gateway reads from it

pub mod commit;
pub mod document;
mod flags;
mod journal;

pub use commit::{Change, EnvError, EnvFile, Outcome, Version};
pub use document::{Document, Fault};
pub(crate) use flags::Flags;

/// Values that the gateway cannot use, each with the remedy.
pub fn faults_of_values(document: &Document) -> Vec<String> {
    let placed = |(key, words): (String, String)| match document.line_of(&key) {
        Some(line) => format!("line {line}: {words}"),
        None => words,
    };
    Flags::faults(document).into_iter().map(placed).collect()
}
