//! Named instants at which a test ends the process as `kill -9` would. Without the feature
//! `crash-points` the call compiles to nothing.

/// The variable that names the point: `NAME` or `NAME:N` for its N-th passing.
pub const VARIABLE: &str = "FORERUNNER_CRASH_AT";

/// Ends the process here if the environment says so.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn pass(_name: &str) {}

/// Ends the process here if the environment says so.
#[cfg(feature = "crash-points")]
pub fn pass(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static CHOSEN: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let chosen = CHOSEN.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), count.parse().unwrap_or(1)))
    });
    if let Some((chosen, count)) = chosen
        && chosen == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        eprintln!("crash point {name}");
        std::process::abort();
    }
}
