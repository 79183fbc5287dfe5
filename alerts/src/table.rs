//! What is known as rows, for SQL: `alerts`, `incidents`, `notifications`, `remediations`, `silences`, `audit`.

use crate::book::Kept;
use model::Timestamp;
use std::collections::BTreeMap;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A text, or none.
    Text(Option<String>),
    /// A time, or none.
    Time(Option<Timestamp>),
    /// A number, or none.
    Number(Option<f64>),
    /// Names and values.
    Labels(BTreeMap<String, String>),
}

/// Rows with the names of their columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Names, each with a cell that shows its type.
    pub columns: Vec<(&'static str, Cell)>,
    /// As many cells as columns, of their types.
    pub rows: Vec<Vec<Cell>>,
}

/// The names of all tables.
pub fn tables() -> [&'static str; 6] {
    ["alerts", "incidents", "notifications", "remediations", "silences", "audit"]
}

fn text(it: impl Into<String>) -> Cell {
    Cell::Text(Some(it.into()))
}

const TEXT: Cell = Cell::Text(None);
const TIME: Cell = Cell::Time(None);
const NUMBER: Cell = Cell::Number(None);
const LABELS: Cell = Cell::Labels(BTreeMap::new());

/// The table of a name.
pub(crate) fn of(kept: &Kept, name: &str) -> Option<Table> {
    Some(match name {
        "alerts" => alerts(kept),
        "incidents" => incidents(kept),
        "notifications" => notifications(kept),
        "remediations" => remediations(kept),
        "silences" => Table {
            columns: vec![
                ("id", TEXT),
                ("matchers", TEXT),
                ("starts", TIME),
                ("ends", TIME),
                ("author", TEXT),
                ("reason", TEXT),
            ],
            rows: kept
                .silences
                .values()
                .map(|it| {
                    vec![
                        text(&it.id),
                        text(&it.matchers),
                        Cell::Time(Some(it.starts)),
                        Cell::Time(Some(it.ends)),
                        text(&it.author),
                        text(&it.reason),
                    ]
                })
                .collect(),
        },
        "audit" => Table {
            columns: vec![("at", TIME), ("who", TEXT), ("what", TEXT)],
            rows: kept
                .audit
                .iter()
                .map(|it| vec![Cell::Time(Some(it.at)), text(&it.who), text(&it.what)])
                .collect(),
        },
        _ => return None,
    })
}

fn alerts(kept: &Kept) -> Table {
    let rows = kept.past.iter().chain(kept.alerts.values()).map(|it| {
        vec![
            text(&it.fingerprint),
            text(&it.rule),
            text(it.standing.phase.name()),
            text(it.severity()),
            Cell::Labels(it.labels.clone()),
            text(it.annotations.get("summary").cloned().unwrap_or_default()),
            Cell::Number(it.value),
            Cell::Time(Some(it.standing.since)),
            Cell::Time(it.standing.fired),
            Cell::Time(it.standing.resolved),
            Cell::Text(it.acknowledged.as_ref().map(|it| it.by.clone())),
            Cell::Text(it.quiet.clone()),
            text(&it.action),
            text(&it.incident),
            text(&it.query),
            text(&it.sql),
        ]
    });
    Table {
        columns: vec![
            ("fingerprint", TEXT),
            ("alertname", TEXT),
            ("state", TEXT),
            ("severity", TEXT),
            ("labels", LABELS),
            ("summary", TEXT),
            ("value", NUMBER),
            ("since", TIME),
            ("fired", TIME),
            ("resolved", TIME),
            ("acknowledged", TEXT),
            ("quiet", TEXT),
            ("action", TEXT),
            ("incident", TEXT),
            ("condition", TEXT),
            ("sql", TEXT),
        ],
        rows: rows.collect(),
    }
}

