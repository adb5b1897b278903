//! Operations on the server's end of an SSTP call.

use std::time::{Duration, Instant};

use wicket_client::crypto::{BindingHash, Hlak, certificate_hash, compound_mac};
use wicket_client::wire::{self, COMPOUND_MAC};
use wicketgate::sstp::wire::{Error, MAX_PACKET};
use wicketgate::sstp::{
    CertificateHashes, Event, FrameKind, Hashes, HigherLayerKey, Input as Received, Sstp, Strength,
};

use super::input::Input;

const NONCE: [u8; 32] = [0x40; 32];
const CERTIFICATE: &[u8] = b"a certificate";
/// The key of the login.
const KEY: [u8; 32] = *b"the receive key.and the send key";

/// What may wait for an owner that does not drain: the limit for echoes, and all else in as much again.
const MAX_WAITING: usize = 1024;

/// Packets of a client, good and bad, whole and in pieces; time; the login's result; the end of the stream.
pub(crate) fn operations(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let setting = input.byte();
    let hashes = Hashes { sha1: setting & 1 != 0, sha256: setting & 1 == 0 || setting & 2 != 0 };
    let mut call = Call::new(hashes);
    while !input.is_empty() {
        match input.byte() % 15 {
            0 => call.receive(input.long()),
            1 => call.receive(&wire::call_connect_request(u16::from(input.byte()))),
            2 => {
                let packet = call.call_connected(&mut input);
                call.receive(&packet);
            }
            3 => {
                let message = 5 + input.byte() % 2;
                let status = wire::Status { attribute: input.byte(), status: u32::from(input.byte()) };
                call.receive(&wire::ending(message, input.flag().then_some(status)));
            }
            4 => call.receive(&wire::CALL_DISCONNECT_ACK),
            5 => call.receive(&wire::ECHO_REQUEST),
            6 => call.receive(&wire::ECHO_RESPONSE),
            7 => call.receive_frame(&[&[0xFF, 0x03, 0xC0, 0x21][..], input.short()].concat()),
            8 => call.receive_frame(&[&[0x00, 0x21][..], input.short()].concat()),
            9 => call.receive_frame(input.short()),
            10 => call.wait(input.time()),
            11 => call.wait_for_timeout(),
            12 => call.resolve(input.byte()),
            13 if input.flag() => call.both(|sstp, now| sstp.close(now)),
            13 => call.both(|sstp, _| sstp.handle_eof()),
            _ => call.drain(),
        }
        call.check();
    }
    call.end();
}

/// One call twice: `whole` gets every packet at once, `pieces` is offered the first part of each before.
struct Call {
    whole: Sstp,
    pieces: Sstp,
    now: Instant,
    /// What of the stream is not a whole packet yet.
    stream: Vec<u8>,
    started: bool,
    /// A Call Connected was sent that proves [`KEY`].
    proved: bool,
    /// What the first answer to the login accepts: [`KEY`], the zero key.
    accepts: Option<(bool, bool)>,
    ended: bool,
    told: Vec<std::mem::Discriminant<Event>>,
    hashes: Hashes,
}

impl Call {
    fn new(hashes: Hashes) -> Self {
        let mut sha1 = [0; 20];
        sha1.copy_from_slice(&certificate_hash(BindingHash::Sha1, CERTIFICATE)[..20]);
        let certificate = CertificateHashes { sha1, sha256: certificate_hash(BindingHash::Sha256, CERTIFICATE) };
        let now = wicketgate::clock::now();
        Self {
            whole: Sstp::new(hashes, certificate, NONCE, now),
            pieces: Sstp::new(hashes, certificate, NONCE, now),
            now,
            stream: Vec::new(),
            started: false,
            proved: false,
            accepts: None,
            ended: false,
            told: Vec::new(),
            hashes,
        }
    }

    fn both(&mut self, act: impl Fn(&mut Sstp, Instant)) {
        act(&mut self.whole, self.now);
        act(&mut self.pieces, self.now);
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.stream.extend_from_slice(bytes);
        let stream = std::mem::take(&mut self.stream);
        let mut rest = &stream[..];
        while let Ok(Some(length)) = self.receive_packet(rest) {
            rest = &rest[length..];
        }
        self.stream = rest.to_vec();
    }

    /// Takes one packet, first in part, then as a whole.
    fn receive_packet(&mut self, bytes: &[u8]) -> Result<Option<usize>, Error> {
        let finished = self.whole.is_finished();
        let open = self.whole.data_open();
        let started = self.started;
        let whole = self.whole.handle_input(bytes, self.now);
        if let Ok(Some((length, _))) = whole
            && !finished
        {
            assert!(length <= MAX_PACKET);
            for cut in [0, length / 2, length - 1] {
                assert_eq!(self.pieces.handle_input(&bytes[..cut], self.now), Ok(None));
            }
        }
        assert_eq!(self.pieces.handle_input(bytes, self.now), whole);
        if let Ok(Some((_, Received::Frame(frame)))) = whole {
            match FrameKind::of(frame) {
                Some(FrameKind::Network) => assert!(open, "network traffic passes before the binding"),
                Some(FrameKind::Control) => assert!(started, "PPP passes before the call"),
                None => panic!("a frame without a protocol passes"),
            }
        }
        let taken = whole.map(|taken| taken.map(|(length, _)| length));
        self.check();
        taken
    }

