//! From the first PPP frame to a proven identity.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq as _;

use super::shared::Shared;
use crate::identity::authn::{self, Proven};
use crate::identity::{Identity, Method, SessionId, Tunnel};
use crate::ppp::auth::mschapv2::{self, NtHash, Success};
use crate::ppp::auth::{Proof, Refusal, Verdict};
use crate::tunnel::driver::{Driver, Ended, Step};
use crate::tunnel::registry::Full;
use crate::{clock, ppp, sstp, tunnel};

/// How long everything from the HTTP head to the assigned address may take: 60 s for Call Connect Request, 60 s for Call
/// Connected (MS-SSTP 3.3.2.1), and 30 s for IPCP. The machines have these deadlines too; this one holds whatever they do.
const LOGIN: Duration = Duration::from_secs(150);

/// With what the name of the computer begins in one of the three Identifications of Windows; the others are its version
/// and a number.
const DEVICE: [&str; 2] = ["MSRAS-0-", "MSRAS-1-"];

/// A login that succeeded and is bound to its connection.
pub(super) struct LoggedIn {
    pub(super) identity: Identity,
    /// What the client says of its device: a hint for the log.
    pub(super) device: Option<Box<str>>,
}

/// Why nobody logged in.
#[derive(Debug)]
pub(super) struct NotLoggedIn {
    /// What ended it.
    pub(super) over: Over,
    /// Who was refused, once somebody gave a proof.
    pub(super) refused: Option<Refused>,
}

/// What ended a login that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Over {
    /// The tunnel did.
    #[error(transparent)]
    Tunnel(#[from] Ended),
    /// It took too long; the tunnel is still there.
    #[error("no login within {LOGIN:?}")]
    Late,
    /// The person may not log in any more; the tunnel is still there.
    #[error("the account was disabled or removed during the login")]
    Revoked,
}

impl Over {
    /// The stable word of metrics.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Tunnel(ended) => ended.word(),
            Self::Late => "timeout",
            Self::Revoked => "disabled",
        }
    }

    /// Where on the path it ended, for logs and metrics.
    pub(super) fn layer(&self) -> &'static str {
        match self {
            Self::Tunnel(Ended::Machine(tunnel::End::Call(_))) => "sstp",
            Self::Tunnel(Ended::Tls(_)) => "tls",
            Self::Tunnel(Ended::Machine(tunnel::End::Link(_)) | Ended::Closed | Ended::Socket(_))
            | Self::Late
            | Self::Revoked => "ppp",
        }
    }

    /// Why a login did not come to its end although its proof was right.
    fn reason(&self) -> Reason {
        match self {
            Self::Late => Reason::Timeout,
            Self::Revoked => Reason::Revoked,
            Self::Tunnel(Ended::Closed | Ended::Socket(_) | Ended::Tls(_)) => Reason::Abandoned,
            Self::Tunnel(Ended::Machine(tunnel::End::Call(end))) => match end {
                sstp::End::BindingFailed(failure) => Reason::Binding(*failure),
                sstp::End::NegotiationTimeout { .. } | sstp::End::HelloTimeout => Reason::Timeout,
                sstp::End::Closed
                | sstp::End::PeerDisconnected { .. }
                | sstp::End::PeerAborted { .. }
                | sstp::End::ClosedBeforeCall
                | sstp::End::ConnectionClosed
                | sstp::End::ProtocolViolation(_)
                | sstp::End::TooManyNaks { .. }
                | sstp::End::StreamLost(_) => Reason::Abandoned,
            },
            Self::Tunnel(Ended::Machine(tunnel::End::Link(end))) => match end {
                ppp::End::NoAnswer { .. } | ppp::End::VerdictLate | ppp::End::NetworkLate => Reason::Timeout,
                ppp::End::Closed { .. }
                | ppp::End::PeerTerminated { .. }
                | ppp::End::NotConverging { .. }
                | ppp::End::NoCommonMethod { .. }
                | ppp::End::Refused(_)
                | ppp::End::Renegotiated
                | ppp::End::Rejected { .. }
                | ppp::End::NetworkEnded => Reason::Abandoned,
            },
        }
    }
}

/// A login that was refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// The name as it was sent, by anybody.
    pub(super) name: Vec<u8>,
    pub(super) method: Method,
    pub(super) reason: Reason,
}

