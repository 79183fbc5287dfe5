//! Programs under test, pages to scrape, samples to push, and waiting for facts.

pub(crate) mod page;
pub(crate) mod program;
pub(crate) mod push;
pub(crate) mod wait;
