//! Programs under test, pages to scrape, receivers of messages, samples to push, and waiting for facts.

pub(crate) mod engine;
pub(crate) mod gateway;
pub(crate) mod mailbox;
pub(crate) mod page;
pub(crate) mod program;
pub(crate) mod push;
pub(crate) mod service;
pub(crate) mod upstream;
pub(crate) mod wait;
