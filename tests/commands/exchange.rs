//! Samples from files and to files.

use crate::harness::program::{Monitor, NO_HOST, data, query, run, write};
use crate::harness::push::now;
use std::path::Path;
use tempfile::TempDir;

const ALL: &str =
    "SELECT metric, labels['x'], CAST(time AS BIGINT), value FROM samples ORDER BY 1, 2, 3";

/// Runs the program; its exit code and what it said.
fn said(args: &[&str]) -> (Option<i32>, String) {
    let output = run(args, "");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn history_goes_into_a_running_monitor_out_to_parquet_and_into_another_store() {
    let dir = TempDir::new().unwrap();
    let monitor = Monitor::start(dir.path(), NO_HOST);
    let url = format!("http://{}", monitor.address);
    // Newest first: what is older than what is there is history, not late.
    let start = now() - 3 * 86_400_000;
    let rows = |at: i64| {
        format!("old{{x=\"a\"}} {at} {}\nold{{x=\"b\"}} 0.5 {}\n", start + at, start + at)
    };
    let newer: String = (5000..5100).map(rows).collect();
    let older: String = (0..100).map(rows).collect();
    let (prom, om) = (dir.path().join("newer.prom"), dir.path().join("older.om"));
    write(&prom, &newer);
    let seconds = |line: &str| {
        let (series, time) = line.rsplit_once(' ').unwrap();
        format!("{series} {:.3}\n", time.parse::<f64>().unwrap() / 1000.0)
    };
    let older: String = older.lines().map(seconds).collect();
    write(&om, format!("# TYPE old gauge\n{older}# EOF\n"));
    for (file, count) in [(&prom, 200), (&om, 200)] {
        let (code, words) = said(&["import", "--url", &url, text(file)]);
        assert!(code == Some(0) && words.contains(&format!("{count} samples")), "{code:?} {words}");
    }
    let csv = dir.path().join("more.csv");
    write(
        &csv,
        "time,x,value\n2026-13-40,a,1\n1,a,1\n".replace("1,a,1", &format!("{start},c,7.25")),
    );
    let (code, words) = said(&["import", "--url", &url, "--metric", "more", text(&csv)]);
    assert!(
        code == Some(1) && words.contains("line 2: \"2026-13-40\" is no time"),
        "{code:?} {words}"
    );
    let all = monitor.query(ALL);
    assert_eq!(all.len(), 401);
    assert_eq!(all[0], format!("more,c,{start},7.25"));

    let out = dir.path().join("all.parquet");
    let (code, words) = said(&["export", "--url", &url, "--out", text(&out)]);
    assert!(code == Some(0) && words.contains("401 samples"), "{code:?} {words}");
    let other = dir.path().join("other");
    let (code, words) = said(&["import", "--data-dir", text(&other), text(&out)]);
    assert!(code == Some(0), "{code:?} {words}");
    let copied = query(&["--data-dir", text(&other), "--format", "csv", ALL]).unwrap();
    assert_eq!(copied, all);

    // A part of it, and the rows of a query.
    let part = dir.path().join("part.parquet");
    let (from, to) = ((start + 50).to_string(), (start + 60).to_string());
    let args = ["export", "--url", &url, "--metric", "old", "--from", &from, "--to", &to, "--out"];
    let (code, words) = said(&[args.as_slice(), &[text(&part)]].concat());
    assert!(code == Some(0) && words.contains("20 samples"), "{code:?} {words}");
    let rows = dir.path().join("rows.parquet");
    let sql = "SELECT time, 'again' AS metric, x, value FROM old WHERE x = 'b' AND value > 0.1";
    let (code, words) = said(&["export", "--url", &url, "--out", text(&rows), sql]);
    assert!(code == Some(0), "{code:?} {words}");
    let (code, words) = said(&["import", "--url", &url, text(&rows)]);
    assert!(code == Some(0) && words.contains("200 samples"), "{code:?} {words}");
    assert_eq!(monitor.query("SELECT count(*) FROM again WHERE x = 'b'"), ["200"]);
}

#[test]
fn what_cannot_be_imported_or_exported_is_told() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("x.prom");
    write(&file, "a 1 1000\nb 2\na 1 4102444800000\n");
    let store = data(dir.path());
    let (code, words) = said(&["import", "--data-dir", text(&store), text(&file)]);
    assert_eq!(code, Some(1));
    assert!(words.contains("line 2: \"b\" has no time"), "{words}");
    assert!(words.contains("1 samples refused: their time is in the future"), "{words}");
    let named = dir.path().join("x.what");
    let (code, words) = said(&["import", "--data-dir", text(&store), text(&named)]);
    assert!(code == Some(2) && words.contains("give --format"), "{code:?} {words}");
    let (code, words) = said(&["import", "--url", "http://127.0.0.1:1", text(&file)]);
    assert!(code == Some(69) && words.contains("no answer from the monitor"), "{code:?} {words}");
    let args = ["export", "--data-dir", text(&store), "--out", text(&named)];
    let (code, words) = said(&args);
    assert!(code == Some(2) && words.contains(".parquet"), "{code:?} {words}");
    let out = dir.path().join("none.parquet");
    let args = ["export", "--data-dir", text(&store), "--metric", "no", "--out", text(&out)];
    let (code, words) = said(&args);
    assert!(code == Some(65) && words.contains("no metric is named no"), "{code:?} {words}");
    assert!(!out.exists());
}
