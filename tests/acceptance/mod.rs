//! One test for each criterion that is met so far, by its id, on the real programs.

mod r3;
mod r8;
mod r8_remediation;
