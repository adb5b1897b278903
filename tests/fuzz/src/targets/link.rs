//! Operations on the server's end of a PPP link.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wicketgate::ppp::auth::mschapv2::Success;
use wicketgate::ppp::auth::{MAX_NAME, Method, Refusal, Verdict};
use wicketgate::ppp::wire::{Code, ConfigureOption, Frame, MAX_FRAME, Packet, Protocol};
use wicketgate::ppp::{Config, Event, Input as Received, Link, MTU, Seed};

use super::input::Input;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 2);

/// What a link may queue before it is drained.
const MAX_QUEUED: usize = 32;

/// What a client can receive until LCP says otherwise. RFC 1661 6.1.
const DEFAULT_MRU: u16 = 1500;

/// The header of a frame in its one form.
const FRAME_HEADER: usize = 4;

/// Configure-Request, the Challenge of CHAP, the Request of EAP.
const REQUEST: u8 = 1;

const PROTOCOLS: [Protocol; 7] = [
    Protocol::Lcp,
    Protocol::Ipcp,
    Protocol::Pap,
    Protocol::Chap,
    Protocol::Eap,
    Protocol::Ipv4,
    Protocol::Other(0x8057),
];

/// Frames of a client, from whole-hearted answers to anything; time; verdicts; what the owner does.
pub(crate) fn operations(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut peer = Peer::new(methods(input.byte()));
    while !input.is_empty() {
        peer.operate(&mut input);
    }
    peer.end();
}

/// The packets of EAP alone, in a link whose LCP has agreed on it.
pub(crate) fn eap(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut peer = Peer::new(vec![Method::EapMsChapV2, Method::MsChapV2]);
    peer.request(Protocol::Lcp, &[]);
    peer.acknowledge(Protocol::Lcp);
    assert!(peer.last(Protocol::Eap).is_some(), "the Identity Request is out");
    while !input.is_empty() {
        match input.byte() % 8 {
            0 => peer.receive(Protocol::Eap, input.long()),
            1..=4 => peer.answer_eap(&mut input),
            5 => peer.wait(input.time()),
            6 => peer.resolve(input.byte()),
            _ => peer.operate(&mut input),
        }
    }
    peer.end();
}

fn methods(choice: u8) -> Vec<Method> {
    let mut methods = vec![Method::EapMsChapV2, Method::MsChapV2, Method::Pap];
    methods.rotate_left(usize::from(choice >> 4) % 3);
    methods.truncate(usize::from(choice & 3));
    methods
}

/// The client, the clock, the owner, and what none of them may ever see.
struct Peer {
    link: Link,
    now: Instant,
    /// The latest request or challenge of ours for each protocol: identifier, data.
    last: Vec<(Protocol, u8, Vec<u8>)>,
    next_id: u8,
    /// What the client said that it can receive, once we acknowledged it.
    mru: u16,
    drains: bool,
    asked: Option<Method>,
    accepted: bool,
    authenticated: bool,
    refused: bool,
    network: bool,
    finished: bool,
}

