//! Frames that wait for the owner to send them.

use std::collections::VecDeque;

use super::wire::{PACKET_HEADER, Packet, Protocol};

/// How many frames may wait. One input queues at most four, and the owner drains after each; more waits only when it
/// does not, and then PPP's own repetitions make up for what is lost.
pub(super) const MAX_FRAMES: usize = 32;

/// RFC 1661 section 6.1: what a peer can receive when it has not said otherwise.
pub(super) const DEFAULT_MRU: u16 = 1500;

/// A bounded queue of complete frames, and the size of the largest that the peer takes.
#[derive(Debug)]
pub(super) struct Outbox {
    frames: VecDeque<Vec<u8>>,
    peer_mru: u16,
    overflowed: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { frames: VecDeque::new(), peer_mru: DEFAULT_MRU, overflowed: 0 }
    }
}

impl Outbox {
    pub(super) fn peer_mru(&self) -> u16 {
        self.peer_mru
    }

    pub(super) fn set_peer_mru(&mut self, mru: u16) {
        self.peer_mru = mru;
    }

    /// How many frames were lost because nobody drained the queue.
    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Queues a complete frame.
    pub(super) fn push(&mut self, frame: Vec<u8>) {
        if self.frames.len() < MAX_FRAMES {
            self.frames.push_back(frame);
        } else {
            self.overflowed = self.overflowed.saturating_add(1);
        }
    }

    /// Queues a packet.
    pub(super) fn send(&mut self, protocol: Protocol, packet: Packet<'_>) {
        self.push(packet.emit_frame(protocol));
    }

    /// Queues a packet that repeats the peer's bytes, cut to the peer's MRU (RFC 1661 sections 5.6 to 5.8).
    pub(super) fn send_cut(&mut self, protocol: Protocol, packet: Packet<'_>) {
        let most = usize::from(self.peer_mru).saturating_sub(PACKET_HEADER);
        self.send(protocol, Packet { data: packet.data.get(..most).unwrap_or(packet.data), ..packet });
    }

    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        self.frames.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_the_newest_and_counts() {
        let mut out = Outbox::default();
        for number in 0..=MAX_FRAMES {
            out.push(vec![u8::try_from(number).unwrap()]);
        }
        assert_eq!(out.overflowed(), 1);
        assert_eq!(out.frames.len(), MAX_FRAMES);
        assert_eq!(out.pop(), Some(vec![0]));
    }
}
