//! What is read from the environment file, swapped whole: a request sees all of the old or all of the new.

use crate::env::{Document, EnvFile, Flags, faults_of_values};
use crate::health::board::{Board, Of, State};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Between two looks at the file.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// The values of now.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) flags: Flags,
    /// Names the content.
    pub(crate) hash: String,
    document: Document,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flags: Flags::default(),
            hash: "no environment file".to_owned(),
            document: Document::parse(""),
        }
    }
}

impl Settings {
    /// The value of a tool's credential.
    pub(crate) fn credential(&self, key: Option<&str>) -> Option<String> {
        key.and_then(|key| self.document.get(key)).map(str::to_owned)
    }
}

/// Reads the file and swaps the settings if it says something else. A file that cannot be read, or says nothing in some lines, changes
/// nothing that it does not say: the gateway runs on with what it knows, and tells.
pub(crate) fn reload(file: Option<&EnvFile>, settings: &ArcSwap<Settings>, board: &Board) {
    let Some(file) = file else {
        board.tell(Of::Configuration, State::Healthy, Duration::ZERO, "no environment file");
        return;
    };
    // Whoever writes it anew may take it away for a moment.
    if !settings.load().document.text().is_empty() && !file.path().exists() {
        let words = format!("{} is gone; what it said last holds on", file.path().display());
        board.tell(Of::Configuration, State::Degraded, Duration::ZERO, words);
        return;
    }
    let (document, hash) = match file.read() {
        Ok(read) => read,
        Err(error) => {
            board.tell(Of::Configuration, State::Degraded, Duration::ZERO, error.to_string());
            return;
        }
    };
    let lines = document.faults().iter().map(ToString::to_string);
    let faults: Vec<String> = lines.chain(faults_of_values(&document)).collect();
    let (state, reason) = match faults.is_empty() {
        true => (State::Healthy, format!("{} is at {hash}", file.path().display())),
        false => {
            let (name, faults) = (file.path().display(), faults.join("; "));
            (State::Degraded, format!("{name} is at {hash}, with faults: {faults}"))
        }
    };
    if settings.load().hash != hash {
        let flags = Flags::of(&document);
        info!(hash, ?flags, "settings read");
        if !faults.is_empty() {
            warn!(file = %file.path().display(), faults = faults.join("; "), "the environment file has faults; `forerunner env check` lists them");
        }
        settings.store(Arc::new(Settings { flags, hash, document }));
    }
    board.tell(Of::Configuration, state, Duration::ZERO, reason);
}
