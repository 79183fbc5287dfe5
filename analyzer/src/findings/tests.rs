use super::*;
use crate::finding::{Numbers, Subject};
use model::Labels;
use tempfile::TempDir;

const MINUTE: i64 = 60_000;

fn config() -> AnalyzerConfig {
    AnalyzerConfig { max_findings: 20, tickets_per_service_week: 3, ..AnalyzerConfig::default() }
}

/// A finding of a kind in a job's series, at a minute.
fn found(kind: Kind, severity: Severity, job: &str, series: &str, minute: i64) -> Finding {
    let subject = Subject::new("m", &Labels::from_pairs([("job", job), ("series", series)]));
    let at = Timestamp(1_700_000_000_000 + minute * MINUTE);
    Finding {
        id: Finding::id_of(kind, &subject, at),
        kind,
        severity,
        raised: severity,
        worst: severity,
        at,
        since: at,
        updated: at,
        until: None,
        subject,
        target: Default::default(),
        numbers: Numbers::new(),
        words: vec![format!("{} in {series}", kind.name())],
        changes: Vec::new(),
        related: Vec::new(),
        belongs_to: None,
        rank: 1.0,
        verdict: None,
        sql: String::new(),
    }
}

fn ticket(job: &str, series: &str, minute: i64) -> Finding {
    found(Kind::Leak, Severity::Ticket, job, series, minute)
}

#[test]
fn what_is_kept_survives_and_a_torn_line_costs_only_itself() {
    let dir = TempDir::new().unwrap();
    let findings = Findings::open(dir.path(), &config()).unwrap();
    findings.add(ticket("a", "1", 0)).unwrap();
    findings.add(ticket("b", "2", 100)).unwrap();
    findings.judge(&findings.list()[0].id, Verdict::Right).unwrap();
    let all = findings.list();
    drop(findings);
    assert_eq!(Findings::read(dir.path(), &config()).unwrap().list(), all);
    let path = dir.path().join(JOURNAL);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend(b"{\"id\": \"torn");
    durable::replace(&path, &bytes).unwrap();
    let again = Findings::open(dir.path(), &config()).unwrap();
    assert_eq!(again.list(), all);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!((text.lines().count(), text.contains("torn")), (2, false));
    let aside = std::fs::read_to_string(dir.path().join("findings.damaged")).unwrap();
    assert_eq!(aside, "{\"id\": \"torn\n");
}

#[test]
fn the_same_evidence_is_one_finding_and_more_of_it_is_added() {
    let findings = Findings::in_memory(&config());
    assert!(findings.add(ticket("a", "1", 0)).is_some());
    assert!(findings.add(ticket("a", "1", 0)).is_none());
    assert!(findings.add(ticket("a", "1", 1440)).is_none(), "it goes on");
    let page = findings.add(found(Kind::Leak, Severity::Page, "a", "1", 1500)).unwrap();
    assert_eq!((page.severity, findings.list().len()), (Severity::Page, 1));
    assert_eq!(findings.list()[0].at, ticket("a", "1", 0).at);
    findings.expire(Timestamp(page.updated.millis() + 35 * 60 * MINUTE));
    assert_eq!(findings.list()[0].until, None);
    findings.expire(Timestamp(page.updated.millis() + 37 * 60 * MINUTE));
    assert_eq!(findings.list()[0].until, Some(page.updated));
    assert!(findings.add(ticket("a", "1", 700)).is_none(), "a replay of what was added");
    assert!(findings.add(ticket("a", "1", 9000)).is_some(), "another one after the end");
    let subject = ticket("a", "1", 9000).subject;
    findings.end(Kind::Leak, &subject, ticket("a", "1", 8000).at);
    assert_eq!(findings.list()[0].until, None, "what ended before it began was another");
}

