//! The data plane, its health and its control listener.
