//! A short way for small and common questions: one metric or a union of some, filtered by labels, time and
//! value, as rows or grouped by labels and buckets of time. Planning by the query engine takes milliseconds,
//! these take less. Rows are grouped by series first and by the texts of labels after.
//!
//! - `shape`: what a question is; `recognise`: from the parsed statement to one, or to nothing where anything in
//!   it is not known here
//! - `figures`: what is kept of each group; `run`: from a snapshot to the answer
//! - `rolled`: days whose raw samples are gone, from rollups
//!
//! Whatever this does not take goes to the query engine, and of raw samples the two give the same answers.

mod figures;
mod recognise;
mod rolled;
mod run;
mod shape;

pub(crate) use recognise::recognise;
pub(crate) use rolled::raw_key;
pub(crate) use run::answer;

#[cfg(test)]
mod tests;
