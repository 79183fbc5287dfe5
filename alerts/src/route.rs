//! Which receivers are told of an alert, and with which others.

use crate::book::Alert;
use crate::config::AlertsConfig;
use crate::expr::Matcher;
use crate::expr::parse::matchers;
use crate::silence::fits;
use std::collections::BTreeMap;
use std::time::Duration;

/// A route, ready to be used.
#[derive(Debug)]
pub(crate) struct Route {
    matchers: Vec<Matcher>,
    pub(crate) receivers: Vec<String>,
    goes_on: bool,
    group_by: Vec<String>,
    pub(crate) manner: Manner,
    pub(crate) escalation: Option<(Duration, Vec<String>)>,
}

/// When messages of a group go out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) wait: Duration,
    pub(crate) burst: usize,
    pub(crate) interval: Duration,
    pub(crate) repeat: Duration,
}

/// Where an alert goes: route, receiver, and the labels that its group shares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Destination {
    pub(crate) route: usize,
    pub(crate) receiver: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Destination {
    /// The key of its group.
    pub(crate) fn key(&self) -> String {
        let labels: Vec<String> =
            self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{}/{}/{{{}}}", self.route, self.receiver, labels.join(","))
    }
}

/// All routes.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) all: Vec<Route>,
    receivers: Vec<String>,
}

/// The alert that a receiver takes nothing; told to the others.
pub(crate) const RECEIVER_FAILING: &str = "ReceiverFailing";

impl Routes {
    /// The routes of a configuration without faults.
    pub(crate) fn new(config: &AlertsConfig) -> Self {
        let receivers: Vec<String> = config.receiver.iter().map(|it| it.name.clone()).collect();
        let usual = Manner {
            wait: config.group_wait,
            burst: config.group_burst.max(1),
            interval: config.group_interval,
            repeat: config.repeat_interval,
        };
        let mut all: Vec<Route> = config
            .route
            .iter()
            .filter_map(|it| {
                Some(Route {
                    matchers: matchers(&it.matchers).ok()?,
                    receivers: it.receivers.clone(),
                    goes_on: it.goes_on,
                    group_by: it.group_by.clone().unwrap_or_else(|| config.group_by.clone()),
                    manner: Manner {
                        wait: it.group_wait.unwrap_or(usual.wait),
                        burst: usual.burst,
                        interval: it.group_interval.unwrap_or(usual.interval),
                        repeat: it.repeat_interval.unwrap_or(usual.repeat),
                    },
                    escalation: it.escalate_after.map(|after| (after, it.escalate_to.clone())),
                })
            })
            .collect();
        if all.is_empty() {
            all.push(Route {
                matchers: Vec::new(),
                receivers: receivers.clone(),
                goes_on: false,
                group_by: config.group_by.clone(),
                manner: usual,
                escalation: None,
            });
        }
        Self { all, receivers }
    }

    /// Where `alert` goes.
    pub(crate) fn of(&self, alert: &Alert) -> Vec<Destination> {
        let mut found: Vec<Destination> = Vec::new();
        for (at, route) in self.all.iter().enumerate() {
            if !fits(&route.matchers, &alert.labels) {
                continue;
            }
            let pair = |name: &String| Some((name.clone(), alert.labels.get(name)?.clone()));
            let labels: BTreeMap<String, String> = route.group_by.iter().filter_map(pair).collect();
            for receiver in &route.receivers {
                if !found.iter().any(|it| it.receiver == *receiver) {
                    found.push(Destination {
                        route: at,
                        receiver: receiver.clone(),
                        labels: labels.clone(),
                    });
                }
            }
            if !route.goes_on {
                break;
            }
        }
        if alert.rule == RECEIVER_FAILING {
            // Whoever is told of most must hear that another hears nothing.
            let failing = alert.labels.get("receiver").cloned().unwrap_or_default();
            found.retain(|it| it.receiver != failing);
            if found.is_empty() {
                let others = self.receivers.iter().filter(|it| **it != failing);
                found.extend(others.map(|it| Destination {
                    route: 0,
                    receiver: it.clone(),
                    labels: BTreeMap::new(),
                }));
            }
        }
        found
    }
}
