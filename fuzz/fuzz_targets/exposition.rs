//! The exposition parser on any bytes: it never panics, and what it understood, our encoder writes so that
//! it is understood the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::exposition::parse::{Line, Parser};
use model::exposition::{Dialect, encode};

fuzz_target!(|page: &[u8]| {
    for dialect in [Dialect::Prometheus, Dialect::OpenMetrics] {
        let mut parser = Parser::new(page, dialect);
        let mut quick = Parser::new(page, dialect);
        while let Some(line) = parser.next_line() {
            let len = if let Ok(Line::Sample(sample)) = &line { sample.series.len() } else { 0 };
            // The quick way, where it is one, reads the same.
            match quick.next_known(len, |_| len > 0) {
                Some(sample) => {
                    let Ok(Line::Sample(slow)) = &line else { panic!("{sample:?} is no sample") };
                    assert_eq!(format!("{sample:?}"), format!("{slow:?}"));
                }
                None => assert_eq!(format!("{:?}", quick.next_line().unwrap()), format!("{line:?}")),
            }
            let Ok(Line::Sample(sample)) = line else { continue };
            let key = parser.key();
            let mut text = String::new();
            encode::sample(&mut text, dialect, &key.metric, key.labels.iter(), sample.value, sample.time);
            let mut again = Parser::new(text.as_bytes(), dialect);
            let Some(Ok(Line::Sample(read))) = again.next_line() else { panic!("not read back: {text:?}") };
            assert_eq!(again.key(), key);
            assert!(read.value.to_bits() == sample.value.to_bits() || read.value.is_nan() && sample.value.is_nan());
            assert_eq!(read.time, sample.time);
        }
    }
});
