//! SQL, from text to rows.

mod about;
pub(crate) mod call;
mod catalog;
mod direct;
pub(crate) mod encode;
mod found;
mod functions;
pub(crate) mod given;
mod kept;
mod pushdown;
mod scan;
pub(crate) mod session;
pub(crate) mod table;
mod wanted;
mod workers;

pub(crate) use direct::raw_key;

#[cfg(test)]
mod tests;
