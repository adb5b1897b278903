//! Why a link ended.

use thiserror::Error;

use super::auth::Refusal;
use super::wire::printable;

/// Marks the reason that Windows puts into a Terminate-Request.
const WINDOWS_REASON: [u8; 4] = [0x00, 0x3C, 0xCD, 0x74];

/// How much of a peer's text is kept.
const MAX_TEXT: usize = 64;

/// Why a link ended; the sentence for the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum End {
    /// The owner called `close`.
    #[error("closed: {reason}")]
    Closed { reason: &'static str },
    /// The client sent a Terminate-Request.
    #[error("the client ended the link: {farewell}")]
    PeerTerminated { farewell: Farewell },
    /// The client does not answer.
    #[error("the client does not answer: {during}")]
    NoAnswer { during: &'static str },
    /// Both sides keep refusing each other's options.
    #[error("{protocol} negotiation does not converge after {rounds} rounds")]
    NotConverging { protocol: &'static str, rounds: u8 },
    /// No authentication method suits both.
    #[error("no common authentication method: client wants {wanted}, server offers {offered}")]
    NoCommonMethod { wanted: String, offered: String },
    /// Nobody answered `AuthenticationRequested` in time.
    #[error("no verdict on the client's proof in time")]
    VerdictLate,
    /// The proof was refused, and the client told so.
    #[error("login refused with error {}", .0.error())]
    Refused(Refusal),
    /// The client negotiated LCP again after it had sent a proof.
    #[error("the client renegotiated LCP after its login")]
    Renegotiated,
    /// The client rejected a protocol or a code that the link cannot do without.
    #[error("the client rejected {protocol}")]
    Rejected { protocol: &'static str },
    /// The client talks, but IPCP did not open in time.
    #[error("IPCP did not open in time")]
    NetworkLate,
    /// The client ended IPCP, the only network protocol.
    #[error("the client ended IPCP")]
    NetworkEnded,
}

impl End {
    /// The text of our Terminate-Request.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Closed { reason } => reason,
            Self::PeerTerminated { .. } => "terminated",
            Self::NoAnswer { .. } => "no answer",
            Self::NotConverging { .. } => "negotiation does not converge",
            Self::NoCommonMethod { .. } => "no common authentication method",
            Self::VerdictLate => "authentication timed out",
            Self::Refused(_) => "authentication failed",
            Self::Renegotiated => "renegotiation refused",
            Self::Rejected { .. } => "required protocol rejected",
            Self::NetworkLate => "IPCP did not open in time",
            Self::NetworkEnded => "no network protocol left",
        }
    }
}

/// What a client says in a Terminate-Request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Farewell {
    /// Windows: 0 when the user hung up, a RAS error otherwise.
    #[error("Windows reason {0}")]
    Windows(u32),
    /// Others: free text, made printable.
    #[error("{0:?}")]
    Text(Box<str>),
}

impl Farewell {
    /// Reads the data of a Terminate-Request.
    pub(super) fn parse(data: &[u8]) -> Self {
        match data {
            [_, _, _, _, mark @ .., a, b, c, d] if mark == WINDOWS_REASON => {
                Self::Windows(u32::from_be_bytes([*a, *b, *c, *d]))
            }
            text => Self::Text(printable(text, MAX_TEXT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_is_a_reason_of_windows_or_a_text() {
        // magic, mark, reason
        let hung_up = [0x08, 0xDD, 0x62, 0x15, 0x00, 0x3C, 0xCD, 0x74, 0x00, 0x00, 0x02, 0xE6];
        assert_eq!(Farewell::parse(&hung_up), Farewell::Windows(742));
        assert_eq!(Farewell::parse(b"User request"), Farewell::Text("User request".into()));
        assert_eq!(Farewell::parse(&hung_up[..11]), Farewell::Text("08DD6215003CCD74000002".into()));
    }

    #[test]
    fn an_end_reads_as_a_sentence() {
        let end = End::NoCommonMethod { wanted: "chap-md5".to_owned(), offered: "eap-mschapv2, mschapv2".to_owned() };
        assert_eq!(
            end.to_string(),
            "no common authentication method: client wants chap-md5, server offers eap-mschapv2, mschapv2"
        );
        assert_eq!(End::Refused(Refusal::Credentials).to_string(), "login refused with error 691");
    }
}
