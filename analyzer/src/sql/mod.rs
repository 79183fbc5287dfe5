//! SQL, from text to rows.

mod about;
mod catalog;
pub(crate) mod encode;
mod functions;
mod pushdown;
mod scan;
pub(crate) mod session;
mod table;

#[cfg(test)]
mod tests;
