//! What is done to the system on the way: the plan's faults by way of the monitor's chaos, edits of the environment file meanwhile, and
//! the defects of a control.

use super::stack::Stack;
use super::traffic::Run;
use super::{BurninArgs, Control};
use crate::chaos;
use crate::monitor_client::MonitorClient;
use ::burnin::plan::{self, HOURS, Step};
use ::burnin::readings::Progress;
use ::chaos::{Event, Outcome};
use gateway::env::{Change, EnvFile};
use model::Timestamp;
use runtime::{Clock, Stop, Tick};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(200);
/// Between two edits of one editor.
const EDIT: Duration = Duration::from_millis(100);
/// Editors at once, each with a key of its own.
const EDITORS: usize = 4;
/// A control's defect begins here.
const DEFECT: f64 = 4.0;

/// What was done and what came of it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Done(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    faults: Vec<Fault>,
    edits: Edits,
    /// What goes on, since when.
    going: Option<(String, f64, Timestamp)>,
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
        if let Some(going) = self.look(|kept| kept.going.take()) {
            self.failed(going, "did not come to its end within 3 minutes after the load");
        }
    }

    fn failed(&self, (name, from, began): (String, f64, Timestamp), why: &str) {
        let (ended, error) = (Clock::system().now(), Some(why.to_owned()));
        let fault = Fault { name, from, to: HOURS, began, ended, event: None, error };
        self.look(|kept| kept.faults.push(fault));
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
    let (env, logs) = (stack.env.clone(), stack.dir.join("logs"));
    let admin = stack.control;
    async move {
        let defect = defect(control, admin, logs.clone(), Arc::clone(&run));
        let defect = tokio::spawn(defect);
        for step in plan::steps() {
            // Of another gateway only the process is ours to stop and to kill.
            let ours_to_do = ours || step.fault.starts_with("process_");
            let wanted = only.is_empty() || only.iter().any(|it| it == step.fault);
            if !ours_to_do || !wanted {
                continue;
            }
            if until(&run, step.hour).await == Tick::Stopped {
                let now = (step.fault.to_owned(), HOURS, Clock::system().now());
                done.failed(now, "had no turn before the load was over; give the run more time");
                continue;
            }
            one(&step, &run, &monitor, (&env, control), &done).await;
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

async fn one(
    step: &Step,
    run: &Arc<Run>,
    monitor: &MonitorClient,
    (env, control): (&Path, Option<Control>),
    done: &Done,
) {
    let duration = run.lasting(step.hours);
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
    let (from, began) = (run.hour(), Clock::system().now());
    done.look(|kept| kept.going = Some((step.fault.to_owned(), from, began)));
    run.tally.in_chaos(true);
    let end = Stop::new();
    let editing = step.edits.then(|| {
        (0..EDITORS)
            .map(|n| tokio::spawn(edit(env.to_owned(), n, control, done.clone(), end.clone())))
            .collect::<Vec<_>>()
    });
    let event = match chaos::ask(monitor, &asked).await {
        Ok(id) => chaos::wait(monitor, &id).await,
        Err(failure) => Err(failure),
    };
    end.request();
    for editor in editing.into_iter().flatten() {
        let _ = editor.await;
    }
    run.tally.in_chaos(false);
    let (event, error) = match event {
        Ok(event) => (Some(event), None),
        Err(failure) => (None, Some(failure.error.to_string())),
    };
    let (name, to, ended) = (step.fault.to_owned(), run.hour(), Clock::system().now());
    let fault = Fault { name, from, to, began, ended, event, error };
    done.look(|kept| {
        kept.going = None;
        kept.faults.push(fault);
    });
}

/// Edits a key of the environment file again and again, and looks after each edit whether all else is as it was.
async fn edit(
    env: std::path::PathBuf,
    number: usize,
    control: Option<Control>,
    done: Done,
    end: Stop,
) {
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
    logs: std::path::PathBuf,
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
        Control::Hanging => {
            let request = json!({
                "id": "control", "by": "burnin", "reason": "a control", "action": "pause", "seconds": 600,
                "at": Clock::system().now(),
            });
            let folder = logs.join("requests");
            let _ = platform::durable::create_dir(&folder).and_then(|()| {
                platform::durable::replace(
                    &folder.join("gateway.json"),
                    request.to_string().as_bytes(),
                )
            });
        }
        Control::Corrupting | Control::Mute => {}
    }
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
    use super::damage;

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
}
