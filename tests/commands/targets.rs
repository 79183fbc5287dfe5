//! Targets as they are in the world: broken pages, large pages, hanging servers.

use crate::harness::page::{PageServer, get, ok};
use crate::harness::program::{Monitor, NO_HOST, job};
use crate::harness::wait::wait_for;
use tempfile::TempDir;

const BROKEN: &str = include_str!("../../crates/model/tests/data/real-malformed-buckets.prom");

#[test]
fn the_failed_gateways_page_gives_its_413_series_and_names_the_27_lines() {
    let dir = TempDir::new().unwrap();
    let server = PageServer::start(|_| ok(BROKEN));
    let config = format!("{NO_HOST}{}", job("gateway", server.address));
    let monitor = Monitor::start(dir.path(), &config);
    let rows = monitor.wait_rows("SELECT value FROM scrape_samples_scraped LIMIT 1");
    assert_eq!(rows, ["413.0"]);
    assert_eq!(monitor.query("SELECT value FROM scrape_malformed_lines LIMIT 1"), ["27.0"]);
    let series = monitor.query("SELECT count(*) FROM series WHERE metric LIKE 'gateway%'");
    assert_eq!(series, ["413"]);
    let targets: serde_json::Value =
        serde_json::from_str(&get(&monitor.address, "/api/v1/targets").unwrap().1).unwrap();
    let bad = &targets["targets"][0]["malformed"][0];
    assert!(
        bad["line"].as_u64() > Some(1) && bad["text"].as_str().unwrap().contains("le=\"25\""),
        "{bad}"
    );
    let page = get(&monitor.address, "/metrics").unwrap().1;
    assert!(page.contains("forerunner_malformed_lines_total{reason=\"value\"} "), "{page}");
}

#[test]
fn pages_over_a_limit_are_refused_whole_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let server = PageServer::start(|_| ok(&"a 1\n".repeat(500)));
    let limits = |name: &str, limit: &str| format!("{}{limit}\n", job(name, server.address));
    let config = format!(
        "{NO_HOST}{}{}",
        limits("size", "max_body_size = 1000"),
        limits("samples", "max_samples = 100")
    );
    let monitor = Monitor::start(dir.path(), &config);
    monitor.wait_rows(
        "SELECT 1 FROM scrape_failures_total WHERE job = 'size' AND reason = 'too_large'",
    );
    monitor.wait_rows(
        "SELECT 1 FROM scrape_failures_total WHERE job = 'samples' AND reason = 'too_many_samples'",
    );
    assert!(monitor.try_query("SELECT 1 FROM a").is_err(), "nothing of them was stored");
    wait_for("the reason on the board", || {
        let board = get(&monitor.address, "/api/v1/targets")?.1;
        board.contains("larger than the limit of 1000 bytes").then_some(())
    });
}

#[test]
fn the_page_for_people_and_the_health_are_served() {
    let dir = TempDir::new().unwrap();
    let monitor = Monitor::start(dir.path(), NO_HOST);
    let (status, page) = get(&monitor.address, "/").unwrap();
    assert!(status == 200 && page.contains("<title>Forerunner monitor</title>"));
    assert_eq!(get(&monitor.address, "/live").unwrap(), (200, "live\n".to_owned()));
    assert_eq!(get(&monitor.address, "/nothing").unwrap().0, 404);
    assert!(get(&monitor.address, "/health").unwrap().1.contains("\"status\":\"healthy\""));
}

/// Room that comes back is used, and what is left out is counted each time.
#[test]
fn a_series_that_was_refused_is_asked_for_again_at_each_scrape() {
    let dir = TempDir::new().unwrap();
    let server = PageServer::start(|_| ok("a{x=\"1\"} 1\na{x=\"2\"} 1\n"));
    let config = format!("max_series_per_metric = 1\n{NO_HOST}{}", job("j", server.address));
    let monitor = Monitor::start(dir.path(), &config);
    wait_for("three scrapes that leave one out", || {
        let sql = "SELECT count(*) FROM scrape_refused_series WHERE value = 1";
        let rows = monitor.try_query(sql).ok()?;
        (rows.first()?.parse::<u32>().ok()? >= 3).then_some(())
    });
}
