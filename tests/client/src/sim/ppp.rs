//! The PPP half of the client: LCP, the authentication phase, IPCP, and how each kind of client ends a link.

use std::time::Instant;

use super::auth::{Authentication, Step};
use super::habits;
use super::negotiation::{Answer, Refused};
use super::{Call, EARLY_PROBE, Ended, Event, MAX_TERMINATE, Phase, SimClient, Sink, TERMINATE_RESTART, Up};
use crate::crypto::Hlak;
use crate::ip;
use crate::wire::{
    self,
    ppp::{self, ConfigOption, ControlPacket, code, protocol},
};
use crate::{Cheat, ClientKind};

/// Enough to see what was rejected; more means a loop.
const MAX_REJECTED: usize = 16;

impl SimClient {
    pub(super) fn handle_frame(&mut self, frame: &[u8], now: Instant, sink: &mut Sink<'_>) {
        if self.deaf || self.phase == Phase::Dead {
            return;
        }
        let Some((number, information)) = ppp::frame(frame) else {
            return self.broken("a PPP frame without FF 03 or with an impossible protocol", now);
        };
        match number {
            protocol::IPV4 => self.handle_ip(information, now, sink),
            protocol::LCP => self.handle_lcp(information, now),
            protocol::IPCP => self.handle_ipcp(information, now),
            protocol::PAP | protocol::CHAP | protocol::EAP => self.handle_authentication(number, information, now),
            _ => self.handle_unwanted(number, information),
        }
        self.advance(now);
    }

    fn handle_ip(&mut self, packet: &[u8], now: Instant, sink: &mut Sink<'_>) {
        if !matches!(self.call, Call::Connected) {
            self.early_data += 1;
            if self.profile.cheat == Cheat::None {
                return self.broken("IP data before Call Connected", now);
            }
        }
        if self.profile.cheat == Cheat::DataBeforeConnected && ip::is_echo_reply(packet, EARLY_PROBE) {
            self.early_answers += 1;
        }
        if self.phase != Phase::Up {
            return;
        }
        match sink {
            Some(sink) => sink(packet),
            None => self.events.push_back(Event::Packet(packet.to_vec())),
        }
    }

    fn handle_lcp(&mut self, information: &[u8], now: Instant) {
        let Some(packet) = ControlPacket::parse(information) else { return self.broken("a cut LCP packet", now) };
        let opened = self.lcp.opened();
        match packet.code {
            code::CONFIGURE_REQUEST => self.handle_lcp_request(packet, now),
            code::CONFIGURE_ACK => self.handle_ack_of(protocol::LCP, packet, now),
            code::CONFIGURE_NAK | code::CONFIGURE_REJECT => self.handle_refusal_of(protocol::LCP, packet, now),
            code::TERMINATE_REQUEST => self.handle_terminate_request(packet, now),
            code::TERMINATE_ACK => {
                if let Phase::Terminate { tries: 1.., .. } = self.phase {
                    self.terminated(now);
                }
            }
            code::CODE_REJECT if self.profile.client == ClientKind::OpenSstp => {
                self.broken("Code-Reject, which is fatal to Open SSTP Client", now);
            }
            code::CODE_REJECT => {}
            code::PROTOCOL_REJECT => self.handle_protocol_reject(packet, now),
            code::ECHO_REQUEST if opened => {
                let mut data = self.our_magic().to_vec();
                data.extend_from_slice(packet.data.get(4..).unwrap_or_default());
                self.lcp.send(code::ECHO_REPLY, packet.id, &data, &mut self.out);
            }
            code::ECHO_REQUEST | code::ECHO_REPLY | code::DISCARD_REQUEST => {}
            code::IDENTIFICATION | code::TIME_REMAINING if self.profile.client != ClientKind::OpenSstp => {}
            _ => self.broken(format!("LCP code {}", packet.code), now),
        }
    }

