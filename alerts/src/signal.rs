//! What other rooms may tell us: open findings, and rows of a query. The wiring translates; nothing here knows how a
//! finding was computed.

use crate::rule::Level;
use model::Timestamp;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

/// A finding that is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Its id where it was found.
    pub id: String,
    /// What was found, such as `leak`.
    pub kind: String,
    /// How much attention it is worth.
    pub level: Level,
    /// The labels of the series; `metric` is its name.
    pub labels: BTreeMap<String, String>,
    /// One line.
    pub summary: String,
    /// What speaks for it, line by line.
    pub evidence: Vec<String>,
    /// Gives its numbers again.
    pub sql: String,
    /// When it began.
    pub since: Timestamp,
    /// When evidence came last.
    pub updated: Timestamp,
    /// The number that says how bad it is, if there is one.
    pub value: Option<f64>,
}

/// All findings that are open, again and again.
pub type Signals = watch::Receiver<Arc<Vec<Signal>>>;

/// Where they are told.
pub type SignalSender = watch::Sender<Arc<Vec<Signal>>>;

/// A row of a query: its texts as labels, and its number.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Text columns by name.
    pub labels: BTreeMap<String, String>,
    /// The column `value`, or the first number; 1 without.
    pub value: f64,
}

/// Rows, or why there are none.
pub type Asked = Pin<Box<dyn Future<Output = Result<Vec<Row>, String>> + Send>>;

/// Runs a query.
#[derive(Clone)]
pub struct Ask(pub Arc<dyn Fn(String) -> Asked + Send + Sync>);

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ask")
    }
}
