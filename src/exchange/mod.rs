//! Samples from files and to files.

pub(crate) mod export;
pub(crate) mod import;
