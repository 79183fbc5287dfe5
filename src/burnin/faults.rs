//! What is done to the system on the way: the plan's faults by way of the monitor's chaos, edits of the environment file meanwhile, and
//! the monitor's own end, and the defects of a control.

use super::stack::Stack;
use super::traffic::Run;
use super::{BurninArgs, Control};
use crate::chaos;
use crate::monitor_client::MonitorClient;
use ::burnin::plan::{self, HOURS, MONITOR_KILL, Step};
use ::burnin::readings::{Progress, Readings};
use ::chaos::{Event, LONGEST_PAUSE, Outcome};
use gateway::env::{Change, EnvFile};
use model::Timestamp;
use platform::durable;
use runtime::{Clock, Stop, Tick};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

const LOOK: Duration = Duration::from_millis(200);
/// Between two edits of one editor.
const EDIT: Duration = Duration::from_millis(100);
/// Editors at once, each with a key of its own.
const EDITORS: usize = 4;
/// For the monitor to come back.
const BACK: Duration = Duration::from_secs(60);
/// A control's defect begins here.
const DEFECT: f64 = 4.0;

/// What was done and what came of it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Done(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    faults: Vec<Fault>,
    edits: Edits,
    monitor_kills: Vec<MonitorKill>,
    /// What goes on, since when.
    going: Vec<(String, f64, Timestamp)>,
}

/// One fault.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) name: String,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
    /// What the monitor wrote down; none if it could not be asked.
    pub(super) event: Option<Event>,
    pub(super) error: Option<String>,
}

impl Fault {
    pub(super) fn has_begun(&self) -> bool {
        self.event.as_ref().is_some_and(|it| it.began.is_some())
    }
}

/// One end of the monitor.
#[derive(Clone, Debug)]
pub(super) struct MonitorKill {
    pub(super) hour: f64,
    /// Samples that it had shown before.
    pub(super) shown: u64,
    /// Those of them that are not there any more; none if it did not come back.
    pub(super) lost: Option<u64>,
    /// Until it answered again.
    pub(super) seconds: f64,
}

/// Edits of the environment file.
#[derive(Clone, Debug, Default)]
pub(super) struct Edits {
    pub(super) done: u64,
    pub(super) refused: u64,
    /// What was not as it must be after an edit; the first few.
    pub(super) broken: Vec<String>,
}

impl Done {
    fn look<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn all(&self) -> Vec<Fault> {
        self.look(|kept| kept.faults.clone())
    }

    /// What goes on is over for the verdict, and failed.
    pub(super) fn never_ended(&self) {
        for going in self.look(|kept| std::mem::take(&mut kept.going)) {
            self.failed(going, "did not come to its end within 3 minutes after the load");
        }
    }

    fn failed(&self, (name, from, began): (String, f64, Timestamp), why: &str) {
        let (ended, error) = (Clock::system().now(), Some(why.to_owned()));
        let fault = Fault { name, from, to: HOURS, began, ended, event: None, error };
        self.look(|kept| kept.faults.push(fault));
    }

    pub(super) fn monitor_kills(&self) -> Vec<MonitorKill> {
        self.look(|kept| kept.monitor_kills.clone())
    }

    pub(super) fn edits(&self) -> Edits {
        self.look(|kept| kept.edits.clone())
    }
}

