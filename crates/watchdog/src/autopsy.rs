//! What is taken of a child before it is ended: its state, its threads, its last metrics. In files of bounded size, the newest kept.

use crate::config::ChildConfig;
use model::Timestamp;
use platform::http::{HttpClient, Method};
use platform::process::{self, Process};
use platform::{PlatformError, durable};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Files kept for each child.
const KEPT: usize = 20;
/// Threads and bytes of metrics in one.
const THREADS: usize = 256;
const METRICS: usize = 256 << 10;
/// For the page of metrics: a child that hangs must not hold up its own end.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A reading in one line.
pub(crate) fn in_words(it: &Process) -> String {
    let handles = it.open_fds.map_or("unknown".to_owned(), |n| n.to_string());
    let most = it.max_fds.map_or("unlimited".to_owned(), |n| n.to_string());
    format!(
        "{} bytes resident, {} threads, {handles} of {most} handles, {:.2} s of processor time{}",
        it.resident,
        it.threads,
        it.cpu_seconds,
        if it.stopped { ", stopped" } else { "" }
    )
}

/// Writes `evidence/CHILD-TIME.txt` in `dir` and gives its name.
pub(crate) async fn take(
    dir: &Path,
    child: &ChildConfig,
    pid: u32,
    now: Timestamp,
    client: &HttpClient,
) -> Result<String, PlatformError> {
    let mut text = format!("{} at {now}, process {pid}\n", child.name);
    if let Ok(reading) = process::read(pid) {
        let _ = writeln!(text, "{}", in_words(&reading));
    }
    let _ = writeln!(text, "\nthreads (state, seconds of processor time, where it waits, name)");
    for thread in process::threads(pid, THREADS) {
        let seconds = thread.cpu_centis as f64 / 100.0;
        let _ = writeln!(
            text,
            "{} {seconds:>8.2} {:<24} {}",
            thread.state, thread.waits_in, thread.name
        );
    }
    if let Some(url) = &child.metrics {
        let _ = writeln!(text, "\nmetrics");
        match page(client, url).await {
            Ok(page) => text.push_str(&page),
            Err(error) => {
                let _ = writeln!(text, "none: {error}");
            }
        }
    }
    let stamp: String = now.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    let name = format!("{}-{stamp}.txt", child.name);
    let folder = dir.join("evidence");
    durable::create_dir(&folder)?;
    durable::replace(&folder.join(&name), text.as_bytes())?;
    forget(&folder, &child.name)?;
    Ok(format!("evidence/{name}"))
}

async fn page(client: &HttpClient, url: &str) -> Result<String, String> {
    let deadline = Instant::now() + TIMEOUT;
    let answer = client.send(Method::GET, url, &[], "", deadline).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let bytes = answer.body(METRICS).await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The oldest of a child's files go; their names sort by time.
fn forget(folder: &Path, child: &str) -> Result<(), PlatformError> {
    let of_child = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.rsplit_once('-').is_some_and(|(of, _)| of == child)
    };
    let mut files: Vec<_> =
        durable::list(folder)?.into_iter().filter(|path| of_child(path)).collect();
    files.sort();
    let more = files.len().saturating_sub(KEPT);
    files.iter().take(more).try_for_each(|path| durable::remove_file(path))
}
