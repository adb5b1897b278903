//! The bytes that one turn of a tunnel sends: SSTP packets, back to back, ready for TLS.

use crate::netstack::PacketSink;
use crate::{ppp, sstp};

/// What one turn sends at the most, unless answers to what came in need more: four full TLS records.
const SOFT_LIMIT: usize = 64 * 1024;

/// A buffer that is filled and emptied within one turn, and never shrinks: its owner is a thread, not a tunnel.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Valid up to `end`; what stands behind it is old and saves zeroing it again.
    bytes: Vec<u8>,
    end: usize,
    /// The socket is full: nothing new is taken out of the stack.
    blocked: bool,
}

impl Outgoing {
    /// What was put in since [`Outgoing::clear`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// Forgets what was sent.
    pub fn clear(&mut self) {
        self.end = 0;
    }

    /// Whether the outer socket takes no more.
    pub fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// See [`Outgoing::set_blocked`].
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Appends one SSTP data packet.
    pub fn frame(&mut self, header: [u8; sstp::wire::DATA_HEADER], frame: &[u8]) {
        self.grow(header.len() + frame.len(), |space| {
            space[..header.len()].copy_from_slice(&header);
            space[header.len()..].copy_from_slice(frame);
        });
    }

    /// Appends what `write` pushes.
    pub fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.truncate(self.end);
        write(&mut self.bytes);
        self.end = self.bytes.len();
    }

    fn grow<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let end = self.end + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let result = fill(&mut self.bytes[self.end..end]);
        self.end = end;
        result
    }
}

impl PacketSink for Outgoing {
    fn has_room(&self) -> bool {
        !self.blocked && self.end + sstp::wire::MAX_PACKET <= SOFT_LIMIT
    }

    fn packet<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        const HEADER: usize = sstp::wire::DATA_HEADER + ppp::IPV4_HEADER.len();
        let header = sstp::wire::data_header(ppp::IPV4_HEADER.len() + len).expect("the stack keeps to the MTU");
        self.grow(HEADER + len, |space| {
            space[..sstp::wire::DATA_HEADER].copy_from_slice(&header);
            space[sstp::wire::DATA_HEADER..HEADER].copy_from_slice(&ppp::IPV4_HEADER);
            fill(&mut space[HEADER..])
        })
    }
}