/// Does all of it, in the order of the hours; returns when the last has come to its end.
pub(super) fn run(
    args: &BurninArgs,
    stack: &Stack,
    monitor: MonitorClient,
    run: Arc<Run>,
    done: Done,
) -> impl Future<Output = ()> + Send + use<> {
    let (control, ours, only) = (args.control, stack.control.is_some(), args.only.clone());
    let hands = Hands {
        run: Arc::clone(&run),
        monitor,
        env: stack.env.clone(),
        logs: stack.dir.join("logs"),
        monitor_process: stack.monitor_readings(),
        control,
        done: done.clone(),
    };
    let defect = defect(control, stack.control, hands.logs.clone(), Arc::clone(&run));
    async move {
        let defect = tokio::spawn(defect);
        for steps in plan::steps().chunk_by(|a, b| a.hour == b.hour) {
            let wanted = steps.iter().filter(|step| {
                // Of another gateway only the process is ours to stop and to kill.
                let ours_to_do =
                    ours || step.fault.starts_with("process_") || step.fault == MONITOR_KILL;
                ours_to_do && (only.is_empty() || step.is_in(&only))
            });
            let wanted: Vec<&Step> = wanted.collect();
            let Some(first) = wanted.first() else { continue };
            if until(&run, first.hour).await == Tick::Stopped {
                for step in wanted {
                    let now = (step.fault.to_owned(), HOURS, Clock::system().now());
                    done.failed(
                        now,
                        "had no turn before the load was over; give the run more time",
                    );
                }
                continue;
            }
            run.tally.in_chaos(true);
            let mut all = JoinSet::new();
            for step in wanted {
                all.spawn(hands.clone().one(step.clone()));
            }
            while all.join_next().await.is_some() {}
            run.tally.in_chaos(false);
        }
        if control.is_none() || control == Some(Control::Corrupting) {
            defect.abort();
        }
    }
}

/// Waits for an hour; stopped if the run ends before.
async fn until(run: &Run, hour: f64) -> Tick {
    while run.hour() < hour {
        tokio::time::sleep(LOOK).await;
    }
    // A step that has waited so long for others that the load is over would show nothing.
    if run.hour() >= HOURS { Tick::Stopped } else { Tick::Elapsed }
}

/// What faults are done with.
#[derive(Clone)]
struct Hands {
    run: Arc<Run>,
    monitor: MonitorClient,
    env: PathBuf,
    logs: PathBuf,
    monitor_process: Readings,
    control: Option<Control>,
    done: Done,
}

impl Hands {
    async fn one(self, step: Step) {
        if step.fault == MONITOR_KILL {
            return self.kill_monitor().await;
        }
        let mut duration = self.run.lasting(step.hours);
        if step.fault.starts_with("process_") {
            // A process is held no longer than that at once, however long the run is.
            duration = duration.min(LONGEST_PAUSE);
        }
        let at_once = step.hours == 0.0;
        let mut asked = json!({
            "name": format!("burn-in hour {} {}", step.hour, step.fault), "fault": step.fault,
            "percent": step.percent,
            "duration": format!("{}ms", if at_once { 0 } else { duration.as_millis() }),
        });
        if let Some(it) = asked.as_object_mut() {
            for (name, value) in [("tool", step.tool), ("component", step.component)] {
                it.extend(value.map(|value| (name.to_owned(), Value::from(value))));
            }
            it.extend(step.amount.map(|amount| ("amount".to_owned(), amount.into())));
        }
        let (from, began) = (self.run.hour(), Clock::system().now());
        let going = (step.fault.to_owned(), from, began);
        self.done.look(|kept| kept.going.push(going.clone()));
        let end = Stop::new();
        let editing = step.edits.then(|| {
            let edit = |n| edit(self.env.clone(), n, self.control, self.done.clone(), end.clone());
            (0..EDITORS).map(|n| tokio::spawn(edit(n))).collect::<Vec<_>>()
        });
        let event = match chaos::ask(&self.monitor, &asked).await {
            Ok(id) => chaos::wait(&self.monitor, &id).await,
            Err(failure) => Err(failure),
        };
        end.request();
        for editor in editing.into_iter().flatten() {
            let _ = editor.await;
        }
        let (event, error) = match event {
            Ok(event) => (Some(event), None),
            Err(failure) => (None, Some(failure.error.to_string())),
        };
        let (name, to, ended) = (step.fault.to_owned(), self.run.hour(), Clock::system().now());
        let fault = Fault { name, from, to, began, ended, event, error };
        self.done.look(|kept| {
            kept.going.retain(|it| *it != going);
            kept.faults.push(fault);
        });
    }