    fn handle_lcp_request(&mut self, packet: ControlPacket<'_>, now: Instant) {
        match self.phase {
            Phase::Establish => {}
            Phase::Authenticate => self.phase = Phase::Establish,
            Phase::Dead | Phase::Terminate { .. } => return,
            Phase::Network | Phase::Up => return self.broken("LCP is negotiated again after authentication", now),
        }
        let Some(options) = ConfigOption::parse_all(packet.data) else {
            return self.broken("malformed LCP options", now);
        };
        let answer = habits::answer_lcp(&self.profile, self.our_magic(), &options);
        if answer == Answer::Ack {
            let find = |kind| options.iter().find(|option| option.kind == kind);
            self.asked_to_authenticate = find(habits::lcp::AUTHENTICATION).is_some();
            self.peer_mru = match find(habits::lcp::MRU).map(|option| option.value.as_slice()) {
                Some(&[high, low]) => u16::from_be_bytes([high, low]),
                Some(_) | None => 1500,
            };
        }
        self.lcp.handle_request(packet.id, packet.data, &answer, now, &mut self.out);
    }

    fn handle_ipcp(&mut self, information: &[u8], now: Instant) {
        if !matches!(self.phase, Phase::Network | Phase::Up) {
            return;
        }
        let Some(packet) = ControlPacket::parse(information) else { return self.broken("a cut IPCP packet", now) };
        match packet.code {
            code::CONFIGURE_REQUEST => {
                let Some(options) = ConfigOption::parse_all(packet.data) else {
                    return self.broken("malformed IPCP options", now);
                };
                let answer = habits::answer_ipcp(&options);
                if answer == Answer::Ack {
                    let address = options.iter().find(|option| option.kind == habits::ipcp::ADDRESS);
                    self.gateway = address.and_then(|option| habits::address(&option.value));
                }
                self.ipcp.handle_request(packet.id, packet.data, &answer, now, &mut self.out);
            }
            code::CONFIGURE_ACK => self.handle_ack_of(protocol::IPCP, packet, now),
            code::CONFIGURE_NAK | code::CONFIGURE_REJECT => self.handle_refusal_of(protocol::IPCP, packet, now),
            code::TERMINATE_REQUEST if self.profile.client != ClientKind::OpenSstp => {
                self.ipcp.send(code::TERMINATE_ACK, packet.id, &[], &mut self.out);
                self.hang_up(now);
            }
            _ => self.broken(format!("IPCP code {}", packet.code), now),
        }
    }

    fn handle_ack_of(&mut self, number: u16, packet: ControlPacket<'_>, now: Instant) {
        let layer = if number == protocol::LCP { &mut self.lcp } else { &mut self.ipcp };
        if let Err(what) = layer.handle_ack(packet.id, packet.data) {
            self.broken(what, now);
        }
    }

    fn handle_refusal_of(&mut self, number: u16, packet: ControlPacket<'_>, now: Instant) {
        let Some(options) = ConfigOption::parse_all(packet.data) else {
            return self.broken("malformed options in a Configure-Nak or -Reject", now);
        };
        let layer = if number == protocol::LCP { &mut self.lcp } else { &mut self.ipcp };
        let refused = if packet.code == code::CONFIGURE_NAK {
            layer.handle_nak(packet.id, &options, now, &mut self.out)
        } else {
            layer.handle_reject(packet.id, &options, now, &mut self.out)
        };
        match refused {
            Refused::Again => {}
            Refused::Broken(what) => self.broken(what, now),
        }
    }

    fn handle_authentication(&mut self, number: u16, information: &[u8], now: Instant) {
        if !matches!(self.phase, Phase::Authenticate | Phase::Network | Phase::Up)
            || self.profile.cheat == Cheat::IpcpBeforeAuth
        {
            return;
        }
        let step = self.auth.handle_frame(number, information, &self.profile, &mut self.random);
        let responded = matches!(step, Step::Send { .. });
        self.act(step, now);
        let hlak = self.auth.hlak();
        if responded && self.profile.cheat == Cheat::ConnectedEarly && hlak != Hlak::ZERO {
            self.send_call_connected(&hlak);
        }
    }

    fn act(&mut self, step: Step, now: Instant) {
        match step {
            Step::Nothing => {}
            Step::Send { protocol, information } => {
                wire::push_frame(&mut self.out, protocol, &information);
            }
            Step::Authenticated => self.authenticated(now),
            Step::Refused { code, answer } => {
                if let Some(answer) = answer {
                    wire::push_frame(&mut self.out, protocol::EAP, &answer);
                }
                self.refused = Some(code);
                self.events.push_back(Event::AuthRefused { code });
                self.hang_up(now);
            }
            Step::Broken(what) => self.broken(what, now),
        }
    }

