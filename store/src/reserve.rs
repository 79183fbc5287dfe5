//! Room on the disk that is kept for what makes room: on a full one, a start and a deletion must still be written down.

use platform::durable;
use std::fs;
use std::path::{Path, PathBuf};
use tracing::{debug, warn};

/// The least that is kept.
const LEAST: u64 = 1 << 20;

/// How much of what is free it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Share {
    /// At a start: what the start before left must be there for the next, however often there is one.
    All,
    /// Later: others need room too.
    Half,
}

/// A file that is there for its length alone.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub(crate) fn new(data: &Path) -> Self {
        Self { path: data.join("RESERVE") }
    }

    /// Gives its room to what is written next; whether there was any.
    pub(crate) fn give(&self) -> bool {
        let there = self.path.exists();
        match durable::remove_file(&self.path) {
            Ok(()) if there => warn!("the disk is full: using the room that is kept for this"),
            Ok(()) => {}
            Err(error) => warn!(%error, "the room that is kept for a full disk could not be used"),
        }
        there && !self.path.exists()
    }

    /// Keeps room for a manifest of `len` bytes and what goes with it, of what is free that share at most.
    pub(crate) fn keep(&self, len: u64, share: Share) {
        let held = fs::metadata(&self.path).map_or(0, |file| file.len());
        if held >= LEAST + len {
            return;
        }
        let free = self.path.parent().and_then(|data| platform::host::free_bytes(data).ok());
        let most = free.map_or(u64::MAX, |free| match share {
            Share::All => free + held,
            Share::Half => (free + held) / 2,
        });
        // Half as much again as is needed: a manifest that grows is not followed step by step.
        let wanted = (LEAST + len + len / 2).min(most);
        if wanted <= held {
            return;
        }
        match durable::reserve(&self.path, wanted) {
            Ok(()) => debug!(bytes = wanted, "room kept for a full disk"),
            Err(error) => debug!(%error, "no room is kept for a full disk"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_the_manifest_and_is_given_once() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(dir.path());
        let len = || fs::metadata(dir.path().join("RESERVE")).unwrap().len();
        assert!(!reserve.give());
        reserve.keep(0, Share::Half);
        assert_eq!(len(), LEAST);
        reserve.keep(1000, Share::Half);
        assert_eq!(len(), LEAST + 1500);
        reserve.keep(1400, Share::All);
        assert_eq!(len(), LEAST + 1500, "what is held is enough");
        assert!(reserve.give());
        assert!(!reserve.give());
    }
}