/// Why a login was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Reason {
    /// The proof is not accepted.
    #[error(transparent)]
    Proof(#[from] authn::Refusal),
    /// The proof is right, and the person may not log in any more.
    #[error("the account was disabled or removed during the login")]
    Revoked,
    /// The proof is right, and was not made on this connection.
    #[error("the login is not bound to its connection: {0}")]
    Binding(sstp::BindingFailure),
    /// The proof is right, and the rest took too long.
    #[error("the proof is right, but the login was not completed in time")]
    Timeout,
    /// The proof is right, and the client went away.
    #[error("the proof is right, but the client did not complete the login")]
    Abandoned,
    /// The login is complete, and there is no room for its session.
    #[error(transparent)]
    Full(#[from] Full),
}

impl Reason {
    /// The stable word of audit records.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Proof(authn::Refusal::UnknownUser | authn::Refusal::WrongCredentials) => "credentials",
            Self::Proof(authn::Refusal::BackedOff { .. }) => "locked",
            Self::Proof(authn::Refusal::Disabled) | Self::Revoked => "disabled",
            Self::Binding(_) => "binding",
            Self::Timeout => "timeout",
            Self::Abandoned => "abandoned",
            Self::Full(_) => "full",
        }
    }
}

/// Who gave a right proof.
struct Known {
    proven: Proven,
    /// The name as it was sent.
    name: Vec<u8>,
    method: Method,
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
) -> Result<LoggedIn, NotLoggedIn> {
    let mut device: Option<Box<str>> = None;
    let mut known: Option<Known> = None;
    let mut refused = None;
    let mut late = pin!(tokio::time::sleep(LOGIN));
    let over = loop {
        let step = tokio::select! {
            step = driver.next() => step,
            () = &mut late => break Over::Late,
        };
        match step {
            Step::Login(proof) => {
                let (name, method) = (proof.name().to_vec(), proof.method());
                match judge(shared, &proof, source) {
                    Ok((proven, success)) => {
                        known = Some(Known { proven, name, method });
                        driver.resolve_login(Verdict::Accepted(success));
                    }
                    Err(reason) => {
                        driver.resolve_login(Verdict::Refused(code(reason)));
                        refused = Some(Refused { name, method, reason: reason.into() });
                    }
                }
            }
            Step::Identification(text) => {
                if device.is_none() || DEVICE.iter().any(|prefix| text.starts_with(prefix)) {
                    device = Some(text);
                }
            }
            Step::Up(binding) => {
                // Up means that a login was accepted, so somebody is known.
                let Some(Known { proven, name, method }) = known.take() else { continue };
                shared.login_completed(&proven);
                let tunnel = Tunnel { session, method, binding, source, since: clock::wall() };
                let identity = authn::tunnel_identity(proven, Arc::new(tunnel));
                // The proof may be two minutes old, and the user file newer.
                match authn::renew(&identity, &shared.snapshots.load().users) {
                    Some(identity) => return Ok(LoggedIn { identity, device }),
                    None => {
                        refused = Some(Refused { name, method, reason: Reason::Revoked });
                        break Over::Revoked;
                    }
                }
            }
            // Nobody is known yet, so nothing is visible and nothing is served.
            Step::Stream(stream, _) => drop(stream),
            Step::WorldRefused => {}
            Step::Ended(ended) => break Over::Tunnel(ended),
        }
    };
    let unfinished = known.map(|Known { name, method, .. }| Refused { name, method, reason: over.reason() });
    Err(NotLoggedIn { refused: refused.or(unfinished), over })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_proof_without_a_complete_login_is_recorded_by_what_ended_it() {
        let call = |end| Over::Tunnel(Ended::Machine(tunnel::End::Call(end)));
        let link = |end| Over::Tunnel(Ended::Machine(tunnel::End::Link(end)));
        let awaited = sstp::wire::MessageType::CallConnected;
        for (over, word) in [
            (call(sstp::End::BindingFailed(sstp::BindingFailure::Nonce)), "binding"),
            (call(sstp::End::NegotiationTimeout { awaited }), "timeout"),
            (call(sstp::End::PeerAborted { status: None }), "abandoned"),
            (link(ppp::End::NetworkLate), "timeout"),
            (link(ppp::End::NoAnswer { during: "IPCP" }), "timeout"),
            (link(ppp::End::Renegotiated), "abandoned"),
            (Over::Tunnel(Ended::Closed), "abandoned"),
            (Over::Late, "timeout"),
            (Over::Revoked, "disabled"),
        ] {
            assert_eq!(over.reason().word(), word, "{over}");
        }
    }
}
