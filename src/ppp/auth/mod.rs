//! The authentication phase ([RFC 1661] section 3.5): what the client proves, and what the answer to it is.
//!
//! In go the client's PAP, CHAP or EAP packets; out comes one [`Proof`], once. The exchange then parks: it takes no
//! further proof, and continues when a [`Verdict`] is put in. Who the client is, and whether it may come in, is
//! decided elsewhere. RFC 1334 (PAP), RFC 2759 (MS-CHAPv2) and RFC 3748 with draft-kamath-pppext-eap-mschapv2 (EAP)
//! rule the packets.

pub mod mschapv2;

mod chap;
mod eap;
mod pap;

use std::fmt;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use super::outbox::Outbox;
use super::wire::{Malformed, Packet, Protocol, printable};
pub use crate::identity::Method;

/// The longest name that is judged: `DOMAIN\user` and `user@realm` of any real directory are shorter, and it bounds
/// what a stranger can put into the log and the lookup.
pub const MAX_NAME: usize = 256;

/// How long a question may stay unanswered. The client's own timer from Call Connect Ack to the end of authentication
/// is 60 s (MS-SSTP 3.2.2.1), so a later answer would find nobody.
pub const VERDICT_DEADLINE: Duration = Duration::from_secs(50);

/// How long a PAP client, which speaks first, may stay silent; as long as ten unanswered challenges.
const PAP_DEADLINE: Duration = Duration::from_secs(30);

/// How long a challenge or a Success waits for its answer.
const RETRANSMIT: Duration = Duration::from_secs(3);

/// How often a challenge or a Success is sent.
const MAX_TRANSMITS: u8 = 10;

/// The text of a Nak or Failure. It does not tell a wrong password from an unknown name.
const DENIED: &str = "Access denied";

/// Bytes that are never printed, compared in constant time, and wiped when dropped.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes over the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What the client sent to prove who it is. At most one per link.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// PAP.
    Password {
        /// As sent.
        name: Vec<u8>,
        /// As sent.
        password: Secret,
    },
    /// MS-CHAPv2, in CHAP or in EAP; [`mschapv2::verify`] judges it.
    MsChapV2 {
        /// Which of the two.
        method: Method,
        /// As sent in the Response, with its domain if it has one.
        name: Vec<u8>,
        /// Ours.
        challenge: [u8; 16],
        /// The client's.
        peer_challenge: [u8; 16],
        /// The answer to both.
        nt_response: [u8; 24],
    },
}

impl Proof {
    /// The name as sent: raw bytes of a stranger.
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Password { name, .. } | Self::MsChapV2 { name, .. } => name,
        }
    }

    /// How the client logs in.
    pub fn method(&self) -> Method {
        match self {
            Self::Password { .. } => Method::Pap,
            Self::MsChapV2 { method, .. } => *method,
        }
    }
}

/// Challenges and responses are left out: together they allow to guess the password at leisure.
impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof")
            .field("method", &self.method())
            .field("name", &printable(self.name(), MAX_NAME))
            .finish_non_exhaustive()
    }
}

/// The answer to a [`Proof`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let in. For MS-CHAPv2 with what [`mschapv2::verify`] returned; without it the client could not verify us, and
    /// the proof counts as refused.
    Accepted(Option<mschapv2::Success>),
    /// Not let in.
    Refused(Refusal),
}

/// Why a client is not let in, as far as it may know. The numbers are the RAS errors of RFC 2759 section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 691: unknown name or wrong password.
    Credentials,
    /// 647: the account is disabled.
    Disabled,
    /// 649: no permission to dial in.
    NotAllowed,
}

impl Refusal {
    /// The error number which the client shows to its user.
    pub fn error(self) -> u16 {
        match self {
            Self::Credentials => 691,
            Self::Disabled => 647,
            Self::NotAllowed => 649,
        }
    }
}

/// What one link's authentication starts from.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    /// The first identifier.
    pub(super) id: u8,
    /// Ours; a link judges one proof, so it needs one.
    pub(super) challenge: [u8; 16],
    /// Free text that stands in the challenge.
    pub(super) server_name: String,
}

/// What an input did to an exchange.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Ask for a verdict on this.
    Ask(Proof),
    /// Success is queued and, where the method has it, confirmed.
    Accepted,
    /// The Failure or Nak is queued.
    Refused(Refusal),
    /// The client confirmed the failure, and the last word is queued.
    Concluded,
    /// The client wants none of our EAP types, but these.
    Unwanted(Vec<u8>),
    /// The client does not answer.
    NoAnswer,
    /// Nobody answered the question.
    VerdictLate,
}

