use super::*;
use std::fs;

fn file(text: &str) -> (tempfile::TempDir, EnvFile) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    durable::replace(&path, text.as_bytes()).unwrap();
    let file = EnvFile::new(&path, Clock::system());
    (dir, file)
}

fn set(key: &str, value: &str) -> Change {
    Change::Set(vec![(key.to_owned(), value.to_owned())])
}

fn published(outcome: Outcome) -> (u64, String) {
    match outcome {
        Outcome::Published { version, hash } => (version, hash),
        Outcome::Unchanged => panic!("unchanged"),
    }
}

fn text(file: &EnvFile) -> String {
    fs::read_to_string(file.path()).unwrap()
}

fn states(file: &EnvFile) -> Vec<String> {
    file.history()
        .unwrap()
        .into_iter()
        .map(|it| format!("{} {} {}", it.number, it.change, it.state))
        .collect()
}

#[test]
fn a_change_is_published_noted_and_can_be_gone_back_from() {
    let (_dir, file) = file("A=1\nB=2\n");
    let (first, _) = published(file.commit(&set("A", "2"), "me", None, false).unwrap());
    file.commit(&Change::Unset(vec!["B".to_owned()]), "me", None, false).unwrap();
    assert_eq!(file.commit(&set("A", "2"), "me", None, false).unwrap(), Outcome::Unchanged);
    assert_eq!(text(&file), "A=2\n");
    file.commit(&Change::Rollback(first), "me", None, false).unwrap();
    assert_eq!(text(&file), "A=1\nB=2\n");
    assert_eq!(
        states(&file),
        ["3 rollback of version 1 published", "2 unset B published", "1 set A published"]
    );
    assert!(matches!(
        file.commit(&Change::Rollback(9), "me", None, false),
        Err(EnvError::NoVersion(9))
    ));
    let secret = file.commit(&set("A", "geheim"), "me", None, false).unwrap();
    assert!(matches!(secret, Outcome::Published { .. }) && !states(&file)[0].contains("geheim"));
}

#[test]
fn r2_3_unfit_values_are_refused_with_the_remedy_and_nothing_changes() {
    let (_dir, file) = file("FF_CHAOS=off\n");
    for (key, value, words) in [
        ("FF_CHAOS", "maybe", "neither on nor off"),
        ("FF_CAHOS", "on", "no switch"),
        ("UPSTREAM_MODE", "test", "neither live nor mock"),
    ] {
        let refused = file.commit(&set(key, value), "me", None, false).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!((text(&file).as_str(), states(&file).len()), ("FF_CHAOS=off\n", 0));
}

#[test]
fn r2_3_a_judged_change_is_kept_or_taken_back_with_the_reason() {
    let (_dir, file) = file("A=1\n");
    let (first, _) = published(file.commit(&set("A", "2"), "me", None, true).unwrap());
    assert_eq!(states(&file), ["1 set A being judged"]);
    assert!(file.keep(first).unwrap());
    let (second, _) = published(file.commit(&set("A", "3"), "me", None, true).unwrap());
    file.take_back(second, "not ready within 10 s").unwrap();
    assert_eq!(text(&file), "A=2\n");
    assert!(!file.keep(second).unwrap());
    assert_eq!(states(&file), ["2 set A taken back: not ready within 10 s", "1 set A kept"]);
}

#[test]
fn r2_3_what_nobody_called_good_is_taken_back_at_the_next_start_and_what_came_after_stays() {
    let (_dir, file) = file("A=1\nB=1\nC=1\n");
    file.commit(&set("A", "2"), "admin", None, true).unwrap();
    file.commit(&set("B", "2"), "me", None, false).unwrap();
    assert_eq!(file.recover().unwrap(), [1]);
    assert_eq!(text(&file), "A=1\nB=2\nC=1\n");
    assert_eq!(file.recover().unwrap(), [0; 0]);
}

#[test]
fn r2_3_what_is_taken_back_is_gone_whatever_was_changed_or_taken_back_meanwhile() {
    let (_dir, file) = file("A=1\nB=1\n");
    let (first, _) = published(file.commit(&set("A", "2"), "admin", None, true).unwrap());
    let (second, _) = published(file.commit(&set("B", "2"), "admin", None, true).unwrap());
    file.take_back(first, "x").unwrap();
    file.take_back(second, "x").unwrap();
    assert_eq!(text(&file), "A=1\nB=1\n");
    // By hand, past every lock.
    let (third, _) = published(file.commit(&set("A", "3"), "admin", None, true).unwrap());
    durable::replace(file.path(), b"A=3\nB=1\nC=1\n").unwrap();
    file.take_back(third, "x").unwrap();
    assert_eq!(text(&file), "A=1\nB=1\nC=1\n");
}

#[test]
fn a_change_against_what_was_read_is_refused_when_another_came_between() {
    let (_dir, file) = file("A=1\n");
    let (_, seen) = file.read().unwrap();
    file.commit(&set("B", "1"), "other", None, false).unwrap();
    let refused = file.commit(&set("A", "2"), "me", Some(&seen), false).unwrap_err();
    assert!(matches!(refused, EnvError::Moved { .. }), "{refused}");
    let (_, now) = file.read().unwrap();
    file.commit(&set("A", "2"), "me", Some(&now), false).unwrap();
    assert_eq!(text(&file), "A=2\nB=1\n");
}

#[test]
fn r2_4_many_threads_lose_no_update() {
    let (_dir, file) = file("# shared\n");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let file = &file;
            scope.spawn(move || {
                for n in 0..10 {
                    file.commit(&set(&format!("T{thread}_{n}"), "x"), "me", None, false).unwrap();
                }
            });
        }
    });
    let (document, _) = file.read().unwrap();
    assert_eq!((document.values().len(), document.faults()), (80, [].as_slice()));
    assert!(file.history().unwrap().len() >= 50);
}

#[test]
fn a_line_that_a_kill_tore_is_left_out_and_set_right() {
    let (dir, file) = file("A=1\n");
    file.commit(&set("A", "2"), "me", None, false).unwrap();
    let journal = dir.path().join("..env.journal");
    let whole = fs::read(&journal).unwrap();
    durable::replace(&journal, &[whole.as_slice(), b"{\"intent\":{\"ver"].concat()).unwrap();
    file.commit(&set("A", "3"), "me", None, false).unwrap();
    assert_eq!(states(&file), ["2 set A published", "1 set A published"]);
}

#[test]
fn a_file_that_is_no_utf_8_is_refused_with_its_line() {
    let (_dir, file) = file("A=1\n");
    durable::replace(file.path(), b"A=1\nB=\xff\n").unwrap();
    let refused = file.commit(&set("A", "2"), "me", None, false).unwrap_err().to_string();
    assert!(refused.contains("line 2 is not UTF-8"), "{refused}");
}

mod hard;