    fn authenticated(&mut self, now: Instant) {
        if self.profile.cheat == Cheat::NeverConnected {
            self.deadline = None;
        } else if self.profile.cheat != Cheat::DataBeforeConnected {
            self.connect_call();
        }
        self.start_network(now);
    }

    fn connect_call(&mut self) {
        self.deadline = None;
        let hlak = self.auth.hlak();
        self.send_call_connected(&hlak);
    }

    fn start_network(&mut self, now: Instant) {
        self.phase = Phase::Network;
        match self.profile.client {
            ClientKind::Windows => {
                self.send_ipv6cp();
                // MPPE is wanted when there are keys; the server is to reject CCP.
                if self.auth.hlak() != Hlak::ZERO {
                    let data = ConfigOption::emit_all(&[ConfigOption::new(18, [0x00, 0x00, 0x00, 0x01])]);
                    let request = ControlPacket { code: code::CONFIGURE_REQUEST, id: 6, data: &data };
                    wire::push_frame(&mut self.out, protocol::CCP, &request.emit());
                }
                self.ipcp.open(now, &mut self.out);
            }
            ClientKind::Pppd => {
                self.ipcp.open(now, &mut self.out);
                self.send_ipv6cp();
            }
            ClientKind::OpenSstp => self.ipcp.open(now, &mut self.out),
        }
    }

    fn send_ipv6cp(&mut self) {
        let data = ConfigOption::emit_all(&[ConfigOption::new(1, self.random.bytes::<8>())]);
        let request = ControlPacket { code: code::CONFIGURE_REQUEST, id: 5, data: &data };
        wire::push_frame(&mut self.out, protocol::IPV6CP, &request.emit());
    }