impl Peer {
    fn new(methods: Vec<Method>) -> Self {
        let server_name = "sstp.corp.example".to_owned();
        let config = Config { methods, gateway: GATEWAY, client: CLIENT, dns: GATEWAY, server_name };
        let now = wicketgate::clock::now();
        let mut link = Link::new(Arc::new(config), Seed(std::array::from_fn(|at| at as u8 + 1)));
        link.open(now);
        Self {
            link,
            now,
            last: Vec::new(),
            next_id: 1,
            mru: DEFAULT_MRU,
            drains: true,
            asked: None,
            accepted: false,
            authenticated: false,
            refused: false,
            network: false,
            finished: false,
        }
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 => self.receive_frame(input.long()),
            1 => {
                let protocol = PROTOCOLS[usize::from(input.byte()) % PROTOCOLS.len()];
                let (code, id) = (input.byte(), input.byte());
                self.send(protocol, code, id, input.short());
            }
            2 => self.acknowledge(Protocol::Lcp),
            3 => self.acknowledge(Protocol::Ipcp),
            4 => {
                let protocol = if input.flag() { Protocol::Lcp } else { Protocol::Ipcp };
                let code = if input.flag() { Code::ConfigureNak } else { Code::ConfigureReject };
                let id = self.last_id(protocol);
                self.send(protocol, code.number(), id, input.short());
            }
            5 => self.request(Protocol::Lcp, input.short()),
            6 => self.request(Protocol::Ipcp, input.short()),
            // Address, as the server gives it.
            7 => self.request(Protocol::Ipcp, &[3, 6, 198, 18, 7, 2]),
            8 => {
                let mut data = Vec::new();
                for text in [input.short(), input.short()] {
                    data.push(text.len() as u8);
                    data.extend_from_slice(text);
                }
                self.send(Protocol::Pap, 1, input.byte(), &data);
            }
            9 => {
                let data = [&[49; 50][..], input.short()].concat();
                let id = self.last_id(Protocol::Chap);
                self.send(Protocol::Chap, 2, id, &data);
            }
            10 => self.answer_eap(input),
            11 => self.wait(input.time()),
            12 => self.resolve(input.byte()),
            13 => {
                self.link.set_bound(self.now);
                self.check();
            }
            14 if input.byte() == 0 => {
                self.link.close("closed", self.now);
                self.check();
            }
            14 => self.receive_frame(&Frame { protocol: Protocol::Ipv4, information: input.short() }.emit()),
            _ => self.drains = input.flag(),
        }
    }

    /// A Configure-Request of ours is accepted as it is.
    fn acknowledge(&mut self, protocol: Protocol) {
        if let Some((_, id, data)) = self.last(protocol).cloned() {
            self.send(protocol, Code::ConfigureAck.number(), id, &data);
        }
    }

    fn request(&mut self, protocol: Protocol, options: &[u8]) {
        self.next_id = self.next_id.wrapping_add(1);
        self.send(protocol, Code::ConfigureRequest.number(), self.next_id, options);
    }

    /// A Response to the latest Request: an identity, a Nak, or one of the MS-CHAPv2 messages, honest or not.
    fn answer_eap(&mut self, input: &mut Input<'_>) {
        let id = self.last_id(Protocol::Eap);
        let (choice, text) = (input.byte(), input.short());
        let data = match choice % 8 {
            0 => [&[1][..], text].concat(),
            1 => [&[3][..], text].concat(),
            2 => {
                let length = u16::try_from(4 + 50 + text.len()).unwrap_or(u16::MAX).to_be_bytes();
                [&[26, 2, id, length[0], length[1], 49][..], &[7; 49], text].concat()
            }
            3 => vec![26, 3],
            4 => vec![26, 4],
            5 => [&[26, 2][..], text].concat(),
            6 => [&[26][..], text].concat(),
            _ => text.to_vec(),
        };
        self.send(Protocol::Eap, 2, id.wrapping_add(choice >> 7), &data);
    }

    fn send(&mut self, protocol: Protocol, code: u8, id: u8, data: &[u8]) {
        self.receive(protocol, &Packet { code, id, data }.emit());
    }

    fn receive(&mut self, protocol: Protocol, information: &[u8]) {
        self.receive_frame(&Frame { protocol, information }.emit());
    }

    fn receive_frame(&mut self, frame: &[u8]) {
        let up = self.link.is_network_up();
        let before = self.link.counters();
        match self.link.handle_input(frame, self.now) {
            Received::Packet(packet) => {
                assert!(up && self.authenticated, "a packet passes without a login");
                assert!(frame.len() <= MAX_FRAME && frame.ends_with(packet));
            }
            Received::Handled => {}
        }
        if self.finished {
            let after = self.link.counters();
            assert!(after.out_of_phase > before.out_of_phase, "a finished link takes a frame");
        }
        self.check();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.link.handle_timeout(self.now);
        let next = self.link.poll_timeout();
        assert!(next.is_none_or(|(at, _)| at > self.now), "{next:?} is due again at once");
        self.check();
    }

    fn resolve(&mut self, choice: u8) {
        let verdict = match choice % 5 {
            0 => Verdict::Refused(Refusal::Credentials),
            1 => Verdict::Refused(Refusal::Disabled),
            2 => Verdict::Refused(Refusal::NotAllowed),
            3 => Verdict::Accepted(None),
            _ => Verdict::Accepted(Some(Success { authenticator_response: [0xA5; 20], binding_key: [0x5A; 32] })),
        };
        self.drain();
        self.accepted |= match &verdict {
            Verdict::Accepted(success) => self.asked.is_some_and(|method| method == Method::Pap || success.is_some()),
            Verdict::Refused(_) => false,
        };
        self.link.resolve_authentication(verdict, self.now);
        self.check();
    }

    fn last(&self, protocol: Protocol) -> Option<&(Protocol, u8, Vec<u8>)> {
        self.last.iter().find(|(of, ..)| *of == protocol)
    }

    fn last_id(&self, protocol: Protocol) -> u8 {
        self.last(protocol).map_or(0, |(_, id, _)| *id)
    }

    fn check(&mut self) {
        if self.drains {
            self.drain();
        }
    }

    /// Looks at what comes out.
    fn drain(&mut self) {
        for sent in 0.. {
            let Some(frame) = self.link.poll_transmit() else { break };
            assert!(sent < MAX_QUEUED, "more frames wait than may");
            self.hear(&frame);
        }
        for told in 0.. {
            let Some(event) = self.link.poll_event() else { break };
            assert!(told < MAX_QUEUED, "more events wait than may");
            assert!(!self.finished, "{event:?} after the end");
            self.learn(event);
        }
        assert!(self.has_lost() || self.network == self.link.is_network_up(), "network events tell the state");
        assert!(!self.finished || self.link.poll_timeout().is_none());
        assert!((128..=usize::from(MTU)).contains(&self.link.max_packet()));
    }

    /// Whether the link dropped frames or events because nobody drained it.
    fn has_lost(&self) -> bool {
        self.link.counters().overflowed > 0
    }

    /// Our frames have the one form, fit the client, and hold whole packets.
    fn hear(&mut self, bytes: &[u8]) {
        assert!(bytes.starts_with(&[0xFF, 0x03]) && bytes.len() <= MAX_FRAME, "{} bytes", bytes.len());
        let Ok(frame) = Frame::parse(bytes) else { panic!("{bytes:02X?}") };
        let Ok(packet) = Packet::parse(frame.information) else { panic!("{bytes:02X?}") };
        assert_eq!(packet.emit(), frame.information, "nothing stands behind the packet");
        let options = match (frame.protocol, Code::from(packet.code)) {
            (Protocol::Lcp | Protocol::Ipcp, Code::ConfigureRequest | Code::ConfigureAck) => true,
            (Protocol::Lcp | Protocol::Ipcp, Code::ConfigureNak | Code::ConfigureReject) => true,
            (Protocol::Lcp, Code::ProtocolReject | Code::EchoReply) => {
                assert!(bytes.len() <= usize::from(self.mru) + FRAME_HEADER, "{} bytes", bytes.len());
                false
            }
            (_, _) => false,
        };
        if options {
            let Ok(options) = ConfigureOption::parse_all(packet.data) else { panic!("{bytes:02X?}") };
            if (frame.protocol, Code::from(packet.code)) == (Protocol::Lcp, Code::ConfigureAck) {
                let mru = options.iter().find(|option| option.kind == 1).and_then(|option| option.value.first_chunk());
                self.mru = mru.map_or(DEFAULT_MRU, |mru| u16::from_be_bytes(*mru));
            }
        }
        if packet.code == REQUEST {
            self.last.retain(|(of, ..)| *of != frame.protocol);
            self.last.push((frame.protocol, packet.id, packet.data.to_vec()));
        }
    }

    fn learn(&mut self, event: Event) {
        match event {
            Event::Identification(text) => {
                assert!(text.len() <= 128 && text.chars().all(|c| (' '..='~').contains(&c)));
            }
            Event::AuthenticationRequested(proof) => {
                assert!(self.asked.replace(proof.method()).is_none(), "a second login");
                assert!(proof.name().len() <= MAX_NAME);
            }
            Event::Authenticated => {
                assert!(self.accepted && !self.refused && !self.authenticated, "nobody accepted the client");
                self.authenticated = true;
            }
            Event::PasswordRefused(_) => {
                assert!(!self.authenticated && !self.refused);
                self.refused = true;
            }
            Event::NetworkUp { max_packet } => {
                assert!(self.authenticated && (!self.network || self.has_lost()));
                assert!(max_packet <= usize::from(MTU));
                self.network = true;
            }
            Event::NetworkDown => {
                assert!(self.network || self.has_lost());
                self.network = false;
            }
            Event::Finished(_) => self.finished = true,
        }
    }

    /// A link that is closed ends, even when its client says nothing any more.
    fn end(mut self) {
        self.drains = true;
        self.drain();
        self.link.close("closed", self.now);
        self.check();
        for _ in 0..8 {
            if let Some((at, _)) = self.link.poll_timeout() {
                self.wait(at.saturating_duration_since(self.now));
            }
        }
        assert!(self.finished, "a closed link does not end");
        let counters = self.link.counters();
        assert_eq!(self.link.poll_timeout(), None);
        self.receive_frame(&[0xFF, 0x03, 0xC0, 0x21, 9, 1, 0, 8, 0, 0, 0, 0]);
        assert!(self.link.poll_transmit().is_none() && self.link.counters().out_of_phase > counters.out_of_phase);
    }
}