#[test]
fn what_begins_together_is_one_finding_with_the_likely_cause_first() {
    let findings = Findings::in_memory(&config());
    findings.add(found(Kind::Latency, Severity::Note, "a", "slow", 0)).unwrap();
    findings.add(found(Kind::Errors, Severity::Note, "a", "bad", 3)).unwrap();
    findings.add(found(Kind::Leak, Severity::Ticket, "a", "memory", 9)).unwrap();
    findings.add(found(Kind::Latency, Severity::Note, "b", "other service", 9)).unwrap();
    findings.add(found(Kind::Latency, Severity::Note, "a", "another day", 900)).unwrap();
    let heads: Vec<Finding> =
        findings.list().into_iter().filter(|it| it.belongs_to.is_none()).collect();
    let named = |it: &Finding| it.subject.labels["series"].clone();
    assert_eq!(
        heads.iter().map(named).collect::<Vec<_>>(),
        ["another day", "other service", "slow"]
    );
    let ranked: Vec<Kind> = heads[2].related.iter().map(|it| it.kind).collect();
    assert_eq!(ranked, [Kind::Leak, Kind::Errors, Kind::Latency]);
    assert_eq!(heads[2].severity, Severity::Ticket, "as severe as the worst of them");
    let told: Vec<Kind> = findings.to_tell(9).iter().map(|it| it.kind).collect();
    let all = [Kind::Latency, Kind::Leak, Kind::Latency, Kind::Errors, Kind::Latency];
    assert_eq!(told.len(), all.len(), "each is nearer to the cause than those before: {told:?}");
    assert!(told.contains(&Kind::Leak), "who acts on leaks must hear of it");
    findings.add(found(Kind::Errors, Severity::Note, "a", "bad again", 5)).unwrap();
    assert_eq!(findings.to_tell(9).len(), all.len(), "a symptom more is not told of itself");
}

#[test]
fn those_over_the_budget_of_a_service_are_notes_and_pages_are_not() {
    let findings = Findings::in_memory(&config());
    let severities: Vec<Severity> = (0..5)
        .map(|n| findings.add(ticket("a", &n.to_string(), n * 60)).unwrap().severity)
        .collect();
    use Severity::{Note, Page, Ticket};
    assert_eq!(severities, [Ticket, Ticket, Ticket, Note, Note]);
    assert_eq!(findings.add(found(Kind::Leak, Page, "a", "6", 400)).unwrap().severity, Page);
    assert_eq!(findings.add(ticket("b", "1", 500)).unwrap().severity, Ticket);
    let later = 8 * 24 * 60;
    assert_eq!(findings.add(ticket("a", "7", later)).unwrap().severity, Ticket);
}

#[test]
fn what_people_call_nothing_makes_its_like_rank_lower() {
    let findings = Findings::in_memory(&config());
    let first = findings.add(ticket("a", "1", 0)).unwrap();
    findings.judge(&first.id, Verdict::Nothing).unwrap();
    let second = findings.add(ticket("a", "2", 60)).unwrap();
    assert_eq!((second.rank, second.severity), (0.5, Severity::Ticket));
    findings.judge(&second.id, Verdict::Nothing).unwrap();
    let third = findings.add(ticket("a", "3", 120)).unwrap();
    assert_eq!((third.rank, third.severity), (0.25, Severity::Note));
    assert_eq!(findings.add(ticket("b", "4", 180)).unwrap().rank, 1.0, "not its like");
    let again = findings.judge(&third.id, Verdict::Right).unwrap();
    assert_eq!((again.rank, again.severity), (1.0, Severity::Ticket));
    assert_eq!(findings.add(ticket("a", "5", 240)).unwrap().rank, 1.0);
    assert_eq!(findings.judge("no such", Verdict::Right), None);
}

#[test]
fn the_oldest_make_room_and_the_journal_stays_short() {
    let dir = TempDir::new().unwrap();
    let findings = Findings::open(dir.path(), &config()).unwrap();
    for n in 0..200 {
        findings.add(ticket("a", &n.to_string(), n * 60)).unwrap();
    }
    assert_eq!(findings.list().len(), 20);
    let text = std::fs::read_to_string(dir.path().join(JOURNAL)).unwrap();
    assert!(text.lines().count() <= 4 * 20, "{}", text.lines().count());
}
