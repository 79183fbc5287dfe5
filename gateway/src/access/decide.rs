//! Whether a call is granted: token → tool → permission → policy, and, once it is known to be fit, quota. The first that says no gives
//! the reason.

use super::policy::{Policies, Wish};
use super::quota::{Counted, Quota, Quotas};
use super::token::{Claims, Refused};
use crate::config::Permission;
use crate::refusal::Refusal;
use http::StatusCode;
use model::Timestamp;
use std::time::Duration;

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Token(Refused),
    NoToken,
    Tool(String),
    Permission(&'static str),
    Policy(String),
    Quota(String, Duration),
    /// Nobody knows what is granted.
    Unknown(String),
}

impl Denied {
    /// A short constant name, fit for a label value.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Token(Refused::Signature) => "signature",
            Self::Token(Refused::Expired) => "expired",
            Self::NoToken => "no_token",
            Self::Tool(_) => "tool",
            Self::Permission(_) => "permission",
            Self::Policy(_) => "policy",
            Self::Quota(..) => "quota",
            Self::Unknown(_) => "policies_unknown",
        }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let forbidden = |error, reason| Self::new(StatusCode::FORBIDDEN, error, reason);
        match denied {
            Denied::Token(refused @ Refused::Signature) => {
                forbidden("Invalid token signature", refused.to_string())
            }
            Denied::Token(refused @ Refused::Expired) => {
                forbidden("Token expired", refused.to_string())
            }
            Denied::NoToken => forbidden(
                "No token",
                "give an agent's token: agent_token in the body of /api/proxy-request, else Authorization: Bearer".to_owned(),
            ),
            Denied::Tool(tool) => {
                forbidden("Tool not allowed", format!("the token is not good for tool {tool:?}"))
            }
            Denied::Permission(permission) => forbidden(
                "Permission denied",
                format!("the token does not permit to {permission}"),
            ),
            Denied::Policy(reason) => forbidden("Policy denied", reason),
            Denied::Quota(reason, wait) => Self {
                retry_after: Some(wait),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded", reason)
            },
            Denied::Unknown(reason) => Self::unavailable(reason, Duration::from_secs(5)),
        }
    }
}

/// Whether the holder of `claims` may have `wish`.
pub(crate) fn decide(
    claims: &Claims,
    permission: Permission,
    wish: Wish<'_>,
    policies: &Policies,
    now: Timestamp,
) -> Result<(), Denied> {
    let named = |list: &[String], name: &str| list.iter().any(|it| it == name || it == "*");
    if !named(&claims.tools, wish.tool) {
        return Err(Denied::Tool(wish.tool.to_owned()));
    }
    if !named(&claims.permissions, permission.name()) {
        return Err(Denied::Permission(permission.name()));
    }
    policies.check(wish, now).map_err(Denied::Policy)
}

/// Counts what was granted against its quotas.
pub(crate) fn count(
    wish: Wish<'_>,
    policies: &Policies,
    quotas: &Quotas,
    now: Timestamp,
) -> Result<(), Denied> {
    let all: Vec<Quota<'_>> = policies.quotas(wish).collect();
    match quotas.count(wish.agent, &all, now) {
        Counted::Over((name, limit, window), wait) => {
            let reason = format!("{limit} calls of {} in {window:?} are allowed", name.1);
            Err(Denied::Quota(reason, wait))
        }
        Counted::Within | Counted::Uncounted => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::policy::Policy;

    #[test]
    fn the_first_that_says_no_gives_the_reason() {
        let policy: Policy = serde_json::from_value(serde_json::json!({
            "id": "1", "name": "p", "role": "scraper",
            "spec": { "scopes": ["a:x", "b:x"], "quotas": [{ "action": "a:x", "limit": 1, "window": "1m" }] },
        }))
        .unwrap();
        let policies = Policies::new(vec![policy]);
        let quotas = Quotas::default();
        let claims = Claims {
            id: "t".to_owned(),
            agent: "agent".to_owned(),
            role: "scraper".to_owned(),
            tools: vec!["a".to_owned(), "c".to_owned()],
            permissions: vec!["read".to_owned()],
            expires: Timestamp(i64::MAX),
        };
        let decided = |tool, permission, at| {
            let wish =
                Wish { agent: "agent", role: "scraper", tool, action: "x", size: 0, host: None };
            decide(&claims, permission, wish, &policies, Timestamp(at))
                .and_then(|()| count(wish, &policies, &quotas, Timestamp(at)))
                .map_err(|denied| denied.kind())
        };
        assert_eq!(decided("b", Permission::Read, 0), Err("tool"));
        assert_eq!(decided("a", Permission::Write, 0), Err("permission"));
        assert_eq!(decided("c", Permission::Read, 0), Err("policy"));
        assert_eq!(decided("a", Permission::Read, 0), Ok(()));
        assert_eq!(decided("a", Permission::Read, 59_999), Err("quota"));
        assert_eq!(decided("a", Permission::Read, 60_000), Ok(()));
    }
}
