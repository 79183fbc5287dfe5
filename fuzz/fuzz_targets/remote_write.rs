//! Bytes from the network: no body of a push may panic, or give samples that belong to no series.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| collector::fuzzing::remote_write(bytes));
