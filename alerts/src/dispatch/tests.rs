use crate::book::Book;
use crate::config::AlertsConfig;
use crate::desk::{Desk, NewSilence};
use crate::incident;
use crate::journal::Record;
use crate::notify::{Entry, Reason};
use crate::observe::{Instant, Limits, Seen, observe};
use crate::orphan;
use crate::rule::{Rule, parse::rules};
use crate::{dispatcher, evaluate};
use model::Timestamp;
use runtime::Clock;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// A book with its dispatcher, moved by hand.
struct Bench {
    book: Book,
    config: AlertsConfig,
    dispatcher: super::Dispatcher,
    rules: Vec<Rule>,
    now: i64,
}

const RULES: &str = r#"
groups:
  - name: g
    rules:
      - alert: Down
        expr: up == 0
        labels: { severity: critical }
      - alert: Slow
        expr: latency > 1
        for: 2s
        labels: { severity: warning }
      - alert: Restarted
        expr: restarts > 0
        labels: { severity: info }
"#;

impl Bench {
    fn new(dir: &Path, config: &str) -> Self {
        let config: AlertsConfig = serde_json::from_str(config).unwrap();
        assert_eq!(config.faults(), [""; 0]);
        let book = Book::open(dir).unwrap();
        let rules = rules("r", RULES).0;
        Self { book, dispatcher: dispatcher(&config), config, rules, now: 1_000_000 }
    }

    /// Instances of a rule are seen, a second after the last look.
    fn sees(&mut self, rule: &str, instances: &[&str]) -> &mut Self {
        self.now += 1_000;
        let rule = self.rules.iter().find(|it| it.name == rule).unwrap();
        let seen = instances.iter().map(|it| Seen {
            labels: BTreeMap::from([
                ("job".to_owned(), "api".to_owned()),
                ("instance".to_owned(), (*it).to_owned()),
            ]),
            ..Seen::default()
        });
        let now = Timestamp(self.now);
        let at = Instant { evaluated: now, now };
        let limits = Limits { per_rule: 10_000, all: 10_000 };
        self.book.change(true, |kept| {
            observe(kept, rule, seen.collect(), &BTreeSet::new(), (limits, at));
            incident::settle(kept, now);
        });
        self
    }

    /// The messages written within so many seconds, each delivered at once.
    fn messages(&mut self, seconds: i64) -> Vec<String> {
        let mut all = Vec::new();
        let end = self.now + seconds * 1_000;
        while self.now <= end {
            let now = Timestamp(self.now);
            let next = self.book.change(true, |kept| self.dispatcher.look(kept, now));
            let waiting: Vec<Entry> =
                self.book.look(|kept| kept.waiting.values().cloned().collect());
            let mut told: Vec<String> = waiting.iter().map(shown).collect();
            told.sort();
            all.extend(told);
            for mut entry in waiting {
                entry.sent = Some(now);
                self.book.change(true, |kept| kept.note(Record::Entry(Box::new(entry))));
            }
            self.now = next.millis().clamp(self.now + 10, self.now + 1_000);
        }
        self.now = end;
        all
    }

    fn desk(&self) -> Desk {
        let clock = Clock::paused_at(Timestamp(self.now));
        Desk::new(
            self.book.clone(),
            Arc::default(),
            evaluate::Healths::default(),
            self.config.clone(),
            clock,
        )
    }
}

fn shown(entry: &Entry) -> String {
    let alerts: Vec<String> = entry
        .alerts
        .iter()
        .map(|it| format!("{}{}", if it.fires() { "" } else { "-" }, it.labels["instance"]))
        .collect();
    let reason = match entry.reason {
        Reason::News => "",
        Reason::Repeat => " again",
        Reason::Escalation => " escalated",
        Reason::Remediation => " remediation",
    };
    format!("{}{reason}: {}", entry.receiver, alerts.join(" "))
}

const TWO: &str = r#"{ "receiver": [
    { "name": "hook", "webhook": { "url": "http://h/" } },
    { "name": "quiet", "send_resolved": false, "webhook": { "url": "http://q/" } } ] }"#;

