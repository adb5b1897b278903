//! smoltcp's device: one borrowed packet in, packets out into the owner's buffer.
//!
//! There is no queue here. A packet that arrives is lent to smoltcp for one call; a packet that leaves is written where
//! it will be sent from.

use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IPV4_HEADER_LEN, TcpPacket, TcpSeqNumber};

use super::guard::LARGEST_HEADERS;

/// Where packets go: the tunnel's outgoing buffer, which writes its own headers in front of each.
pub trait PacketSink {
    /// Whether there is room for more. When there is none, the stack keeps what it has; only answers to what arrives
    /// may exceed the limit, by [`Overdraft::LIMIT`] at most.
    fn has_room(&self) -> bool;

    /// Appends one packet of exactly `len` bytes, which `fill` writes.
    fn packet<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// How far answers to incoming packets have gone beyond the sink's limit since it last had room.
///
/// During a download the sink is full most of the time. A name must still resolve then, and a client that never reads
/// must still not make us collect answers without end.
#[derive(Debug, Default)]
pub(super) struct Overdraft {
    used: usize,
}

impl Overdraft {
    /// Bytes: one full TLS record, some fifty names.
    pub(super) const LIMIT: usize = 16 * 1024;

    /// Whether an answer of `len` bytes would be admitted: asked before the work of making it.
    pub(super) fn would_admit(&self, len: usize, sink: &impl PacketSink) -> bool {
        sink.has_room() || self.used.saturating_add(len) <= Self::LIMIT
    }

    /// Whether an answer of `len` bytes may be put into the sink. If not, it is dropped and the client asks again.
    pub(super) fn admits(&mut self, len: usize, sink: &impl PacketSink) -> bool {
        if sink.has_room() {
            self.used = 0;
            return true;
        }
        let used = self.used.saturating_add(len);
        let admitted = used <= Self::LIMIT;
        if admitted {
            self.used = used;
        }
        admitted
    }
}

/// A smoltcp interface for packets of at most `max_packet` bytes.
pub(super) fn interface(max_packet: usize, seed: u64) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let (mut nowhere, mut overdraft) = (Nowhere, Overdraft::default());
    let mut link = Link::new(None, &mut nowhere, &mut overdraft, max_packet);
    let mut interface = Interface::new(config, &mut link, Instant::ZERO);
    // Every address is ours; the guard has already decided which ones exist.
    interface.set_any_ip(true);
    interface
}

/// The device for one call into smoltcp.
pub(super) struct Link<'a, S> {
    input: Option<&'a [u8]>,
    sink: &'a mut S,
    overdraft: &'a mut Overdraft,
    max_packet: usize,
    starved: bool,
    told: Option<Told>,
}

/// What a segment of ours tells the client. smoltcp keeps these numbers to itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// The sequence number behind all that was sent.
    pub(super) end: TcpSeqNumber,
    pub(super) acknowledgment: TcpSeqNumber,
}

impl Told {
    /// A reset tells nothing: some repeat the client's numbers.
    fn by(packet: &[u8]) -> Option<Self> {
        let tcp = TcpPacket::new_checked(packet.get(IPV4_HEADER_LEN..)?).ok()?;
        let end = tcp.seq_number() + tcp.segment_len();
        (!tcp.rst()).then(|| Self { end, acknowledgment: tcp.ack_number() })
    }

    /// What is told after `before` was. A segment that is sent again ends where nothing new does.
    pub(super) fn after(self, before: Option<Self>) -> Self {
        Self { end: before.map_or(self.end, |before| self.end.max(before.end)), ..self }
    }
}

impl<'a, S: PacketSink> Link<'a, S> {
    pub(super) fn new(
        input: Option<&'a [u8]>,
        sink: &'a mut S,
        overdraft: &'a mut Overdraft,
        max_packet: usize,
    ) -> Self {
        Self { input, sink, overdraft, max_packet, starved: false, told: None }
    }

    /// Whether a packet was kept back for lack of room.
    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// What the last segment told, if one was made since this was asked.
    pub(super) fn take_told(&mut self) -> Option<Told> {
        self.told.take()
    }
}

impl<S: PacketSink> Device for Link<'_, S> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outgoing<'t, S>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Outgoing<'_, S>)> {
        let packet = self.input.take()?;
        Some((Received(packet), Outgoing { sink: self.sink, answer: Some(self.overdraft), told: &mut self.told }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_, S>> {
        self.starved = !self.sink.has_room();
        (!self.starved).then_some(Outgoing { sink: self.sink, answer: None, told: &mut self.told })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.max_packet;
        // What arrives was authenticated by TLS, byte by byte; the client's kernel does check what we send.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

/// The packet that arrived.
pub(super) struct Received<'t>(&'t [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Leave to send one packet.
pub(super) struct Outgoing<'t, S> {
    sink: &'t mut S,
    /// Present for an answer to a packet, which needs no room but counts as overdraft.
    answer: Option<&'t mut Overdraft>,
    told: &'t mut Option<Told>,
}

impl<S: PacketSink> TxToken for Outgoing<'_, S> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let fill = |packet: &mut [u8]| {
            let result = f(packet);
            *self.told = Told::by(packet);
            result
        };
        let admitted = self.answer.is_none_or(|overdraft| overdraft.admits(len, self.sink));
        if admitted {
            self.sink.packet(len, fill)
        } else {
            // smoltcp cannot be told that an answer did not leave, so it writes it where nobody reads. Such answers
            // (resets, challenge acknowledgements) are all asked for again by a client that needs them.
            // They have no text.
            match [0; LARGEST_HEADERS].get_mut(..len) {
                Some(nowhere) => fill(nowhere),
                None => fill(&mut vec![0; len]),
            }
        }
    }
}

/// A sink for the interface's construction, which sends nothing.
struct Nowhere;

impl PacketSink for Nowhere {
    fn has_room(&self) -> bool {
        false
    }

    fn packet<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        fill(&mut vec![0; len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_exceed_a_full_sink_by_one_record_only() {
        let mut overdraft = Overdraft::default();
        let granted = std::iter::repeat_with(|| overdraft.admits(1000, &Nowhere)).take(100).filter(|&yes| yes).count();
        assert_eq!(granted, Overdraft::LIMIT / 1000);
        assert!(!overdraft.would_admit(1000, &Nowhere) && overdraft.would_admit(300, &Nowhere));
        assert!(overdraft.admits(300, &Nowhere), "a small answer still fits where a large one does not");
    }
}
