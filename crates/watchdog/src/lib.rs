//! Probes, restarts and records evidence.
