//! Agent tokens: claims as JSON and an HMAC-SHA256 over them, both base64url, joined by a dot. Checking one needs no database.

use ahash::AHashMap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::Timestamp;
use parking_lot::Mutex;
use platform::PlatformError;
use platform::durable;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// A token longer than this is none of ours.
pub(crate) const LONGEST: usize = 8 << 10;

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Claims {
    /// The token's own id.
    pub(crate) id: String,
    /// The agent that it was given to.
    pub(crate) agent: String,
    /// The agent's role at that time.
    pub(crate) role: String,
    /// Tools that it is good for.
    pub(crate) tools: Vec<String>,
    /// `read`, `write`.
    pub(crate) permissions: Vec<String>,
    /// Until when.
    pub(crate) expires: Timestamp,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the token is not of this gateway, or was changed")]
    Signature,
    #[error("the token has expired; ask for a new one at /api/generate-token")]
    Expired,
}

/// Signs and checks. Made from a secret that all gateways of one service share.
#[derive(Debug)]
pub(crate) struct Signer {
    key: hmac::Key,
    /// Tokens that were found to be ours: the same ones come again and again.
    known: Mutex<AHashMap<Box<str>, Arc<Claims>>>,
}

/// Tokens that are known at once; when there are more, all are found out anew.
const KNOWN: usize = 4_096;

impl Signer {
    /// From the secret in `path`, which is made at the first start, readable by its owner alone.
    pub(crate) fn load(path: &Path) -> Result<Self, PlatformError> {
        match std::fs::read(path) {
            Ok(secret) if secret.len() >= 32 => Ok(Self::new(&secret)),
            Ok(_) => Err(PlatformError::Reading {
                what: "the token key",
                cause: format!("{} has less than 32 bytes", path.display()),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut secret = [0; 32];
                SystemRandom::new().fill(&mut secret).map_err(|_| PlatformError::Reading {
                    what: "the system's random numbers",
                    cause: "none came".to_owned(),
                })?;
                durable::replace_private(path, &secret)?;
                Ok(Self::new(&secret))
            }
            Err(error) => Err(PlatformError::Reading {
                what: "the token key",
                cause: format!("{}: {error}", path.display()),
            }),
        }
    }

    pub(crate) fn new(secret: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), known: Mutex::default() }
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let json = serde_json::to_vec(claims).unwrap_or_default();
        let payload = URL_SAFE_NO_PAD.encode(json);
        let tag = hmac::sign(&self.key, payload.as_bytes());
        format!("{payload}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// What `token` says, if it is ours and not over.
    pub(crate) fn check(&self, token: &str, now: Timestamp) -> Result<Arc<Claims>, Refused> {
        let known = self.known.lock().get(token).cloned();
        let claims = match known {
            Some(claims) => claims,
            None => {
                let claims = Arc::new(self.read(token)?);
                let mut known = self.known.lock();
                if known.len() >= KNOWN {
                    known.clear();
                }
                known.insert(token.into(), Arc::clone(&claims));
                claims
            }
        };
        if claims.expires <= now { Err(Refused::Expired) } else { Ok(claims) }
    }

    fn read(&self, token: &str) -> Result<Claims, Refused> {
        let (payload, tag) = token.split_once('.').ok_or(Refused::Signature)?;
        if token.len() > LONGEST {
            return Err(Refused::Signature);
        }
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| Refused::Signature)?;
        hmac::verify(&self.key, payload.as_bytes(), &tag).map_err(|_| Refused::Signature)?;
        let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Refused::Signature)?;
        serde_json::from_slice(&json).map_err(|_| Refused::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_here_is_taken_and_only_until_it_ends() {
        let signer = Signer::new(&[7; 32]);
        let claims = Claims {
            id: "t".to_owned(),
            agent: "a".to_owned(),
            role: "scraper".to_owned(),
            tools: vec!["serpapi".to_owned()],
            permissions: vec!["read".to_owned()],
            expires: Timestamp(1_000),
        };
        let token = signer.sign(&claims);
        assert_eq!(signer.check(&token, Timestamp(999)), Ok(Arc::new(claims)));
        assert_eq!(signer.check(&token, Timestamp(1_000)), Err(Refused::Expired));
        assert_eq!(Signer::new(&[8; 32]).check(&token, Timestamp(0)), Err(Refused::Signature));
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(signer.check(&other, Timestamp(0)), Err(Refused::Signature), "{at}");
        }
        for rubbish in ["", ".", "a.b", "ä.ö"] {
            assert_eq!(signer.check(rubbish, Timestamp(0)), Err(Refused::Signature));
        }
    }

    #[test]
    fn the_secret_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.key");
        Signer::load(&path).unwrap();
        let made = std::fs::read(&path).unwrap();
        Signer::load(&path).unwrap();
        assert_eq!((made.len(), std::fs::read(&path).unwrap()), (32, made));
        durable::replace(&path, b"short").unwrap();
        assert!(Signer::load(&path).unwrap_err().to_string().contains("less than 32 bytes"));
    }
}
