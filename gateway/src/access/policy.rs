//! Policies: what the agents of a role, or one agent, are granted. Nothing is granted otherwise.

use ahash::AHashMap;
use model::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// Policies that the gateway holds at most.
pub(crate) const MOST: usize = 10_000;
/// Entries of each list of a policy.
const LONGEST: usize = 1_000;

/// A policy as clients send it and the database keeps it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Policy {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent_id: Option<String>,
    pub(crate) spec: Spec,
}

/// What it grants.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Spec {
    /// `tool:action`; `*` stands for any action, or for all.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) quotas: Vec<QuotaSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schedule: Option<Schedule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) guards: Option<Guards>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) intent: Option<String>,
}

/// So many calls in so much time, for each agent.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct QuotaSpec {
    /// `tool:action`, or `*`.
    pub(crate) action: String,
    pub(crate) limit: u32,
    /// `1m`, `1h`, `24h`, `7d`.
    pub(crate) window: String,
    /// Accepted for old clients: windows are fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reset_strategy: Option<String>,
}

/// When it grants, in UTC.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Schedule {
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timezone: Option<String>,
    /// 0 is Sunday. All days when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) allowed_days: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) allowed_hours: Option<Hours>,
}

/// From the start's hour until before the end's; over midnight when the start is later.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hours {
    pub(crate) start: u8,
    pub(crate) end: u8,
}

/// What a granted call may look like.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Guards {
    /// Bytes of parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_request_size: Option<u64>,
    /// Host names that a `url` may have, with all below them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) allowed_domains: Vec<String>,
    /// Host names that it may not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) blocked_domains: Vec<String>,
}

fn yes() -> bool {
    true
}

impl Policy {
    /// Everything that is wrong with it, each with the remedy.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.name.is_empty() || self.name.len() > 200 {
            faults.push("name must have 1 to 200 bytes".to_owned());
        }
        if self.role.is_some() == self.agent_id.is_some() {
            faults.push("give either role or agentId".to_owned());
        }
        for scope in &self.spec.scopes {
            if scope != "*" && !scope.contains(':') {
                faults.push(format!("spec.scopes: {scope:?} is not of the form tool:action"));
            }
        }
        for quota in &self.spec.quotas {
            if window(&quota.window).is_none() {
                let text = &quota.window;
                faults
                    .push(format!("spec.quotas: window {text:?} is not of the form 1m, 1h or 7d"));
            }
        }
        if let Some(schedule) = &self.spec.schedule {
            if schedule.timezone.as_ref().is_some_and(|zone| zone != "UTC") {
                faults.push("spec.schedule.timezone: only UTC".to_owned());
            }
            if schedule.allowed_days.iter().any(|day| *day > 6) {
                faults.push("spec.schedule.allowedDays: 0 (Sunday) to 6".to_owned());
            }
            if schedule.allowed_hours.is_some_and(|hours| hours.start > 23 || hours.end > 24) {
                faults.push("spec.schedule.allowedHours: start 0 to 23, end 0 to 24".to_owned());
            }
        }
        let guards = self.spec.guards.clone().unwrap_or_default();
        for domain in guards.blocked_domains.iter().chain(&guards.allowed_domains) {
            // One that can never match would grant or deny in silence.
            if host(domain).is_none() {
                faults.push(format!("spec.guards: {domain:?} is no host; write example.org, of which those below are part, or an address"));
            }
        }
        let domains = [guards.blocked_domains.len(), guards.allowed_domains.len()];
        for list in [self.spec.scopes.len(), self.spec.quotas.len()].into_iter().chain(domains) {
            if list > LONGEST {
                faults.push(format!("spec: a list has {list} entries; {LONGEST} are allowed"));
            }
        }
        faults
    }
}

/// What all policies together say, made to be asked often and swapped whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    all: Vec<Policy>,
    roles: AHashMap<String, Vec<usize>>,
    agents: AHashMap<String, Vec<usize>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) agent: &'a str,
    pub(crate) role: &'a str,
    pub(crate) tool: &'a str,
    pub(crate) action: &'a str,
    /// Bytes of parameters, and the host of their `url`: empty when nobody can say, none when there is no `url`.
    pub(crate) size: u64,
    pub(crate) host: Option<&'a str>,
}

impl Policies {
    pub(crate) fn new(all: Vec<Policy>) -> Self {
        let mut policies = Self { all, ..Self::default() };
        for (n, policy) in policies.all.iter().enumerate() {
            if let Some(role) = &policy.role {
                policies.roles.entry(role.clone()).or_default().push(n);
            }
            if let Some(agent) = &policy.agent_id {
                policies.agents.entry(agent.clone()).or_default().push(n);
            }
        }
        policies
    }

