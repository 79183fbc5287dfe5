//! SQL over snapshots of the store.