/// The exchange of the method that LCP agreed on.
#[derive(Debug)]
pub(super) enum Exchange {
    Pap(pap::Pap),
    Chap(chap::Chap),
    Eap(eap::Eap),
}

impl Exchange {
    /// Begins; for CHAP and EAP the first Request is queued.
    pub(super) fn start(method: Method, opening: Opening, now: Instant, out: &mut Outbox) -> Self {
        match method {
            Method::Pap => Self::Pap(pap::Pap::start(&opening, now)),
            Method::MsChapV2 => Self::Chap(chap::Chap::start(opening, now, out)),
            Method::EapMsChapV2 => Self::Eap(eap::Eap::start(opening, now, out)),
        }
    }

    /// The protocol whose packets it takes.
    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Pap(_) => Protocol::Pap,
            Self::Chap(_) => Protocol::Chap,
            Self::Eap(_) => Protocol::Eap,
        }
    }

    pub(super) fn handle_packet(
        &mut self,
        packet: Packet<'_>,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<Option<Outcome>, Malformed> {
        match self {
            Self::Pap(pap) => pap.handle_packet(packet, now, out),
            Self::Chap(chap) => chap.handle_packet(packet, now, out),
            Self::Eap(eap) => eap.handle_packet(packet, now, out),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Option<Outcome> {
        match self {
            Self::Pap(pap) => pap.handle_timeout(now),
            Self::Chap(chap) => chap.handle_timeout(now, out),
            Self::Eap(eap) => eap.handle_timeout(now, out),
        }
    }

    pub(super) fn resolve(&mut self, verdict: &Verdict, now: Instant, out: &mut Outbox) -> Option<Outcome> {
        match self {
            Self::Pap(pap) => pap.resolve(verdict, out),
            Self::Chap(chap) => chap.resolve(verdict, out),
            Self::Eap(eap) => eap.resolve(verdict, now, out),
        }
    }

    /// Says the last word of a failed exchange, when the method has one that is not said yet.
    pub(super) fn give_up(&mut self, out: &mut Outbox) {
        match self {
            Self::Pap(_) | Self::Chap(_) => {}
            Self::Eap(eap) => eap.give_up(out),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self {
            Self::Pap(pap) => pap.poll_timeout(),
            Self::Chap(chap) => chap.poll_timeout(),
            Self::Eap(eap) => eap.poll_timeout(),
        }
    }
}

/// A Request that is repeated until it is answered.
#[derive(Debug)]
struct Retransmission {
    frame: Vec<u8>,
    left: u8,
    deadline: Instant,
}

/// What the clock did to a [`Retransmission`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tick {
    /// It is not time yet, or the Request went out again.
    Waiting,
    /// It went out often enough.
    Exhausted,
}

impl Retransmission {
    fn start(frame: Vec<u8>, now: Instant, out: &mut Outbox) -> Self {
        out.push(frame.clone());
        Self { frame, left: MAX_TRANSMITS - 1, deadline: now + RETRANSMIT }
    }

    fn tick(&mut self, now: Instant, out: &mut Outbox) -> Tick {
        if now < self.deadline {
            return Tick::Waiting;
        }
        let Some(left) = self.left.checked_sub(1) else { return Tick::Exhausted };
        self.left = left;
        self.deadline = now + RETRANSMIT;
        out.push(self.frame.clone());
        Tick::Waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_name_and_no_secret() {
        let password = Proof::Password { name: b"alice".to_vec(), password: Secret::new(*b"hunter2") };
        assert_eq!(format!("{password:?}"), r#"Proof { method: Pap, name: "alice", .. }"#);
        let response = Proof::MsChapV2 {
            method: Method::MsChapV2,
            name: b"CORP\\bob\x1B".to_vec(),
            challenge: [1; 16],
            peer_challenge: [2; 16],
            nt_response: [3; 24],
        };
        assert_eq!(format!("{response:?}"), r#"Proof { method: MsChapV2, name: "434F52505C626F621B", .. }"#);
        assert_eq!(format!("{:?}", Secret::new(*b"hunter2")), "Secret");
    }

    #[test]
    fn secrets_compare_by_content() {
        assert_eq!(Secret::new(*b"same"), Secret::new(*b"same"));
        assert_ne!(Secret::new(*b"same"), Secret::new(*b"some"));
        assert_ne!(Secret::new(*b"same"), Secret::new(*b"sam"));
    }
}
