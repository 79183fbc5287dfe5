//! SQL in, table out: each `.slt` file is a page of metrics and the queries on it.
//!
//! A file begins with the page, up to a line `====`. Then, again and again: a query, a line `----`, the
//! expected rows as CSV (or the error after `error: `), and an empty line.

use crate::harness::page::{PageServer, ok};
use crate::harness::program::{Monitor, NO_HOST, job};
use tempfile::TempDir;

fn check(text: &str) {
    let (page, cases) = text.split_once("====\n").unwrap();
    let page = page.to_owned();
    // Served once: the second scrape and those after it have nothing, so the rows stay the same.
    let server = PageServer::start(move |n| ok(if n == 1 { &page } else { "" }));
    let dir = TempDir::new().unwrap();
    let config = format!("flush_interval = \"300ms\"\n{NO_HOST}{}", job("j", server.address));
    let monitor = Monitor::start(dir.path(), &config);
    monitor.wait_rows("SELECT 1 FROM scrape_samples_scraped WHERE value > 0");
    let run_all = |where_from: &str| {
        for case in cases.split("\n\n").filter(|case| !case.trim().is_empty()) {
            let (sql, expected) = case
                .trim()
                .split_once("----\n")
                .unwrap_or((case.trim().trim_end_matches("----"), ""));
            let rows = match monitor.try_query(sql.trim()) {
                Ok(rows) => rows.join("\n"),
                Err(said) => said.trim().replace("forerunner: ", "error: "),
            };
            let same = match expected.strip_prefix("error: ") {
                Some(words) => rows.starts_with("error: ") && rows.contains(words.trim()),
                None => rows == expected.trim_end(),
            };
            assert!(same, "{where_from}: {sql}\nexpected:\n{expected}\nfound:\n{rows}");
        }
    };
    run_all("from memory");
    crate::harness::wait::wait_for("a segment", || {
        let page = crate::harness::page::get(&monitor.address, "/metrics")?.1;
        (!page.contains("forerunner_store_segments 0\n")).then_some(())
    });
    run_all("from a segment");
}

#[test]
fn labels_are_columns_and_filters_on_them_are_exact() {
    check(include_str!("labels.slt"));
}

#[test]
fn functions_of_time_give_the_numbers_computed_by_hand() {
    check(include_str!("functions.slt"));
}