    pub(crate) fn all(&self) -> &[Policy] {
        &self.all
    }

    fn of(&self, wish: Wish<'_>) -> impl Iterator<Item = &Policy> {
        let role = self.roles.get(wish.role).into_iter().flatten();
        let agent = self.agents.get(wish.agent).into_iter().flatten();
        role.chain(agent).filter_map(|n| self.all.get(*n))
    }

    /// Whether it is granted at `now`: by any one policy whose guards it meets.
    pub(crate) fn check(&self, wish: Wish<'_>, now: Timestamp) -> Result<(), String> {
        let mut reason = None;
        for policy in self.of(wish) {
            if !policy.spec.scopes.iter().any(|scope| covers(scope, wish)) {
                continue;
            }
            match against(&policy.spec, wish, now) {
                None => return Ok(()),
                Some(why) => reason = Some(format!("policy {:?}: {why}", policy.name)),
            }
        }
        let Wish { tool, action, role, .. } = wish;
        Err(reason.unwrap_or_else(|| {
            let scopes = self.of(wish).flat_map(|policy| &policy.spec.scopes);
            let granted: Vec<&str> = scopes.map(String::as_str).take(20).collect();
            format!(
                "scope {tool}:{action} is not granted to role {role:?}; granted: {}",
                if granted.is_empty() { "nothing".to_owned() } else { granted.join(", ") }
            )
        }))
    }

    /// The quotas that a granted call counts against: policy and action, limit, window.
    pub(crate) fn quotas(
        &self,
        wish: Wish<'_>,
    ) -> impl Iterator<Item = ((&str, &str), u32, Duration)> {
        self.of(wish).flat_map(move |policy| {
            let mine = move |quota: &&QuotaSpec| covers(&quota.action, wish);
            policy.spec.quotas.iter().filter(mine).filter_map(|quota| {
                let name = (policy.id.as_str(), quota.action.as_str());
                Some((name, quota.limit, window(&quota.window)?))
            })
        })
    }
}

/// Whether `scope` stands for what is wished.
fn covers(scope: &str, wish: Wish<'_>) -> bool {
    scope == "*"
        || scope.split_once(':').is_some_and(|(tool, action)| {
            (tool == wish.tool || tool == "*") && (action == wish.action || action == "*")
        })
}

/// What speaks against a call that is in scope.
fn against(spec: &Spec, wish: Wish<'_>, now: Timestamp) -> Option<String> {
    if let Some(schedule) = spec.schedule.as_ref().filter(|it| it.enabled) {
        let seconds = now.millis().div_euclid(1_000);
        // The first of January 1970 was a Thursday.
        let day = u8::try_from((seconds.div_euclid(86_400) + 4).rem_euclid(7)).unwrap_or(0);
        let hour = u8::try_from(seconds.div_euclid(3_600).rem_euclid(24)).unwrap_or(0);
        if !schedule.allowed_days.is_empty() && !schedule.allowed_days.contains(&day) {
            return Some("not on this day of the week (UTC)".to_owned());
        }
        if let Some(Hours { start, end }) = schedule.allowed_hours {
            let within = if start <= end {
                (start..end).contains(&hour)
            } else {
                hour >= start || hour < end
            };
            if !within {
                return Some(format!("only from {start} to {end} o'clock UTC"));
            }
        }
    }
    let guards = spec.guards.as_ref()?;
    if let Some(most) = guards.max_request_size.filter(|most| wish.size > *most) {
        return Some(format!("{} bytes of parameters; {most} are allowed", wish.size));
    }
    if guards.blocked_domains.is_empty() && guards.allowed_domains.is_empty() {
        return None;
    }
    let Some(host) = host(wish.host?) else {
        return Some("where it leads cannot be told, and hosts are guarded".to_owned());
    };
    let below = |domain: &String| {
        let Some(domain) = self::host(domain) else { return false };
        host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
    };
    if guards.blocked_domains.iter().any(below)
        || !guards.allowed_domains.is_empty() && !guards.allowed_domains.iter().any(below)
    {
        return Some(format!("host {host} is not allowed"));
    }
    None
}

/// A host in the one form in which it is compared; none where it may be an address in a form that only some understand.
pub(crate) fn host(text: &str) -> Option<String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(address.to_canonical().to_string());
    }
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    let number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
    let odd = |c: char| !(c.is_alphanumeric() || "-_.".contains(c));
    (!number && !name.starts_with('.') && !name.contains(odd)).then_some(name)
}

