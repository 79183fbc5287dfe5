//! Agents and their tokens.

use super::call::only;
use crate::access::manage;
use crate::access::token::Claims;
use crate::body::Body;
use crate::database::{Agent, DatabaseError};
use crate::refusal::{Refusal, json};
use crate::request::{Caller, DataPlane, bearer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use model::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// A token is good for so long unless it says until when, and no longer than a month.
const USUAL: Duration = Duration::from_secs(3_600);
const LONGEST: Duration = Duration::from_secs(31 * 86_400);
/// DER of an Ed25519 public key, before its 32 bytes (RFC 8410).
const PUBLIC_KEY: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Entries of the lists in a token, and characters of names.
const MOST: usize = 100;

#[derive(Deserialize)]
struct NewAgent {
    name: String,
    created_by: String,
    role: String,
}

#[derive(Deserialize)]
struct NewToken {
    agent_id: String,
    tools: Vec<String>,
    permissions: Vec<String>,
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

impl DataPlane {
    /// Whether the caller may manage agents and policies.
    pub(super) fn may_manage(
        &self,
        request: &Request<Incoming>,
        caller: &Caller,
    ) -> Result<(), Refusal> {
        let token = self.management_token.as_deref();
        let setting = "gateway.management_token_file";
        manage::may(request.headers(), bearer(request), token, caller.peer, setting)
    }
}

impl From<DatabaseError> for Refusal {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Away(_) => Self::unavailable(
                "the database is away; what is known goes on working, this cannot be done",
                Duration::from_secs(5),
            ),
            DatabaseError::Refused(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error", error.to_string())
            }
        }
    }
}

/// `POST /api/create-agent`.
pub(crate) async fn create(
    plane: &Arc<DataPlane>,
    request: Request<Incoming>,
    caller: &Caller,
) -> Result<Response<Body>, Refusal> {
    only(request.method(), &[Method::POST])?;
    plane.may_manage(&request, caller)?;
    let asked: NewAgent = plane.read_json(request.into_body()).await?;
    for (name, value) in
        [("name", &asked.name), ("created_by", &asked.created_by), ("role", &asked.role)]
    {
        if value.is_empty() || value.len() > 200 {
            return Err(Refusal::bad(format!("{name} must have 1 to 200 bytes")));
        }
    }
    let (private_key, public_key) = keys(plane).await?;
    let agent = Agent {
        id: plane.new_id(caller),
        name: asked.name,
        created_by: asked.created_by,
        role: asked.role,
        public_key,
        created: plane.clock.now(),
    };
    plane.directory.add(&plane.database, &agent).await?;
    plane.note(caller, "agent", &agent.id, format!("role {}", agent.role), StatusCode::CREATED, "");
    let text = serde_json::json!({ "agent_id": agent.id, "private_key": private_key });
    Ok(json(StatusCode::CREATED, text.to_string()))
}

/// A key pair in PEM, made on a thread that may block, and not by many at once.
async fn keys(plane: &DataPlane) -> Result<(String, String), Refusal> {
    let broken = |what: &str| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error", what.to_owned())
    };
    let _turn = plane.key_makers.acquire().await.map_err(|_| broken("the gateway ends"))?;
    let made = tokio::task::spawn_blocking(|| {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok()?;
        let public = Ed25519KeyPair::from_pkcs8(pair.as_ref()).ok()?;
        let public = [PUBLIC_KEY.as_slice(), public.public_key().as_ref()].concat();
        Some((pem("PRIVATE KEY", pair.as_ref()), pem("PUBLIC KEY", &public)))
    });
    made.await.ok().flatten().ok_or_else(|| broken("no key could be made"))
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// `POST /api/generate-token`.
pub(crate) async fn token(
    plane: &Arc<DataPlane>,
    request: Request<Incoming>,
    caller: &Caller,
) -> Result<Response<Body>, Refusal> {
    only(request.method(), &[Method::POST])?;
    plane.may_manage(&request, caller)?;
    let asked: NewToken = plane.read_json(request.into_body()).await?;
    let now = plane.clock.now();
    let expires = asked.expires_at.unwrap_or(now.plus(USUAL));
    if expires <= now || expires > now.plus(LONGEST) {
        return Err(Refusal::bad("expires_at must be in the future, and within 31 days"));
    }
    for (name, list) in [("tools", &asked.tools), ("permissions", &asked.permissions)] {
        if list.is_empty() || list.len() > MOST || list.iter().any(|it| it.len() > MOST) {
            return Err(Refusal::bad(format!(
                "{name} must have 1 to {MOST} entries of up to {MOST} bytes"
            )));
        }
    }
    if let Some(unknown) =
        asked.permissions.iter().find(|it| !["read", "write", "*"].contains(&it.as_str()))
    {
        return Err(Refusal::bad(format!("permissions: {unknown:?} is neither read nor write")));
    }
    let agent = plane.directory.agent(&plane.database, &asked.agent_id).await?;
    let agent = agent.ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, "Agent not found.", "create it at /api/create-agent")
    })?;
    let claims = Claims {
        id: plane.new_id(caller),
        agent: agent.id,
        role: agent.role,
        tools: asked.tools,
        permissions: asked.permissions,
        expires,
    };
    let signed = plane.signer.sign(&claims);
    if signed.len() > crate::access::token::LONGEST {
        return Err(Refusal::bad(
            "tools and permissions make the token longer than 8 KiB; give fewer",
        ));
    }
    let subject = format!("token {} for {}", claims.id, claims.tools.join(" "));
    plane.note(caller, "token", &claims.agent, subject, StatusCode::CREATED, "");
    let text = serde_json::json!({
        "agent_token": signed,
        "token_id": claims.id,
        "expires_at": claims.expires,
        "agent_name": agent.name,
    });
    Ok(json(StatusCode::CREATED, text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_pem_of_the_usual_form() {
        let text = pem("PRIVATE KEY", &[7; 83]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (4, "-----BEGIN PRIVATE KEY-----"));
        assert!(lines[1].len() == 64 && lines[2].len() == 48);
    }
}
