//! SQL, from text to rows.

mod about;
mod catalog;
mod direct;
pub(crate) mod encode;
mod functions;
mod pushdown;
mod scan;
pub(crate) mod session;
pub(crate) mod table;

#[cfg(test)]
mod tests;
