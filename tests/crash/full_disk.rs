//! A full disk: what was confirmed stays, queries go on, and with room again all goes on.

use crate::harness::page::get;
use crate::harness::program::{Monitor, NO_HOST};
use crate::harness::push::{Row, now, push};
use crate::harness::wait::wait_for;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A small disk in memory, seen by the programs that are started on it alone.
struct SmallDisk {
    holder: Child,
    /// Where it is mounted, as its programs see it.
    mounted: PathBuf,
}

impl SmallDisk {
    fn mount(dir: &TempDir, size: &str) -> Self {
        let mounted = dir.path().join("disk");
        std::fs::create_dir(&mounted).unwrap();
        let script = "mount -t tmpfs -o size=$1 tmpfs \"$2\" && touch \"$2/ready\" && exec cat";
        // Whoever is not root is it in a user namespace of its own.
        let user: &[&str] =
            if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
        let holder = Command::new("unshare")
            .args(user)
            .args(["--mount", "sh", "-c", script, "sh", size])
            .arg(&mounted)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("this test needs `unshare` of util-linux");
        let mut disk = Self { holder, mounted };
        wait_for("the small disk; it needs leave to mount, as root or in a user namespace", || {
            assert!(disk.holder.try_wait().unwrap().is_none(), "no leave to mount a tmpfs");
            disk.seen("ready").exists().then_some(())
        });
        disk
    }

    /// A file on it, by a path that works outside.
    fn seen(&self, name: &str) -> PathBuf {
        let inside = self.mounted.strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside).join(name)
    }

    /// How to start programs on it.
    fn enter(&self) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), "--mount".to_owned()];
        if !rustix::process::geteuid().is_root() {
            words.extend(["--user".to_owned(), "--preserve-credentials".to_owned()]);
        }
        words.extend(["--target".to_owned(), self.holder.id().to_string()]);
        words
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Rows that do not compress, five minutes after those of the batch before: room is made by whole days.
fn rows(start: i64, batch: i64) -> Vec<Row> {
    let mut random = batch as u64 + 1;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as f64 / 3.0
    };
    (0..500).map(|series| Row { series, time: start + batch * 300_000, value: next() }).collect()
}

fn start(dir: &TempDir, disk: &SmallDisk, more: &str) -> Monitor {
    let config = format!("flush_interval = \"1s\"\nwal_file_size = \"1MiB\"\n{more}{NO_HOST}");
    Monitor::start_by(&disk.enter(), dir.path(), &disk.mounted.join("data"), &config)
}

fn count(monitor: &Monitor) -> u64 {
    monitor.query("SELECT count(*) FROM pushed")[0].parse().unwrap()
}

#[test]
fn a_full_disk_stops_ingest_and_nothing_else_and_room_lets_it_go_on() {
    let dir = TempDir::new().unwrap();
    let disk = SmallDisk::mount(&dir, "16m");
    // Once it is gone, there is room for what the log holds as segments, too.
    let balloon = disk.seen("balloon");
    crate::harness::program::write(&balloon, vec![1; 10 << 20]);
    let monitor = start(&dir, &disk, "");
    let (begin, mut batch, mut confirmed) = (now() - 13 * 86_400_000, 0, 0);
    let mut refused = 0;
    while refused < 20 {
        assert!(batch < 20_000, "the disk never filled");
        match push(&monitor.address, "pushed", &rows(begin, batch)).unwrap() {
            (204, _) => (confirmed, refused) = (confirmed + 1, 0),
            (503, _) => refused += 1,
            other => panic!("{other:?}"),
        }
        batch += 1;
    }
    assert!(confirmed > 50, "only {confirmed} batches fitted");
    assert!(count(&monitor) >= confirmed * 500, "queries go on");
    let told = get(&monitor.address, "/metrics").unwrap().1;
    let failed = |name: &str| {
        let line = told.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.rsplit(' ').next().unwrap_or("0").parse::<f64>().unwrap_or(0.0)
    };
    let failures = failed("forerunner_store_append_failures_total")
        + failed("forerunner_store_flush_failures_total")
        + failed("forerunner_store_wal_sync_failures_total");
    assert!(failures > 0.0, "{told}");
    let logs = std::fs::read_dir(disk.seen("data/wal")).unwrap().count();
    assert!(logs < 20, "{logs} files of the log, though there were 20 attempts that found no room");

    // A crash on the full disk loses nothing, it starts on it again and again, and with room samples are taken.
    monitor.program.kill();
    for _ in 0..3 {
        let monitor = start(&dir, &disk, "");
        assert!(count(&monitor) >= confirmed * 500, "confirmed samples are lost");
        monitor.program.kill();
    }
    std::fs::remove_file(&balloon).unwrap();
    let monitor = start(&dir, &disk, "");
    assert!(count(&monitor) >= confirmed * 500, "confirmed samples are lost");
    let answer = wait_for("a confirmed push", || {
        batch += 1;
        push(&monitor.address, "pushed", &rows(begin, batch)).filter(|answer| answer.0 == 204)
    });
    assert_eq!(answer.0, 204);
    monitor.program.kill();

    // With a policy the oldest make room, even where not a byte is left, and pushes go on for as long as they come.
    let mut filler = std::fs::File::create(disk.seen("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 4096]).is_ok() {}
    let monitor = start(&dir, &disk, "min_free = \"4MiB\"\n");
    let expired = || {
        let told = get(&monitor.address, "/metrics")?.1;
        let line =
            told.lines().find(|it| it.starts_with("forerunner_store_expired_segments_total"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok().filter(|count| *count > 0.0)
    };
    let mut many = || -> Vec<Row> {
        batch += 20;
        (batch..batch + 20).flat_map(|batch| rows(begin, batch)).collect()
    };
    wait_for("room made by deleting the oldest", || {
        let _ = push(&monitor.address, "pushed", &many());
        expired()
    });
    wait_for("a push with room", || {
        push(&monitor.address, "pushed", &many()).filter(|answer| answer.0 == 204)
    });
}