#[tokio::test(start_paused = true)]
async fn an_alert_is_told_once_and_its_end_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), TWO);
    assert_eq!(bench.sees("Down", &["a"]).messages(2), ["hook: a", "quiet: a"]);
    assert_eq!(bench.sees("Down", &["a"]).messages(30), [""; 0]);
    assert_eq!(bench.sees("Down", &["a", "b"]).messages(2), ["hook: b a", "quiet: b a"]);
    assert_eq!(bench.sees("Down", &["b"]).messages(30), ["hook: -a b"]);
    assert_eq!(bench.sees("Down", &[]).messages(30), ["hook: -b"]);
    assert_eq!(bench.sees("Down", &[]).messages(10_000), [""; 0]);
    let (open, ended) = bench.book.look(|kept| {
        (kept.alerts.len(), kept.incidents.values().filter(|it| it.ended.is_some()).count())
    });
    assert_eq!((open, ended), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_restart_at_any_look_tells_nothing_twice_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = r#"{ "receiver": [ { "name": "hook", "webhook": { "url": "http://h/" } } ] }"#;
    let mut all = Vec::new();
    let mut now = 1_000_000;
    let steps: [&[&str]; 8] =
        [&["a"], &["a"], &["a", "b"], &["a", "b"], &["b"], &[], &["c"], &["c"]];
    for seen in steps {
        // Each step is a process of its own.
        let mut bench = Bench::new(dir.path(), config);
        bench.now = now;
        all.extend(bench.sees("Down", seen).messages(25));
        now = bench.now;
    }
    assert_eq!(all, ["hook: a", "hook: b a", "hook: -a b", "hook: -b", "hook: c"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_reset_the_hold_of_a_pending_alert() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), TWO);
    assert_eq!(bench.sees("Slow", &["a"]).messages(0), [""; 0]);
    let now = bench.now;
    let mut bench = Bench::new(dir.path(), TWO);
    bench.now = now + 1_000;
    assert_eq!(bench.sees("Slow", &["a"]).messages(1), ["hook: a", "quiet: a"]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_one_message_and_the_next_ones_wait_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = r#"{ "max_alerts_per_message": 3, "receiver": [ { "name": "hook", "webhook": { "url": "http://h/" } } ] }"#;
    let mut bench = Bench::new(dir.path(), config);
    let names: Vec<String> = (0..5_000).map(|it| format!("i{it}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let first = bench.sees("Down", &names).messages(1);
    assert_eq!(first.len(), 1);
    let entry = bench.book.look(|kept| kept.delivered.back().cloned().unwrap());
    assert_eq!((entry.firing, entry.alerts.len()), (5_000, 3));
    let mut count = 0;
    for n in (0..5_000).rev().take(40) {
        count += bench.sees("Down", &names[..n]).messages(0).len();
        bench.now -= 500;
    }
    // Three more at once, then one for each 20 s of the 20 s that passed.
    assert!((3..=5).contains(&count), "{count}");
}

#[tokio::test(start_paused = true)]
async fn silences_keep_quiet_and_their_end_tells_what_still_fires() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), TWO);
    let silence = |bench: &Bench, matchers: &str, reason: &str| {
        let new = NewSilence {
            matchers: matchers.to_owned(),
            starts: None,
            ends: None,
            duration: Some("60s".to_owned()),
            author: None,
            reason: reason.to_owned(),
        };
        bench.desk().silence("me", new).map_err(|it| it.to_string())
    };
    assert!(silence(&bench, "", "x").unwrap_err().contains("matchers are empty"));
    assert!(silence(&bench, "a=\"b\"", " ").unwrap_err().contains("reason"));
    assert!(silence(&bench, "a=b", "x").unwrap_err().contains("character 3"));
    silence(&bench, "instance=~\"a|b\"", "moving the rack").unwrap();
    assert_eq!(bench.sees("Down", &["a", "b"]).messages(30), [""; 0]);
    let (alerts, _) = bench.desk().alerts(10, false, |_| true);
    assert!(alerts[0].quiet.as_deref().unwrap().contains("moving the rack"), "{alerts:?}");
    // b is over in silence and never told; a is told when the silence is over.
    assert_eq!(bench.sees("Down", &["a"]).messages(40), ["hook: a", "quiet: a"]);
    assert_eq!(bench.desk().audit(10).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_explains_another_alert_is_told_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = r#"{ "receiver": [ { "name": "hook", "webhook": { "url": "http://h/" } } ],
        "inhibit": [ { "source": "alertname=\"Down\"", "target": "severity=\"warning\"", "equal": ["instance"] } ] }"#;
    let mut bench = Bench::new(dir.path(), config);
    bench.sees("Slow", &["a", "b"]).sees("Slow", &["a", "b"]);
    bench.sees("Down", &["a"]).sees("Slow", &["a", "b"]);
    let mut told = bench.messages(10);
    told.sort();
    assert_eq!(told, ["hook: a", "hook: b"]);
    assert_eq!(bench.sees("Down", &[]).messages(30), ["hook: -a", "hook: a b"]);
}

