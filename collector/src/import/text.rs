//! Prometheus text and OpenMetrics, line by line, so that a file may be of any size.

use super::{ReadError, ReadReport, Row};
use model::exposition::Dialect;
use model::exposition::parse::{Line, Parser, Reason};
use std::io::{BufRead, Read};

/// Longest line; the rest of a longer one is passed over.
const LONGEST: u64 = 1 << 20;

/// Hands every sample with a time to `take`.
///
/// # Errors
/// The file could not be read, or `take` failed.
pub fn read_text<E>(
    mut input: impl BufRead,
    dialect: Dialect,
    take: &mut dyn FnMut(Row) -> Result<(), E>,
) -> Result<ReadReport, ReadError<E>> {
    let mut report = ReadReport::default();
    let mut line = Vec::new();
    let (mut number, mut ended) = (0, false);
    loop {
        line.clear();
        number += 1;
        if input.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if !line.ends_with(b"\n") && line.len() as u64 == LONGEST {
            report.fault(number, format!("over {LONGEST} bytes long"));
            input.skip_until(b'\n')?;
            continue;
        }
        if dialect == Dialect::OpenMetrics && line.trim_ascii_end() == b"# EOF" {
            ended = true;
            break;
        }
        let mut parser = Parser::new(&line, dialect);
        match parser.next_line() {
            Some(Ok(Line::Sample(sample))) => match sample.time {
                Some(time) => {
                    take((parser.key(), time, sample.value)).map_err(ReadError::Taken)?;
                    report.rows += 1;
                }
                None => report.fault(number, format!("{:?} has no time", sample.series)),
            },
            // That a single line has no end mark means nothing.
            Some(Err(fault)) if fault.reason != Reason::MissingEof => {
                report.fault(number, format!("{}: {:?}", fault.reason, fault.excerpt));
            }
            _ => {}
        }
    }
    if dialect == Dialect::OpenMetrics && !ended {
        report.fault(number, "the file ends without # EOF, it may be cut");
    }
    Ok(report)
}
