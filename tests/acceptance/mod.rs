//! One test for each criterion that is met so far, by its id, on the real programs.

mod r1;
mod r2;
mod r3;
pub(crate) mod r4;
mod r5;
mod r6;
mod r7;
mod r8;
mod r8_gateway;
mod r8_remediation;
