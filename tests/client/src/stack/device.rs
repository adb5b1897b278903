//! A smoltcp device made of two flat packet queues, which keep their memory between batches.

use std::collections::VecDeque;

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// What the sockets may send in one batch; the rest waits in them. A batch fills a few TLS records.
const MAX_BATCH: usize = 256 << 10;

/// Packets, one behind the other in one buffer.
#[derive(Default)]
pub(crate) struct PacketQueue {
    bytes: Vec<u8>,
    lengths: VecDeque<usize>,
    head: usize,
}

impl PacketQueue {
    pub(crate) fn push(&mut self, packet: &[u8]) {
        self.lengths.push_back(packet.len());
        self.bytes.extend_from_slice(packet);
    }

    fn push_with<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let begin = self.bytes.len();
        self.bytes.resize(begin + length, 0);
        self.lengths.push_back(length);
        fill(&mut self.bytes[begin..])
    }

    /// The first packet; the memory is free again when the last was taken.
    pub(crate) fn pop(&mut self) -> Option<&[u8]> {
        let Some(length) = self.lengths.pop_front() else {
            self.bytes.clear();
            self.head = 0;
            return None;
        };
        let begin = self.head;
        self.head += length;
        self.bytes.get(begin..self.head)
    }

    fn waiting(&self) -> usize {
        self.bytes.len() - self.head
    }
}

pub(crate) struct PacketDevice {
    pub(crate) received: PacketQueue,
    pub(crate) sent: PacketQueue,
    mtu: u16,
}

impl PacketDevice {
    pub(crate) fn new(mtu: u16) -> Self {
        Self { received: PacketQueue::default(), sent: PacketQueue::default(), mtu }
    }
}

pub(crate) struct Received<'a>(&'a [u8]);
pub(crate) struct Sent<'a>(&'a mut PacketQueue);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        self.0.push_with(length, f)
    }
}

impl Device for PacketDevice {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _at: Instant) -> Option<(Received<'_>, Sent<'_>)> {
        let packet = self.received.pop()?;
        Some((Received(packet), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _at: Instant) -> Option<Sent<'_>> {
        (self.sent.waiting() < MAX_BATCH).then_some(Sent(&mut self.sent))
    }

    /// Incoming checksums were verified, and counted when wrong, before the packet came here.
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(self.mtu);
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}
