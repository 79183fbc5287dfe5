//! The gateway killed between an answer and its audit record: whatever is older than a moment is kept, once, wherever it waited.

use crate::harness::gateway::{Gateway, ask};
use crate::harness::service::Postgres;
use crate::harness::wait::wait_for;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const KILLS: u32 = 8;
/// A record waits in memory for at most a tenth of a second and the database's time-out; the rest is the machine's.
const MOMENT: Duration = Duration::from_millis(1_500);

#[test]
#[allow(clippy::disallowed_methods, reason = "the instant of a kill is real time")]
fn r3_5_audit_records_outlive_a_kill_of_the_gateway_wherever_they_wait() {
    let dir = TempDir::new().unwrap();
    let mut postgres = Postgres::start(dir.path());
    let config = format!(
        "anonymous = [\"serpapi:search\"]\n[gateway.database]\npostgres = \"{}\"\ntimeout = \"500ms\"\n",
        postgres.config()
    );
    let (mut settled, mut answered) = (0, 0);
    for kill in 0..KILLS {
        let gateway = Gateway::start(dir.path(), &config);
        let is_away = kill % 2 == 1;
        if is_away {
            postgres.end();
        }
        let (mut at, begun) = (Vec::new(), Instant::now());
        let end = MOMENT + Duration::from_millis(u64::from(200 + 37 * kill));
        while begun.elapsed() < end {
            let called = ask(&gateway.data, "POST", "/t/serpapi/search", "", "{\"query\":1}");
            if called.is_some_and(|it| it.status == 200) {
                at.push(Instant::now());
            }
        }
        gateway.program.kill();
        answered += at.len();
        settled += at.iter().filter(|at| at.elapsed() > MOMENT).count();
        if is_away {
            postgres.begin();
        }
    }
    assert!(settled > 20, "{settled} of {answered} are old enough to count");
    let gateway = Gateway::start(dir.path(), &config);
    wait_for("the journal's end", || {
        (gateway.metric("gateway_audit_journal_bytes") == 0.0).then_some(())
    });
    let count = |what: &str| {
        let sql = format!("SELECT count({what}) FROM audit WHERE kind = 'call'");
        postgres.query(&sql).unwrap().parse::<usize>().unwrap()
    };
    let kept = count("*");
    assert!((settled..=answered).contains(&kept), "{settled} <= {kept} <= {answered}");
    assert_eq!(count("DISTINCT id"), kept);
}