    /// Kills the monitor, and asks whether all samples that it had shown are still there when it is back.
    async fn kill_monitor(self) {
        let hour = self.run.hour();
        let pid = self.monitor_process.now().map(|it| it.pid);
        let until = Clock::system().now();
        let Some(shown) = samples(&self.monitor, until).await else {
            let now = (MONITOR_KILL.to_owned(), hour, until);
            return self.done.failed(now, "the monitor did not say what it has");
        };
        let start = Clock::system().monotonic();
        request(&self.logs, "monitor", "kill", 0);
        let mut lost = None;
        while lost.is_none() && start.elapsed() < BACK {
            tokio::time::sleep(LOOK).await;
            if self.monitor_process.now().map(|it| it.pid) == pid {
                continue;
            }
            lost = samples(&self.monitor, until).await.map(|now| missing(&shown, &now));
        }
        let seconds = start.elapsed().as_secs_f64();
        let shown: u64 = shown.values().sum();
        self.done.look(|kept| kept.monitor_kills.push(MonitorKill { hour, shown, lost, seconds }));
    }
}

/// How many samples the monitor has up to a time: of each of the last 30 s, and before.
async fn samples(monitor: &MonitorClient, until: Timestamp) -> Option<BTreeMap<String, u64>> {
    let lately = until.minus(Duration::from_secs(30));
    let sql = format!(
        "SELECT CAST(greatest(time, TIMESTAMP '{lately}') AS VARCHAR) AS at, count(*) AS n FROM samples WHERE time <= TIMESTAMP '{until}' GROUP BY 1"
    );
    let rows = monitor.rows(&sql).await.ok()?;
    let row = |row: &serde_json::Map<String, Value>| {
        Some((row.get("at")?.as_str()?.to_owned(), row.get("n")?.as_u64()?))
    };
    rows.iter().map(row).collect()
}

