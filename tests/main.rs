#![allow(unused)]
//! Stub.
