//! What to do about each built-in alert, for links in messages: the pages of `docs/runbook`.

use super::error;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

const PAGES: [(&str, &str); 36] = [
    ("TargetDown", include_str!("../../docs/runbook/TargetDown.md")),
    ("TargetEmpty", include_str!("../../docs/runbook/TargetEmpty.md")),
    ("TargetMetricsGone", include_str!("../../docs/runbook/TargetMetricsGone.md")),
    ("TargetMalformed", include_str!("../../docs/runbook/TargetMalformed.md")),
    ("TargetSlow", include_str!("../../docs/runbook/TargetSlow.md")),
    ("CollectionStopped", include_str!("../../docs/runbook/CollectionStopped.md")),
    ("Leak", include_str!("../../docs/runbook/Leak.md")),
    ("Saturation", include_str!("../../docs/runbook/Saturation.md")),
    ("Capacity", include_str!("../../docs/runbook/Capacity.md")),
    ("CpuDrift", include_str!("../../docs/runbook/CpuDrift.md")),
    ("Anomaly", include_str!("../../docs/runbook/Anomaly.md")),
    ("GatewayNotReady", include_str!("../../docs/runbook/GatewayNotReady.md")),
    ("GatewayDataPlaneHangs", include_str!("../../docs/runbook/GatewayDataPlaneHangs.md")),
    ("GatewayRestartWanted", include_str!("../../docs/runbook/GatewayRestartWanted.md")),
    ("GatewayAuditLost", include_str!("../../docs/runbook/GatewayAuditLost.md")),
    ("HandlesRunOut", include_str!("../../docs/runbook/HandlesRunOut.md")),
    ("ProcessStopped", include_str!("../../docs/runbook/ProcessStopped.md")),
    ("ProcessRestarted", include_str!("../../docs/runbook/ProcessRestarted.md")),
    ("ProcessRestarts", include_str!("../../docs/runbook/ProcessRestarts.md")),
    ("HostMemoryLow", include_str!("../../docs/runbook/HostMemoryLow.md")),
    ("HostDiskFull", include_str!("../../docs/runbook/HostDiskFull.md")),
    ("StoreRefusesSamples", include_str!("../../docs/runbook/StoreRefusesSamples.md")),
    ("StoreDamaged", include_str!("../../docs/runbook/StoreDamaged.md")),
    ("AlertsLate", include_str!("../../docs/runbook/AlertsLate.md")),
    ("AlertsDropped", include_str!("../../docs/runbook/AlertsDropped.md")),
    ("RuleFails", include_str!("../../docs/runbook/RuleFails.md")),
    ("ContainerGone", include_str!("../../docs/runbook/ContainerGone.md")),
    ("ReceiverFailing", include_str!("../../docs/runbook/ReceiverFailing.md")),
    ("RuleWithoutData", include_str!("../../docs/runbook/RuleWithoutData.md")),
    ("RemediationStepUseless", include_str!("../../docs/runbook/RemediationStepUseless.md")),
    ("WatchdogHolds", include_str!("../../docs/runbook/WatchdogHolds.md")),
    ("WatchdogRestartsDoNotHelp", include_str!("../../docs/runbook/WatchdogRestartsDoNotHelp.md")),
    ("GatewayCheckFailed", include_str!("../../docs/runbook/GatewayCheckFailed.md")),
    ("GatewayToolFails", include_str!("../../docs/runbook/GatewayToolFails.md")),
    ("GatewayToolSlow", include_str!("../../docs/runbook/GatewayToolSlow.md")),
    ("GatewayComponentRestarted", include_str!("../../docs/runbook/GatewayComponentRestarted.md")),
];

/// `GET /runbook/{alert}`
pub(crate) async fn page(Path(alert): Path<String>) -> Response {
    match PAGES.iter().find(|(name, _)| *name == alert) {
        Some((_, text)) => {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], *text).into_response()
        }
        None => {
            let text = format!(
                "no page of ours is about {alert}; set the annotation runbook_url in its rule"
            );
            error::problem(StatusCode::NOT_FOUND, &text)
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_built_in_alert_has_a_page() {
        let rules = include_str!("../../alerts/src/rule/built_in.yml");
        let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
        let mut count = 0;
        for name in names {
            count += 1;
            assert!(super::PAGES.iter().any(|(have, _)| *have == name), "{name} has no page");
        }
        assert!(count > 15, "{count}");
        let own = [
            "ReceiverFailing",
            "RuleWithoutData",
            "RemediationStepUseless",
            "StoreRefusesSamples",
            "RuleFails",
            "ContainerGone",
        ];
        for name in own {
            assert!(super::PAGES.iter().any(|(have, _)| *have == name), "{name} has no page");
        }
        for (name, text) in super::PAGES {
            assert!(text.starts_with(&format!("# {name}\n")), "{name}");
        }
    }
}