fn incidents(kept: &Kept) -> Table {
    let rows = kept.incidents.values().map(|it| {
        vec![
            text(&it.id),
            text(&it.service),
            text(&it.title),
            Cell::Time(Some(it.began)),
            Cell::Time(Some(it.detected)),
            Cell::Time(it.ended),
            Cell::Number(it.recovery_seconds()),
            text(&it.cause.kind),
            text(&it.cause.summary),
            text(it.cause.evidence.join("\n")),
            text(it.actions.join("\n")),
            Cell::Text(it.acknowledged.as_ref().map(|it| it.by.clone())),
            text(
                it.alerts
                    .values()
                    .cloned()
                    .collect::<std::collections::BTreeSet<_>>()
                    .into_iter()
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
        ]
    });
    Table {
        columns: vec![
            ("id", TEXT),
            ("service", TEXT),
            ("title", TEXT),
            ("began", TIME),
            ("detected", TIME),
            ("ended", TIME),
            ("recovery_seconds", NUMBER),
            ("cause", TEXT),
            ("cause_summary", TEXT),
            ("evidence", TEXT),
            ("actions", TEXT),
            ("acknowledged", TEXT),
            ("alerts", TEXT),
        ],
        rows: rows.collect(),
    }
}

fn notifications(kept: &Kept) -> Table {
    let rows = kept.delivered.iter().chain(kept.waiting.values()).map(|it| {
        let state = match (it.sent, it.given_up) {
            (Some(_), _) => "sent",
            (None, Some(_)) => "given_up",
            (None, None) => "waiting",
        };
        vec![
            text(&it.key),
            text(&it.receiver),
            text(&it.group),
            text(format!("{:?}", it.reason).to_lowercase()),
            text(state),
            Cell::Number(Some(it.firing as f64)),
            Cell::Number(Some(it.resolved as f64)),
            Cell::Number(Some(f64::from(it.attempts))),
            Cell::Time(Some(it.made)),
            Cell::Time(it.sent),
            Cell::Text(it.error.clone()),
        ]
    });
    Table {
        columns: vec![
            ("key", TEXT),
            ("receiver", TEXT),
            ("group", TEXT),
            ("reason", TEXT),
            ("state", TEXT),
            ("firing", NUMBER),
            ("resolved", NUMBER),
            ("attempts", NUMBER),
            ("made", TIME),
            ("sent", TIME),
            ("error", TEXT),
        ],
        rows: rows.collect(),
    }
}

fn remediations(kept: &Kept) -> Table {
    let rows = kept.remediations.values().flat_map(|run| {
        let head = |step: Option<&crate::StepTaken>| {
            vec![
                text(&run.id),
                text(&run.runbook),
                text(&run.alert),
                text(&run.incident),
                Cell::Time(Some(run.began)),
                Cell::Time(run.ended),
                text(&run.outcome),
                text(&run.detail),
                Cell::Text(step.map(|it| it.name.clone())),
                Cell::Text(step.map(|it| it.kind.clone())),
                Cell::Time(step.map(|it| it.began)),
                Cell::Time(step.and_then(|it| it.ended)),
                Cell::Text(step.map(|it| it.outcome.clone())),
                Cell::Text(step.map(|it| it.detail.clone())),
                Cell::Number(step.and_then(|it| it.before)),
                Cell::Number(step.and_then(|it| it.after)),
            ]
        };
        if run.steps.is_empty() {
            vec![head(None)]
        } else {
            run.steps.iter().map(|it| head(Some(it))).collect::<Vec<_>>()
        }
    });
    Table {
        columns: vec![
            ("id", TEXT),
            ("runbook", TEXT),
            ("alert", TEXT),
            ("incident", TEXT),
            ("began", TIME),
            ("ended", TIME),
            ("outcome", TEXT),
            ("detail", TEXT),
            ("step", TEXT),
            ("kind", TEXT),
            ("step_began", TIME),
            ("step_ended", TIME),
            ("step_outcome", TEXT),
            ("step_detail", TEXT),
            ("before", NUMBER),
            ("after", NUMBER),
        ],
        rows: rows.collect(),
    }
}
