//! Drives the real programs from outside.
