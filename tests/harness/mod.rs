//! Programs under test, pages to scrape, and waiting for facts.

pub(crate) mod page;
pub(crate) mod program;
pub(crate) mod wait;
