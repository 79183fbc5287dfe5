//! What is hard to survive: kills, power loss, and many processes at once.

use super::*;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// Where the power goes, or a call fails, at each change to the disk in turn.
#[test]
fn r2_2_whatever_call_fails_or_is_the_last_the_file_is_the_whole_old_or_the_whole_new() {
    use platform::fault::disk::{Fault, follow, unfollow};
    let (old, new) = ("A=1\nB=\"two\nlines\"\n", "A=2\nB=\"two\nlines\"\n");
    for fault in
        [Fault::Fail(ErrorKind::StorageFull), Fault::Fail(ErrorKind::PermissionDenied), Fault::Dead]
    {
        let mut at = 0;
        loop {
            let (dir, file) = file(old);
            follow(dir.path(), HashMap::from([(at, fault)]));
            let outcome = file.commit(&set("A", "2"), "me", None, false);
            let disk = unfollow().unwrap();
            let expected = if outcome.is_ok() { new } else { old };
            // A failed sync of the folder comes after the rename: what is there may be the new.
            assert!(text(&file) == expected || outcome.is_err() && text(&file) == new, "{at}");
            for seed in 0..8 {
                let after = tempfile::tempdir().unwrap();
                let mut random = runtime::Jitter::seeded(seed);
                let mut choose = |n: usize| (random.next_u64() % n.max(1) as u64) as usize;
                disk.after_power_loss(after.path(), &mut choose).unwrap();
                let found = EnvFile::new(&after.path().join(".env"), Clock::system());
                assert!([old, new].contains(&text(&found).as_str()), "{at} {seed}");
                assert!(outcome.is_err() || text(&found) == new, "published and lost: {at} {seed}");
                found.commit(&set("A", "3"), "me", None, false).unwrap();
                assert!(text(&found).starts_with("A=3\n"));
            }
            if fault != Fault::Dead && outcome.is_err() {
                let names = durable::list(dir.path()).unwrap();
                let temporary = names.iter().filter(|it| it.to_string_lossy().ends_with(".new"));
                assert_eq!(temporary.count(), 0, "{at}: {names:?}");
                let again = file.commit(&set("A", "2"), "me", None, false);
                assert!(again.is_ok() && text(&file) == new, "{at}: {again:?}");
            }
            if disk.changes() <= at {
                assert!(at > 8, "only {at} changes: the run did not do what it should");
                break;
            }
            at += 1;
        }
    }
}

/// Tells a process that was started by a test here what to do: `FILE NAME EDITS`.
const WORK: &str = "FORERUNNER_TEST_ENV_WORK";

/// Keys that one process sets by turns.
const KEYS: u32 = 20;

/// Not a test of its own: what a process does that another test has started.
#[test]
fn worker() {
    let Ok(work) = std::env::var(WORK) else { return };
    let words: Vec<&str> = work.split(' ').collect();
    let file = EnvFile::new(Path::new(words[0]), Clock::system());
    let mut out = std::io::stdout();
    for n in 1..=words[2].parse::<u32>().unwrap() {
        let key = match words[1] {
            "COUNT" => "COUNT".to_owned(),
            name => format!("{name}_{}", n % KEYS),
        };
        file.commit(&set(&key, &n.to_string()), words[1], None, false).unwrap();
        writeln!(out, "\nedited {n}").unwrap();
        out.flush().unwrap();
    }
}

fn process(file: &EnvFile, name: &str, edits: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "env::commit::tests::hard::worker", "--nocapture"])
        .env(WORK, format!("{} {name} {edits}", file.path().display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn r2_4_thirty_two_processes_with_two_hundred_edits_each_lose_none() {
    let (_dir, file) = file("# shared\nKEEP='as it is' # note\n");
    let mut processes: Vec<Child> =
        (0..32).map(|n| process(&file, &format!("P{n}"), 200)).collect();
    for process in &mut processes {
        assert!(std::io::copy(process.stdout.as_mut().unwrap(), &mut std::io::sink()).is_ok());
        assert!(process.wait().unwrap().success());
    }
    let (document, _) = file.read().unwrap();
    for process in 0..32 {
        for n in 200 - KEYS + 1..=200 {
            let key = format!("P{process}_{}", n % KEYS);
            assert_eq!(document.get(&key), Some(n.to_string().as_str()), "{key}");
        }
    }
    assert!(document.text().starts_with("# shared\nKEEP='as it is' # note\n"));
    assert_eq!((document.faults().len(), document.repeated().len()), (0, 0));
    // Each edit was made on the content that the one before it left: none was lost on the way.
    assert_eq!(file.history().unwrap()[0].number, 32 * 200);
}

#[test]
fn r2_2_a_kill_at_any_instant_leaves_whole_content_and_what_was_told_to_be_done() {
    let (dir, file) = file("# kept\nCOUNT=0\n");
    let mut random = runtime::Jitter::seeded(5);
    for round in 0..60 {
        let mut child = process(&file, "COUNT", 1_000_000);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Some edits, and then at once or in the middle of a later one.
        let edits = 1 + random.next_u64() % 8;
        let mut told = 0;
        while told < edits {
            let line = lines.next().unwrap().unwrap();
            told = line.strip_prefix("edited ").map_or(told, |n| n.parse().unwrap());
        }
        for _ in 0..random.next_u64() % 40_000 {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let after: Vec<u64> = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("edited ")?.parse().ok())
            .collect();
        told = after.last().copied().unwrap_or(told);
        let (document, _) = file.read().unwrap();
        let count: u64 = document.get("COUNT").unwrap().parse().unwrap();
        assert!(count == told || count == told + 1, "round {round}: {count} of {told}");
        assert_eq!(document.text(), format!("# kept\nCOUNT={count}\n"));
    }
    // A lock of the dead is no obstacle, and nothing of theirs is left.
    file.commit(&set("COUNT", "0"), "me", None, false).unwrap();
    let left = durable::list(dir.path()).unwrap();
    assert_eq!(left.len(), 4, "{left:?}");
}