#[test]
fn r3_4_an_outage_during_a_warning_that_lasts_is_an_incident_with_an_end_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), TWO);
    let incidents = |bench: &Bench| {
        let one = |it: &incident::Incident| (it.alerts.len(), it.ended.is_some());
        bench.book.look(|kept| kept.incidents.values().map(one).collect::<Vec<_>>())
    };
    let warns = |bench: &mut Bench| {
        bench.sees("Slow", &["a"]);
    };
    for _ in 0..4 {
        warns(&mut bench);
    }
    // So soon after, it belongs to it.
    bench.sees("Down", &["a"]);
    assert_eq!(incidents(&bench), [(2, false)]);
    bench.sees("Down", &[]);
    for _ in 0..30 {
        warns(&mut bench);
    }
    for outage in 1..=2 {
        bench.sees("Down", &["b"]);
        // What is told of meanwhile belongs to the outage.
        bench.sees("Down", &["b", "c"]);
        assert_eq!(incidents(&bench).last(), Some(&(2, false)));
        bench.sees("Down", &[]);
        warns(&mut bench);
        assert_eq!(incidents(&bench).len(), 1 + outage);
        assert_eq!(incidents(&bench).last(), Some(&(2, true)));
    }
    // Nor does it take in what was over before it was seen.
    bench.sees("Restarted", &["a"]);
    warns(&mut bench);
    assert_eq!(incidents(&bench).last(), Some(&(1, true)));
    assert_eq!(incidents(&bench).first(), Some(&(2, false)));
    bench.sees("Slow", &[]);
    warns(&mut bench);
    assert_eq!(incidents(&bench).first(), Some(&(2, true)));
}

#[tokio::test(start_paused = true)]
async fn nobody_acknowledges_and_the_next_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = r#"{ "receiver": [ { "name": "first", "webhook": { "url": "http://h/" } }, { "name": "second", "webhook": { "url": "http://h/" } } ],
        "route": [ { "receivers": ["first"], "repeat_interval": "1h", "escalate_after": "10m", "escalate_to": ["second"] } ] }"#;
    let mut bench = Bench::new(dir.path(), config);
    assert_eq!(bench.sees("Down", &["a"]).messages(500), ["first: a"]);
    assert_eq!(bench.messages(200), ["second escalated: a"]);
    assert_eq!(bench.messages(3_600), ["first again: a"]);
    bench.sees("Down", &[]).messages(60);
    assert_eq!(bench.sees("Down", &["a"]).messages(60), ["first: a"]);
    let (alerts, _) = bench.desk().alerts(1, false, |_| true);
    assert_eq!(bench.desk().acknowledge("me", &alerts[0].incident), Ok(1));
    assert_eq!(bench.messages(10_000), [""; 0]);
    assert!(bench.desk().acknowledge("me", "nonsense").is_err());
}

