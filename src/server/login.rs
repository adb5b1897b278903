//! From the first PPP frame to a proven identity.

use std::net::SocketAddr;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use super::shared::Shared;
use crate::clock;
use crate::identity::authn::{self, Proven};
use crate::identity::{Identity, Method, SessionId, Tunnel};
use crate::ppp::auth::mschapv2::{self, NtHash, Success};
use crate::ppp::auth::{Proof, Refusal, Verdict};
use crate::tunnel::driver::{Driver, Ended, Step};

/// A login that succeeded and is bound to its connection.
pub(super) struct LoggedIn {
    pub(super) identity: Identity,
    /// What the client says of its device: a hint for the log.
    pub(super) device: Option<Box<str>>,
}

/// Why nobody logged in.
#[derive(Debug)]
pub(super) struct NotLoggedIn {
    /// What ended the tunnel.
    pub(super) ended: Ended,
    /// What the person's proof was refused for.
    pub(super) refused: Option<Refused>,
    /// What the client calls this connection.
    pub(super) correlation: Option<Box<str>>,
}

/// A login that was refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// The name as it was sent, by anybody.
    pub(super) name: Vec<u8>,
    pub(super) method: Method,
    pub(super) reason: authn::Refusal,
}

impl Refused {
    /// The stable word of audit records.
    pub(super) fn word(&self) -> &'static str {
        match self.reason {
            authn::Refusal::UnknownUser | authn::Refusal::WrongCredentials => "credentials",
            authn::Refusal::BackedOff { .. } => "locked",
            authn::Refusal::Disabled => "disabled",
        }
    }
}

/// Runs the tunnel until somebody is logged in, bound and addressed, or it ends.
///
/// # Errors
///
/// Why it ended.
pub(super) async fn log_in(
    shared: &Shared,
    driver: &mut Driver,
    session: SessionId,
    source: SocketAddr,
    correlation: Option<&str>,
) -> Result<LoggedIn, NotLoggedIn> {
    let mut device: Option<Box<str>> = None;
    let mut known: Option<(Proven, Method)> = None;
    let mut refused = None;
    loop {
        match driver.next().await {
            Step::Login(proof) => {
                let method = proof.method();
                match judge(shared, &proof, source) {
                    Ok((proven, success)) => {
                        known = Some((proven, method));
                        driver.resolve_login(Verdict::Accepted(success));
                    }
                    Err(reason) => {
                        driver.resolve_login(Verdict::Refused(code(reason)));
                        refused = Some(Refused { name: proof.name().to_vec(), method, reason });
                    }
                }
            }
            Step::Identification(text) => device = Some(text),
            Step::Up(binding) => {
                // Up means that a login was accepted, so somebody is known.
                let Some((proven, method)) = known.take() else { continue };
                let tunnel = Tunnel { session, method, binding, source, since: clock::wall() };
                return Ok(LoggedIn { identity: authn::tunnel_identity(proven, Arc::new(tunnel)), device });
            }
            // Nobody is known yet, so nothing is visible and nothing is served.
            Step::Stream(stream, _) => drop(stream),
            Step::Ended(ended) => return Err(NotLoggedIn { ended, refused, correlation: correlation.map(Into::into) }),
        }
    }
}

/// Asks the user file, with the arithmetic of the proof's method.
fn judge(shared: &Shared, proof: &Proof, source: SocketAddr) -> Result<(Proven, Option<Success>), authn::Refusal> {
    let users = Arc::clone(&shared.snapshots.load().users);
    let mut success = None;
    let proves = |nt_hash: &[u8; 16]| {
        let hash = NtHash::from_bytes(*nt_hash);
        match proof {
            Proof::Password { password, .. } => std::str::from_utf8(password.as_bytes())
                .is_ok_and(|password| bool::from(NtHash::of_password(password).as_bytes().ct_eq(hash.as_bytes()))),
            Proof::MsChapV2 { name, challenge, peer_challenge, nt_response, .. } => {
                success = mschapv2::verify(&hash, name, challenge, peer_challenge, nt_response);
                success.is_some()
            }
        }
    };
    let mut backoff = shared.backoff.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let proven = authn::login(&users, &mut backoff, proof.name(), source.ip(), clock::now(), proves)?;
    Ok((proven, success))
}

fn code(reason: authn::Refusal) -> Refusal {
    match reason {
        authn::Refusal::UnknownUser | authn::Refusal::WrongCredentials | authn::Refusal::BackedOff { .. } => {
            Refusal::Credentials
        }
        authn::Refusal::Disabled => Refusal::Disabled,
    }
}
