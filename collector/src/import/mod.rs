//! Rows from files of text: Prometheus text and OpenMetrics with times, and CSV. A line that is not understood
//! costs only itself.

mod csv;
mod text;

pub use csv::read_csv;
pub use text::read_text;

use model::{SeriesKey, Timestamp};
use std::io;

/// One sample of a file.
pub type Row = (SeriesKey, Timestamp, f64);

/// What came of reading a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadReport {
    /// Rows handed over.
    pub rows: u64,
    /// Lines that were not understood.
    pub malformed: u64,
    /// The first of them, each with its number and what is wrong.
    pub first: Vec<String>,
}

/// Lines that are told one by one.
const SHOWN: usize = 10;

impl ReadReport {
    fn fault(&mut self, line: u64, cause: impl std::fmt::Display) {
        self.malformed += 1;
        if self.first.len() < SHOWN {
            self.first.push(format!("line {line}: {cause}"));
        }
    }
}

/// Why reading a file ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The file itself.
    #[error("could not be read: {0}")]
    Io(#[from] io::Error),
    /// The file is not of the form that is expected.
    #[error("{0}")]
    Form(String),
    /// Who takes the rows takes no more.
    #[error(transparent)]
    Taken(E),
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::exposition::Dialect;

    fn rows<R>(read: R) -> (Vec<String>, Result<ReadReport, ReadError<String>>)
    where
        R: FnOnce(
            &mut dyn FnMut(Row) -> Result<(), String>,
        ) -> Result<ReadReport, ReadError<String>>,
    {
        let mut all = Vec::new();
        let report = read(&mut |(key, time, value)| {
            all.push(format!("{key} {value} {}", time.millis()));
            Ok(())
        });
        (all, report)
    }

    #[test]
    fn text_is_read_line_by_line_and_a_line_without_a_time_is_told() {
        let text = "# TYPE a counter\na{x=\"1\"} 1 1000\r\na 2\nb{ 3 1\na{x=\"1\"} 2 2000";
        let (all, report) = rows(|take| read_text(text.as_bytes(), Dialect::Prometheus, take));
        assert_eq!(all, ["a{x=\"1\"} 1 1000", "a{x=\"1\"} 2 2000"]);
        let report = report.unwrap();
        assert_eq!((report.rows, report.malformed), (2, 2));
        assert_eq!(report.first[0], "line 3: \"a\" has no time");
        assert!(report.first[1].starts_with("line 4: "), "{report:?}");
        let (all, report) =
            rows(|take| read_text(&b"a 1 1.5\n# EOF\na 2 3\n"[..], Dialect::OpenMetrics, take));
        assert_eq!((all, report.unwrap().malformed), (vec!["a 1 1500".to_owned()], 0));
        let (_, report) = rows(|take| read_text(&b"a 1 1.5\n"[..], Dialect::OpenMetrics, take));
        assert_eq!(report.unwrap().first, ["line 2: the file ends without # EOF, it may be cut"]);
    }

    #[test]
    fn csv_names_its_columns_and_its_faults() {
        let text = "time,metric,host,value\n2026-11-24T00:00:00Z,m,\"a,b\",1.5\n1000,m,,NaN\nx,m,a,1\n1,m,a,x\n1,,a,1\n1,m\n";
        let (all, report) = rows(|take| read_csv(text.as_bytes(), None, take));
        assert_eq!(all, ["m{host=\"a,b\"} 1.5 1795478400000", "m NaN 1000"]);
        let report = report.unwrap();
        assert_eq!((report.rows, report.malformed), (2, 4));
        assert_eq!(
            report.first[0],
            "line 4: \"x\" is no time: RFC 3339, or milliseconds since 1970"
        );
        assert_eq!(report.first[1], "line 5: \"x\" is no number");
        assert_eq!(report.first[2], "line 6: no metric");
        let (all, _) = rows(|take| read_csv(&b"time,value,x\n1,2,y\n"[..], Some("m"), take));
        assert_eq!(all, ["m{x=\"y\"} 2 1"]);
        for (text, cause) in [
            ("metric,value\n", "no column named time"),
            ("time,metric\n", "no column named value"),
            ("time,value\n", "no column named metric; name it with --metric"),
        ] {
            let (_, report) = rows(|take| read_csv(text.as_bytes(), None, take));
            assert!(report.unwrap_err().to_string().contains(cause));
        }
        let (_, report) = rows(|take| {
            read_csv(&b"time,metric,value\n1,m,1\n2,m,2\n"[..], None, &mut |row| {
                take(row)?;
                Err("full".to_owned())
            })
        });
        assert!(matches!(report, Err(ReadError::Taken(cause)) if cause == "full"));
    }
}
