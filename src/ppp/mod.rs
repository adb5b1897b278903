//! PPP ([RFC 1661]), the server's end: PPP frames to IP packets and back, and a login in between.
//!
//! A [`Link`] walks through the phases of RFC 1661 section 3: Dead, Establish (LCP), Authenticate (PAP, MS-CHAPv2 or
//! EAP-MSCHAPv2), Network (IPCP, IPv4 only) and Terminate. In go frames without HDLC framing, as an SSTP data packet
//! carries them, the time, and a verdict on the client's proof; out come frames, events and the client's IPv4
//! packets. It knows no socket, no clock, no randomness and no account: all chance comes in with the [`Seed`], and who
//! the client is, others decide.
//!
//! # Contract
//!
//! One input, drain everything, next input. An input is [`Link::open`], [`Link::handle_input`],
//! [`Link::handle_timeout`], [`Link::resolve_authentication`], [`Link::set_bound`] or [`Link::close`]. After each,
//! call [`Link::poll_transmit`] and [`Link::poll_event`] until they return `None`, and arm a timer for
//! [`Link::poll_timeout`]. A bad frame is dropped and counted, never fatal. [`Event::Finished`] comes exactly once
//! and last; what is still to be transmitted then should be sent, and afterwards every input is ignored.
//!
//! IP packets towards the client do not pass through the link: the owner puts [`IPV4_HEADER`] in front of each, and
//! keeps it within [`Link::max_packet`].

pub mod auth;
pub mod automaton;
pub mod wire;

mod end;
mod ipcp;
mod layer;
mod lcp;
mod link;
mod outbox;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::Ipv4Addr;

use zeroize::Zeroize as _;

pub use self::end::{End, Farewell};
pub use self::link::Link;

use self::auth::{Method, Proof, Refusal};

/// What stands in front of every IP packet: address, control, and the protocol number of IPv4.
pub const IPV4_HEADER: [u8; 4] = [0xFF, 0x03, 0x00, 0x21];

/// The largest IP packet that is sent to any client: the MTU that Windows gives its SSTP adapter.
pub const MTU: u16 = 1400;

/// What all links of a server share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Offered in this order, each once.
    pub methods: Vec<Method>,
    /// Our address on every link.
    pub gateway: Ipv4Addr,
    /// The client's address on every link.
    pub client: Ipv4Addr,
    /// The DNS server which the client is told.
    pub dns: Ipv4Addr,
    /// The name in our challenges; free text.
    pub server_name: String,
}

/// All randomness of one link: fresh for each, and never shown.
#[derive(Clone)]
pub struct Seed(pub [u8; 64]);

impl Seed {
    /// The first magic number (bytes 0 to 3), then the others (bytes 24 to 63) in turn. Never zero.
    fn magic(&self, number: usize) -> u32 {
        let at = match number.checked_sub(1) {
            None => 0,
            Some(later) => 24 + later % 10 * 4,
        };
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(1, |bytes| u32::from_be_bytes(*bytes).max(1))
    }

    /// Bytes 4 to 19. One is enough: a link judges at most one proof.
    fn challenge(&self) -> [u8; 16] {
        let [_, _, _, _, challenge @ .., _, _, _, _] = self.0.first_chunk::<24>().expect("24 bytes of 64");
        *challenge
    }

    fn lcp_id(&self) -> u8 {
        self.0[20]
    }

    fn authentication_id(&self) -> u8 {
        self.0[21]
    }

    fn ipcp_id(&self) -> u8 {
        self.0[22]
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What a frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// It concerned the link, or nobody.
    Handled,
    /// An IPv4 packet of the client, padding included; only while the network is up.
    Packet(&'a [u8]),
}

/// What the owner has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client described itself (LCP code 12): printable, bounded, and to be believed by nobody.
    Identification(Box<str>),
    /// Answer with [`Link::resolve_authentication`]. At most once.
    AuthenticationRequested(Proof),
    /// The client was accepted, and the Success is queued. At most once.
    Authenticated,
    /// The client was refused, and the Failure is queued. At most once; [`Event::Finished`] follows soon.
    PasswordRefused(Refusal),
    /// IPv4 packets may flow. Comes again after [`Event::NetworkDown`].
    NetworkUp {
        /// As [`Link::max_packet`].
        max_packet: usize,
    },
    /// IPv4 packets may flow no longer.
    NetworkDown,
    /// The link is over. Always the last event.
    Finished(End),
}

/// Frames that changed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames or packets whose bytes are wrong.
    pub malformed: u64,
    /// Frames of a protocol that has no business in this phase.
    pub out_of_phase: u64,
    /// Frames and events of ours that were lost because the owner did not drain.
    pub overflowed: u64,
}