    /// Moves to the next phase when this one is complete.
    fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Establish if self.lcp.opened() => self.lcp_opened(now),
            Phase::Network if self.ipcp.opened() => self.ipcp_opened(now),
            Phase::Dead
            | Phase::Establish
            | Phase::Authenticate
            | Phase::Network
            | Phase::Up
            | Phase::Terminate { .. } => {}
        }
    }

    fn lcp_opened(&mut self, now: Instant) {
        self.phase = Phase::Authenticate;
        match self.profile.client {
            ClientKind::Windows => {
                self.identify(b"MSRASV5.20");
                self.identify(b"MSRAS-0-TESTHOST");
                let guid: [u8; 16] = self.random.bytes();
                self.identify(&guid);
            }
            ClientKind::Pppd => self.send_lcp_echo(b""),
            ClientKind::OpenSstp => {}
        }
        if matches!(self.profile.cheat, Cheat::IpcpBeforeAuth | Cheat::RefuseAuth) {
            self.connect_call();
            self.start_network(now);
        } else if self.asked_to_authenticate {
            self.auth = Authentication::new(self.profile.method);
            let step = self.auth.open(&self.profile, now);
            self.act(step, now);
        } else {
            self.broken("LCP opened without authentication", now);
        }
    }

    /// RFC 1570 1.1.
    fn identify(&mut self, text: &[u8]) {
        let data = [self.our_magic().as_slice(), text].concat();
        let id = self.lcp.take_id();
        self.lcp.send(code::IDENTIFICATION, id, &data, &mut self.out);
    }

    /// Open SSTP Client puts its text where the magic number belongs.
    pub(super) fn send_lcp_echo(&mut self, text: &[u8]) {
        let magic = self.our_magic();
        let id = self.lcp.take_id();
        self.lcp.send(code::ECHO_REQUEST, id, if text.is_empty() { &magic } else { text }, &mut self.out);
    }

    /// Zero once the server rejected the option.
    fn our_magic(&self) -> [u8; 4] {
        self.lcp.value(habits::lcp::MAGIC).and_then(|value| value.try_into().ok()).unwrap_or_default()
    }

    fn ipcp_opened(&mut self, now: Instant) {
        let Some(address) = self.ipcp.value(habits::ipcp::ADDRESS).and_then(habits::address) else {
            return self.broken("IPCP opened without an address for the client", now);
        };
        let Some(gateway) = self.gateway else {
            return self.broken("IPCP opened without the address of the gateway", now);
        };
        let servers = [habits::ipcp::DNS, habits::ipcp::SECOND_DNS];
        let dns = servers.iter().filter_map(|kind| self.ipcp.value(*kind).and_then(habits::address)).collect();
        let mtu = habits::mtu(self.profile.client).min(self.peer_mru);
        self.phase = Phase::Up;
        self.events.push_back(Event::Up(Up { address, gateway, dns, mtu }));
        if self.profile.cheat == Cheat::DataBeforeConnected {
            self.send_packet(&ip::icmp_echo(address, gateway, EARLY_PROBE, 1));
            self.connect_call();
        }
    }

    /// A protocol we do not speak; answers to our IPV6CP and CCP requests need none.
    fn handle_unwanted(&mut self, number: u16, information: &[u8]) {
        let request = information.first() == Some(&code::CONFIGURE_REQUEST);
        if !self.lcp.opened() || (matches!(number, protocol::IPV6CP | protocol::CCP) && !request) {
            return;
        }
        let data = [number.to_be_bytes().as_slice(), information].concat();
        let id = self.lcp.take_id();
        self.lcp.send(code::PROTOCOL_REJECT, id, &data, &mut self.out);
    }

    fn handle_protocol_reject(&mut self, packet: ControlPacket<'_>, now: Instant) {
        let [high, low, ..] = *packet.data else { return self.broken("a Protocol-Reject without protocol", now) };
        let number = u16::from_be_bytes([high, low]);
        if self.rejected_protocols.len() < MAX_REJECTED {
            self.rejected_protocols.push(number);
        }
        if self.profile.client == ClientKind::OpenSstp {
            self.broken("Protocol-Reject, which is fatal to Open SSTP Client", now);
        } else if !matches!(number, protocol::IPV6CP | protocol::CCP) && self.profile.cheat == Cheat::None {
            self.broken(format!("the server rejects protocol {number:#06x}"), now);
        }
    }

    fn handle_terminate_request(&mut self, packet: ControlPacket<'_>, now: Instant) {
        self.lcp.send(code::TERMINATE_ACK, packet.id, &[], &mut self.out);
        if !matches!(self.phase, Phase::Terminate { .. }) {
            let text = String::from_utf8_lossy(packet.data).into_owned();
            self.events.push_back(Event::TerminateRequested(text));
            self.lcp.stop();
            self.ipcp.stop();
            // The server ends the call; if it does not, we do.
            self.phase = Phase::Terminate { tries: 0, at: now + TERMINATE_RESTART };
        }
    }

    /// Ends the link as this kind of client does.
    pub(super) fn hang_up(&mut self, now: Instant) {
        self.lcp.stop();
        self.ipcp.stop();
        self.deadline = None;
        match self.profile.client {
            ClientKind::Windows | ClientKind::Pppd => self.send_terminate_request(1, now),
            ClientKind::OpenSstp => {
                self.send_call_disconnect(now);
                self.end(Ended::Closed);
            }
        }
    }

    fn send_terminate_request(&mut self, tries: u32, now: Instant) {
        let data = match self.profile.client {
            ClientKind::Windows => [self.our_magic(), [0x00, 0x3C, 0xCD, 0x74], [0; 4]].concat(),
            ClientKind::Pppd | ClientKind::OpenSstp => b"User request".to_vec(),
        };
        let id = self.lcp.take_id();
        self.lcp.send(code::TERMINATE_REQUEST, id, &data, &mut self.out);
        self.phase = Phase::Terminate { tries, at: now + TERMINATE_RESTART };
    }

    /// The link is down; the call follows.
    fn terminated(&mut self, now: Instant) {
        match self.profile.client {
            ClientKind::Windows => self.send_call_disconnect(now),
            ClientKind::Pppd | ClientKind::OpenSstp => self.end(Ended::Closed),
        }
    }

    pub(super) fn handle_ppp_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Terminate { tries, at } if at <= now => match tries {
                1..MAX_TERMINATE => self.send_terminate_request(tries + 1, now),
                _ => self.terminated(now),
            },
            Phase::Dead
            | Phase::Establish
            | Phase::Authenticate
            | Phase::Network
            | Phase::Up
            | Phase::Terminate { .. } => {}
        }
        if !self.lcp.handle_timeout(now, &mut self.out) {
            return self.end(Ended::Timeout("LCP"));
        }
        if !self.ipcp.handle_timeout(now, &mut self.out) {
            return self.end(Ended::Timeout("IPCP"));
        }
        if self.phase == Phase::Authenticate {
            let step = self.auth.handle_timeout(&self.profile, now);
            self.act(step, now);
        }
    }
}