/// What was there and is not any more; what came late makes up for nothing.
fn missing(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> u64 {
    let of = |(at, n): (&String, &u64)| n.saturating_sub(after.get(at).copied().unwrap_or(0));
    before.iter().map(of).sum()
}

/// Edits a key of the environment file again and again, and looks after each edit whether all else is as it was.
async fn edit(env: PathBuf, number: usize, control: Option<Control>, done: Done, end: Stop) {
    let original = std::fs::read_to_string(&env).unwrap_or_default();
    let mut n = 0_u64;
    while end.wait_for(EDIT).await == Tick::Elapsed {
        n += 1;
        let (path, value) = (env.clone(), n.to_string());
        let edited = tokio::task::spawn_blocking(move || {
            if control == Some(Control::Corrupting) {
                return corrupt(&path).map_err(|error| error.to_string());
            }
            let file = EnvFile::new(&path, Clock::system());
            let key = format!("EDITED_{number}");
            let change = Change::Set(vec![(key.clone(), value.clone())]);
            file.commit(&change, "burnin", None, false).map_err(|error| error.to_string())?;
            let (document, _) = file.read().map_err(|error| error.to_string())?;
            let kept = document.values().get(key.as_str()).is_some_and(|it| *it == value);
            if kept { Ok(()) } else { Err(format!("the edit of {key} is lost")) }
        });
        let outcome = edited.await.unwrap_or_else(|error| Err(error.to_string()));
        let broken = damage(&original, &std::fs::read_to_string(&env).unwrap_or_default());
        done.look(|kept| {
            match outcome {
                Ok(()) => kept.edits.done += 1,
                Err(error) if error.contains("lost") => kept.edits.broken.push(error),
                Err(_) => kept.edits.refused += 1,
            }
            if let Some(broken) = broken.filter(|_| kept.edits.broken.len() < 5) {
                kept.edits.broken.push(broken);
            }
        });
    }
}

/// As the failed run did it: a line is appended, past everything.
fn corrupt(path: &Path) -> std::io::Result<()> {
    std::fs::OpenOptions::new().append(true).open(path)?.write_all(b"'FF_CHAOS=on'  \r\n")
}

/// What of the file is not as it must be: each line that no editor owns must be there as it was, in its order, and no other.
fn damage(original: &str, now: &str) -> Option<String> {
    let own = |line: &&str| !line.starts_with("EDITED_");
    let (before, after): (Vec<&str>, Vec<&str>) =
        (original.split('\n').filter(own).collect(), now.split('\n').filter(own).collect());
    if before == after {
        return None;
    }
    let first = before.iter().zip(&after).position(|(a, b)| a != b);
    let at = first.unwrap_or(before.len().min(after.len()));
    let line = after.get(at).or(after.last()).copied().unwrap_or_default();
    Some(format!("line {}: {line:?}", at + 1))
}

/// The defect of a control, kept up until the end.
async fn defect(
    control: Option<Control>,
    admin: Option<std::net::SocketAddr>,
    logs: PathBuf,
    run: Arc<Run>,
) {
    let (Some(control), Some(admin)) = (control, admin) else { return };
    if until(&run, DEFECT).await == Tick::Stopped {
        return;
    }
    match control {
        Control::Leaky => loop {
            let body = r#"{"fault": "memory_leak", "amount": 2, "ttl": 3600}"#;
            post(admin, "/admin/chaos/own", body).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        },
        // The window ends and the fault does not.
        Control::Endless => loop {
            let body = r#"{"tool": "serpapi", "mode": "500", "pct": 100, "ttl": 3600}"#;
            post(admin, "/admin/chaos/tool", body).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        },
        Control::Hanging => request(&logs, "gateway", "pause", 600),
        Control::Corrupting | Control::Mute => {}
    }
}

/// Asks the watchdog to do something to a child.
fn request(logs: &Path, child: &str, action: &str, seconds: u64) {
    let at = Clock::system().now();
    let request = json!({
        "id": format!("burn-in {at}"), "by": "burnin", "reason": "burn-in", "action": action,
        "seconds": seconds, "at": at,
    });
    let (folder, text) = (logs.join("requests"), request.to_string());
    let _ = durable::create_dir(&folder)
        .and_then(|()| durable::replace(&folder.join(format!("{child}.json")), text.as_bytes()));
}

async fn post(address: std::net::SocketAddr, path: &str, body: &str) {
    let mut exchange = ::burnin::exchange::Exchange::new(address);
    let _ = exchange.send("POST", path, body, Duration::from_secs(2)).await;
}

/// Whether a fault was over and all well again in time.
pub(super) fn is_recovered(event: &Event) -> bool {
    matches!(event.outcome, Outcome::Recovered | Outcome::Aborted)
}

#[cfg(test)]
mod tests {
    use super::{damage, missing};

    #[test]
    fn r2_1_what_an_edit_breaks_is_found_and_what_editors_own_is_not_damage() {
        let text = "# a\nFF_CACHE=on\nKEY=\"x\ny\"\n";
        assert_eq!(damage(text, text), None);
        assert_eq!(damage(text, &format!("{text}EDITED_1=5\n")), None);
        let bad = damage(text, &format!("{text}'FF_CHAOS=on'  \r\n")).unwrap();
        assert!(bad.contains("FF_CHAOS"), "{bad}");
        assert!(damage(text, "# a\nFF_CACHE=on\nKEY=\"x\n").is_some());
        assert!(damage(text, "# a\nFF_CACHE=off\nKEY=\"x\ny\"\n").unwrap().contains("line 2"));
    }

    #[test]
    fn r3_5_what_is_lost_is_counted_whatever_came_late() {
        let counts = |of: &[(&str, u64)]| of.iter().map(|(at, n)| ((*at).to_owned(), *n)).collect();
        let before = counts(&[("a", 100), ("b", 20), ("c", 20)]);
        assert_eq!(missing(&before, &counts(&[("a", 100), ("b", 20), ("c", 20), ("d", 9)])), 0);
        assert_eq!(missing(&before, &counts(&[("a", 140), ("b", 17)])), 23);
    }
}
