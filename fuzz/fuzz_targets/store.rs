//! Bytes from disk: no content of a log or manifest may panic, or give an edit that is not read back as written.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    store::fuzzing::frames(bytes);
    if let Some((kind, payload)) = bytes.split_first() {
        store::fuzzing::payload(kind % 8, payload);
    }
});