    fn receive_frame(&mut self, frame: &[u8]) {
        let mut packet = Vec::new();
        if wire::push_data(&mut packet, frame) {
            self.receive(&packet);
        }
    }

    /// A Call Connected with the key of the login or with the zero key, perhaps with a wrong bit.
    fn call_connected(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let (choice, at) = (input.byte(), usize::from(input.byte()));
        let (hash, length, offered) = match choice & 1 {
            0 => (BindingHash::Sha256, 32, self.hashes.sha256),
            _ => (BindingHash::Sha1, 20, self.hashes.sha1),
        };
        let key = if choice & 2 == 0 { Hlak(KEY) } else { Hlak::ZERO };
        let bit = 1 << (choice >> 5);
        let mut packet = wire::call_connected(hash as u8, &NONCE, &certificate_hash(hash, CERTIFICATE));
        let mut valid = offered && choice & 2 == 0;
        if choice & 4 != 0 {
            // A lie that the MAC covers. Reserved bits and the padding behind a short hash may lie.
            let at = 8 + at % (COMPOUND_MAC - 8);
            packet[at] ^= bit;
            valid &= matches!(at, 8 | 12..=14) || (at == 10 && bit > 0x0F) || (48 + length..COMPOUND_MAC).contains(&at);
        }
        let mac = compound_mac(hash, &key, &packet);
        packet[COMPOUND_MAC..].copy_from_slice(&mac);
        if choice & 8 != 0 {
            packet[COMPOUND_MAC + at % mac.len()] ^= bit;
            valid &= at % mac.len() >= length;
        }
        self.proved |= valid;
        packet.to_vec()
    }

    fn resolve(&mut self, choice: u8) {
        let zero = choice & 1 != 0;
        let key = || match choice & 2 {
            0 => HigherLayerKey::keys(KEY, zero),
            _ => HigherLayerKey::none(),
        };
        if self.started && !self.whole.is_finished() {
            self.accepts = self.accepts.or(Some((choice & 2 == 0, zero || choice & 2 != 0)));
        }
        self.whole.resolve_authentication(key(), self.now);
        self.pieces.resolve_authentication(key(), self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.both(Sstp::handle_timeout);
        let next = self.whole.poll_timeout();
        assert!(next.is_none_or(|(at, _)| at > self.now), "{next:?} is due again at once");
    }

    fn wait_for_timeout(&mut self) {
        if let Some((at, _)) = self.whole.poll_timeout() {
            self.wait(at.saturating_duration_since(self.now));
        }
    }

    /// What waits is well-formed to a strict client.
    fn drain(&mut self) {
        let (mut out, mut same) = (Vec::new(), Vec::new());
        self.whole.poll_transmit(&mut out);
        self.pieces.poll_transmit(&mut same);
        assert_eq!(out, same);
        assert!(out.len() <= MAX_WAITING);
        let mut rest = &out[..];
        while !rest.is_empty() {
            let Ok(Some((wire::Packet::Control(message), tail))) = wire::split(rest) else {
                panic!("{rest:02X?} is not a control packet")
            };
            assert!(wire::Message::parse(message).is_ok(), "{message:02X?}");
            rest = tail;
        }
    }

    fn check(&mut self) {
        assert_eq!(self.whole.poll_timeout(), self.pieces.poll_timeout());
        assert_eq!(self.whole.dropped_frames(), self.pieces.dropped_frames());
        assert!(!self.whole.is_finished() || self.whole.poll_timeout().is_none());
        while let Some(event) = self.whole.poll_event() {
            assert_eq!(self.pieces.poll_event(), Some(event));
            assert!(!self.ended, "{event:?} after the end");
            let kind = std::mem::discriminant(&event);
            assert!(!self.told.contains(&kind), "{event:?} for the second time");
            self.told.push(kind);
            match event {
                Event::CallStarted => self.started = true,
                Event::Bound(Strength::Keys) => assert!(self.proved && self.accepts.is_some_and(|(keys, _)| keys)),
                Event::Bound(Strength::Zero) => assert!(self.accepts.is_some_and(|(_, zero)| zero)),
                Event::Disconnecting { .. } => {}
                Event::Finished(_) => self.ended = true,
            }
        }
        assert_eq!(self.pieces.poll_event(), None);
        assert_eq!(self.ended, self.whole.is_finished());
        let network = self.whole.frame_header(&[0xFF, 0x03, 0x00, 0x21, 0x45]);
        assert_eq!(network.is_some(), self.whole.data_open());
        assert!([&[][..], &[0x00], &[0xC0, 0x20]].iter().all(|odd| self.whole.frame_header(odd).is_none()));
        if self.whole.frame_header(&[0xFF, 0x03, 0xC0, 0x21]).is_some() {
            assert!(self.started && !self.ended);
        }
    }

    /// Whatever happened, a call that is closed ends by its own timers.
    fn end(mut self) {
        self.both(Sstp::close);
        self.check();
        for _ in 0..4 {
            self.wait_for_timeout();
            self.check();
        }
        assert!(self.whole.is_finished() && self.ended, "a closed call does not end");
        self.drain();
    }
}
