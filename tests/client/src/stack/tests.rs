use super::peer::{PeerStack, SERVICE, SILENT};
use super::*;
use crate::sim::mini::CLIENT;
use crate::tap::Tap;

#[expect(clippy::disallowed_methods, reason = "virtual time needs an origin")]
fn origin() -> Instant {
    Instant::now()
}

/// Both ends and what lies between, in virtual time.
struct Link {
    now: Instant,
    stack: Stack,
    peer: PeerStack,
    tap: Tap,
}

impl Link {
    fn new(settings: TcpSettings) -> Self {
        let now = origin();
        let stack = Stack::new(CLIENT, 1400, settings, 42, now);
        Self { now, stack, peer: PeerStack::new(now), tap: Tap::default() }
    }

    /// Carries packets until both ends are silent, then lets time pass to the next deadline.
    fn step(&mut self) {
        loop {
            self.stack.poll(self.now, true);
            let mut moved = false;
            self.stack.poll_transmit(|packet| {
                moved = true;
                self.tap.outgoing(packet);
                self.peer.handle_packet(packet);
            });
            self.peer.poll(self.now, |packet| {
                moved = true;
                assert!(self.tap.incoming(packet).is_some());
                self.stack.handle_packet(packet);
            });
            self.stack.reap(self.now, |port| self.tap.forget(port));
            if !moved {
                break;
            }
        }
        self.now += Duration::from_millis(10);
    }
}

#[test]
fn megabytes_come_back_unchanged_and_none_twice() {
    let mut link = Link::new(TcpSettings::default());
    let handle = link.stack.connect(SERVICE, 443).unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).map(|index| (index * 7 / 3) as u8).collect();
    let (mut written, mut received) = (0, Vec::new());
    for _ in 0..10_000 {
        link.step();
        let socket = link.stack.socket(handle);
        if socket.may_send() {
            written += socket.send_slice(&sent[written..]).unwrap();
        }
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
        }
        if received.len() == sent.len() {
            break;
        }
    }
    assert!(received == sent, "{} of {}", received.len(), sent.len());
    let counters = link.tap.counters;
    assert_eq!((counters.duplicate_bytes, counters.gaps, counters.faults, counters.resets), (0, 0, 0, 0));
}

#[test]
fn a_closed_port_resets_and_a_silent_address_does_not() {
    let mut link = Link::new(TcpSettings::default());
    let closed = link.stack.connect(SERVICE, 22).unwrap();
    let silent = link.stack.connect(SILENT, 443).unwrap();
    link.step();
    assert_eq!(link.stack.socket(closed).state(), State::Closed);
    assert_eq!(link.stack.socket(silent).state(), State::SynSent);
    assert_eq!(link.tap.counters.resets, 1);
}

#[test]
fn a_released_stream_ends_on_both_sides_and_leaves_nothing() {
    let mut link = Link::new(TcpSettings::default());
    let read = link.stack.connect(SERVICE, 443).unwrap();
    let unread = link.stack.connect(SERVICE, 443).unwrap();
    link.step();
    link.stack.socket(unread).send_slice(b"echo").unwrap();
    link.step();
    assert_eq!((link.stack.socket(unread).recv_queue(), link.peer.open()), (4, 2));
    let now = link.now;
    link.stack.release(read, now);
    link.stack.release(unread, now);
    for _ in 0..3 {
        link.step();
    }
    assert_eq!((link.peer.open(), link.stack.count, link.stack.orphans.len()), (0, 0, 0));
    assert_eq!(link.stack.poll_timeout(link.now), None);
}

#[test]
fn a_stack_that_may_not_send_still_takes_packets() {
    let mut link = Link::new(TcpSettings { ack_delay: None, ..TcpSettings::default() });
    let handle = link.stack.connect(SERVICE, 443).unwrap();
    link.step();
    link.stack.socket(handle).send_slice(b"echo").unwrap();
    link.stack.poll(link.now, false);
    let mut sent = 0;
    link.stack.poll_transmit(|_| sent += 1);
    assert_eq!(sent, 0);
    link.step();
    assert_eq!(link.stack.socket(handle).recv_queue(), 4);
}

#[test]
fn streams_are_bounded() {
    let settings = TcpSettings { receive_buffer: 1024, send_buffer: 1024, ack_delay: None };
    let mut link = Link::new(settings);
    for _ in 0..MAX_STREAMS {
        assert!(link.stack.connect(SILENT, 443).is_some());
    }
    assert_eq!(link.stack.connect(SILENT, 443), None);
}
