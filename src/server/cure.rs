//! What helps when a connection does not become a session: the end of its line in the log.

use super::login::{Over, Reason};
use crate::identity::authn;
use crate::ppp;
use crate::sstp::{self, BindingFailure, OtherKey};
use crate::tunnel;
use crate::tunnel::driver::Ended;

const ITS_LOG: &str = "the client's own log says why it left";
const ITS_VERSION: &str = "update the client: it does not speak SSTP as MS-SSTP has it";
const THE_NETWORK: &str =
    "look for what holds bytes back between the client and us: a proxy, a firewall, a lost network";
const ITS_ADDRESS: &str = "let the client take an IPv4 address from the server";

/// For a connection on which nobody logged in.
pub(super) fn of_connection(over: &Over) -> &'static str {
    match over {
        Over::Late => THE_NETWORK,
        Over::Revoked => of_login(&Reason::Revoked),
        Over::Tunnel(Ended::Closed | Ended::Socket(_)) => ITS_LOG,
        Over::Tunnel(Ended::Tls(_)) => "nothing may change the bytes of TLS between the client and us",
        Over::Tunnel(Ended::Machine(tunnel::End::Call(end))) => of_call(*end),
        Over::Tunnel(Ended::Machine(tunnel::End::Link(end))) => of_link(end),
    }
}

fn of_call(end: sstp::End) -> &'static str {
    match end {
        sstp::End::ClosedBeforeCall => "let the client trust our certificate's issuer, and dial a name that is in it",
        sstp::End::PeerDisconnected { .. }
        | sstp::End::PeerAborted { .. }
        | sstp::End::ConnectionClosed
        | sstp::End::Closed => ITS_LOG,
        sstp::End::BindingFailed(failure) => of_binding(failure),
        sstp::End::ProtocolViolation(_) | sstp::End::TooManyNaks { .. } | sstp::End::StreamLost(_) => ITS_VERSION,
        sstp::End::NegotiationTimeout { .. } | sstp::End::HelloTimeout => THE_NETWORK,
    }
}

fn of_binding(failure: BindingFailure) -> &'static str {
    match failure {
        BindingFailure::Form | BindingFailure::Nonce => ITS_VERSION,
        BindingFailure::HashProtocol { .. } => "update the client, or add its hash to [tunnel] binding_hash",
        BindingFailure::CertificateHash => {
            "no other device may end TLS between the client and us; if none does, somebody relays this login"
        }
        BindingFailure::CompoundMac { would_match: Some(OtherKey::Zero) } => {
            "update the client, or add its method to [tunnel] zero_binding"
        }
        BindingFailure::CompoundMac {
            would_match: Some(OtherKey::SwappedHalves | OtherKey::ReceiveKeyOnly | OtherKey::SendKeyOnly),
        } => ITS_VERSION,
        BindingFailure::CompoundMac { would_match: None } => {
            "update the client; if it is right with other servers, somebody relays this login"
        }
    }
}

fn of_link(end: &ppp::End) -> &'static str {
    match end {
        ppp::End::NoCommonMethod { .. } => {
            "choose an offered method in the client's profile, or add its method to [tunnel] methods"
        }
        ppp::End::NotConverging { .. } | ppp::End::Rejected { .. } | ppp::End::NetworkEnded => ITS_ADDRESS,
        ppp::End::NoAnswer { .. } | ppp::End::NetworkLate => THE_NETWORK,
        ppp::End::VerdictLate => "this server is overloaded: give it more processors, or fewer sessions",
        ppp::End::PeerTerminated { .. } | ppp::End::Closed { .. } => ITS_LOG,
        ppp::End::Refused(_) => "its own line says what the login lacks",
        ppp::End::Renegotiated => "let the client connect again instead of negotiating its login anew",
    }
}

/// For a login that was refused.
pub(super) fn of_login(reason: &Reason) -> &'static str {
    match reason {
        Reason::Proof(authn::Refusal::UnknownUser) => "correct the name in the client, or `wicketgate user add` it",
        Reason::Proof(authn::Refusal::WrongCredentials) => {
            "correct the password in the client, or set it with `wicketgate user passwd`"
        }
        Reason::Proof(authn::Refusal::BackedOff { .. }) => {
            "wait; if it goes on, find what tries wrong passwords from this address"
        }
        Reason::Proof(authn::Refusal::Disabled) | Reason::Revoked => "`wicketgate user enable`, if it should be",
        Reason::Binding(failure) => of_binding(*failure),
        Reason::Timeout => THE_NETWORK,
        Reason::Abandoned => ITS_LOG,
        Reason::Full(_) => "raise [tunnel] max_sessions, or start another server",
    }
}