#[test]
fn a_damaged_line_of_the_journal_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), TWO);
    bench.sees("Down", &["a"]);
    bench.sees("Down", &["a", "b"]);
    drop(bench);
    let path = dir.path().join("alerts.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let cut = format!("{{\"alert\":\n{}{{\"alert\":{{\"finger", text);
    platform::durable::replace(&path, cut.as_bytes()).unwrap();
    let book = Book::open(dir.path()).unwrap();
    assert_eq!(book.look(|kept| kept.alerts.len()), 2);
    let aside = std::fs::read_to_string(dir.path().join("alerts.damaged")).unwrap();
    assert_eq!(aside.lines().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_rules_of_one_name_do_not_end_each_others_alerts_and_a_clock_that_goes_back_delays_nothing()
 {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), TWO);
    let more = RULES.replace("alert: Slow", "alert: Down").replace("for: 2s", "for: 0s");
    bench.rules = rules("r", &more).0;
    assert_eq!(bench.rules[0].name, bench.rules[1].name);
    let (first, second) = (bench.rules[0].clone(), bench.rules[1].clone());
    bench.rules = vec![first.clone()];
    assert_eq!(bench.sees("Down", &["a"]).messages(1), ["hook: a", "quiet: a"]);
    bench.rules = vec![second];
    assert_eq!(bench.sees("Down", &["b"]).messages(1), ["hook: b a", "quiet: b a"]);
    let firing = bench.book.look(|kept| kept.alerts.values().filter(|it| it.fires()).count());
    assert_eq!(firing, 2);
    // Two messages an instance later have used up what goes at once; the clock goes back an hour.
    bench.sees("Down", &["b", "c"]).messages(1);
    bench.sees("Down", &["b", "c", "d"]).messages(1);
    bench.now -= 3_600_000;
    let told = bench.sees("Down", &["b", "c", "d", "e"]).messages(25);
    assert!(told.iter().any(|it| it.starts_with("hook: e")), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_is_over_before_anybody_heard_of_it_is_told_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), TWO);
    bench.sees("Down", &["a"]);
    assert_eq!(bench.sees("Down", &[]).messages(2), ["hook: -a"]);
    assert_eq!(bench.messages(100), [""; 0]);
    assert_eq!(bench.book.look(|kept| (kept.alerts.len(), kept.past.len())), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_was_told_by_escalation_hears_the_end_and_a_new_alert_of_the_group_waits_its_own_time()
{
    let dir = tempfile::tempdir().unwrap();
    let config = r#"{ "receiver": [ { "name": "first", "webhook": { "url": "http://h/" } }, { "name": "second", "webhook": { "url": "http://h/" } } ],
        "route": [ { "receivers": ["first"], "escalate_after": "10m", "escalate_to": ["second"] } ] }"#;
    let mut bench = Bench::new(dir.path(), config);
    assert_eq!(bench.sees("Down", &["a"]).messages(650), ["first: a", "second escalated: a"]);
    let (alerts, _) = bench.desk().alerts(1, false, |_| true);
    assert_eq!(bench.desk().acknowledge("me", &alerts[0].fingerprint), Ok(1));
    // b fires while a, which is looked after, goes on: it is not escalated at once, and it is in time.
    assert_eq!(bench.sees("Down", &["a", "b"]).messages(500), ["first: b a"]);
    assert_eq!(bench.messages(200), ["second escalated: b a"]);
    assert_eq!(bench.sees("Down", &[]).messages(60), ["first: -a -b", "second: -a -b"]);
    assert_eq!(bench.book.look(|kept| kept.alerts.len()), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_though_the_alert_is_pending_again_before_it_could_be() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), TWO);
    bench.sees("Slow", &["a"]).sees("Slow", &["a"]).sees("Slow", &["a"]);
    assert_eq!(bench.messages(1), ["hook: a", "quiet: a"]);
    // Over, pending again, and not so after all, all before anybody looks who is to be told.
    bench.sees("Slow", &[]).sees("Slow", &["a"]).sees("Slow", &[]);
    assert_eq!(bench.messages(30), ["hook: -a"]);
}

#[test]
fn alerts_of_a_rule_that_is_no_more_end_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), TWO);
    bench.sees("Down", &["a"]).sees("Slow", &["b"]);
    let book = Book::open(dir.path()).unwrap();
    let now = Timestamp(bench.now + 60_000);
    book.change(true, |kept| orphan::of_rules(kept, |id| id == "g/Slow/0", now));
    let phases: Vec<String> = book.look(|kept| {
        kept.alerts.values().map(|it| format!("{} {}", it.rule, it.standing.phase.name())).collect()
    });
    let mut phases = phases;
    phases.sort();
    assert_eq!(phases, ["Down resolved", "Slow pending"]);
}

#[test]
fn a_group_that_is_forgotten_gives_no_key_again_and_what_was_read_back_is_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), TWO);
    let key = |bench: &mut Bench| {
        let now = Timestamp(bench.now + 200);
        bench.now += 200;
        bench.book.change(true, |kept| bench.dispatcher.look(kept, Timestamp(now.millis() - 200)));
        bench.book.change(true, |kept| bench.dispatcher.look(kept, now));
        bench.book.look(|kept| kept.waiting.keys().cloned().collect::<Vec<_>>())
    };
    let first = key(bench.sees("Down", &["a"]));
    platform::durable::remove_file(&dir.path().join("alerts.jsonl")).unwrap();
    let now = bench.now;
    let mut bench = Bench::new(dir.path(), TWO);
    bench.now = now;
    let second = key(bench.sees("Down", &["a"]));
    assert!(
        !first.is_empty() && first.iter().all(|it| !second.contains(it)),
        "{first:?} {second:?}"
    );
    // Another process: what waits may have been sent, so what is new is a message of its own.
    let mut bench = Bench::new(dir.path(), TWO);
    bench.now = now + 30_000;
    let third = key(bench.sees("Down", &["a", "b"]));
    assert!(second.iter().all(|it| third.contains(it)) && third.len() > second.len(), "{third:?}");
}