/// `30s`, `1m`, `1h`, `7d`; one second to a year.
fn window(text: &str) -> Option<Duration> {
    let duration = model::time::parse_duration(text).ok()?;
    let year = Duration::from_secs(366 * 86_400);
    (duration >= Duration::from_secs(1) && duration <= year).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(spec: serde_json::Value) -> Policies {
        let text = serde_json::json!({ "id": "1", "name": "p", "role": "scraper", "spec": spec });
        let policy: Policy = serde_json::from_value(text).unwrap();
        assert_eq!(policy.faults(), [""; 0]);
        Policies::new(vec![policy])
    }

    #[test]
    fn a_guarded_host_that_can_never_match_is_a_fault() {
        for (domain, fits) in [
            ("example.org", true),
            ("169.254.169.254", true),
            ("::1", true),
            ("*.internal.corp", false),
            (".internal.corp", false),
            ("internal.corp:80", false),
            ("0xA9FEA9FE", false),
        ] {
            let spec =
                serde_json::json!({ "scopes": ["*"], "guards": { "blockedDomains": [domain] } });
            let text = serde_json::json!({ "id": "1", "name": "p", "role": "r", "spec": spec });
            let policy: Policy = serde_json::from_value(text).unwrap();
            assert_eq!(policy.faults().is_empty(), fits, "{domain}: {:?}", policy.faults());
        }
    }

    const WISH: Wish<'static> = Wish {
        agent: "a1",
        role: "scraper",
        tool: "http_fetch",
        action: "get",
        size: 10,
        host: Some("api.example.org"),
    };
    /// Thursday, 10 o'clock.
    const NOW: Timestamp = Timestamp(10 * 3_600_000);

    #[test]
    fn nothing_is_granted_unless_a_policy_says_so() {
        let none = Policies::default().check(WISH, NOW).unwrap_err();
        assert_eq!(
            none,
            "scope http_fetch:get is not granted to role \"scraper\"; granted: nothing"
        );
        for (scopes, granted) in [
            (vec!["http_fetch:get"], true),
            (vec!["serpapi:search", "http_fetch:*"], true),
            (vec!["*"], true),
            (vec!["*:get"], true),
            (vec!["http_fetch:post", "http:get"], false),
        ] {
            let policies = policies(serde_json::json!({ "scopes": scopes }));
            assert_eq!(policies.check(WISH, NOW).is_ok(), granted, "{scopes:?}");
            assert!(policies.check(Wish { role: "other", ..WISH }, NOW).is_err());
        }
    }

    #[test]
    fn guards_and_schedules_narrow_what_is_granted() {
        let granted = |more: serde_json::Value, wish, now| {
            let mut spec = serde_json::json!({ "scopes": ["*"] });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            policies(spec).check(wish, now).map_err(|why| why.replace("policy \"p\": ", ""))
        };
        let size = serde_json::json!({ "guards": { "maxRequestSize": 9 } });
        assert_eq!(
            granted(size, WISH, NOW),
            Err("10 bytes of parameters; 9 are allowed".to_owned())
        );
        let domain = serde_json::json!({ "guards": { "allowedDomains": ["example.org"] } });
        assert_eq!(granted(domain.clone(), WISH, NOW), Ok(()));
        for host in ["example.org.evil.net", "badexample.org", ""] {
            let wish = Wish { host: Some(host), ..WISH };
            assert!(granted(domain.clone(), wish, NOW).is_err(), "{host}");
        }
        let hours = |start, end| serde_json::json!({ "schedule": { "allowedHours": { "start": start, "end": end } } });
        assert_eq!(granted(hours(9, 11), WISH, NOW), Ok(()));
        assert_eq!(granted(hours(22, 11), WISH, NOW), Ok(()));
        assert!(granted(hours(11, 9), WISH, NOW).is_err());
        let days = |days: &[u8]| serde_json::json!({ "schedule": { "allowedDays": days } });
        assert_eq!(granted(days(&[4]), WISH, NOW), Ok(()));
        assert!(granted(days(&[3, 5]), WISH, NOW).is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let policy = |spec: serde_json::Value| {
            serde_json::from_value::<Spec>(spec).map(|spec| {
                let name = "p".to_owned();
                Policy { id: String::new(), name, role: None, agent_id: None, spec }.faults()
            })
        };
        let faults = policy(serde_json::json!({
            "scopes": ["serpapi"],
            "quotas": [{ "action": "*", "limit": 5, "window": "soon" }],
            "schedule": { "timezone": "CET", "allowedDays": [7], "allowedHours": { "start": 24, "end": 3 } },
        }));
        assert_eq!(faults.unwrap().len(), 6);
        let unknown = policy(serde_json::json!({ "scopes": [], "quota": [] })).unwrap_err();
        assert!(unknown.to_string().contains("unknown field `quota`"), "{unknown}");
    }
}
