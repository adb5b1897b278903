//! A small SSTP server for tests, written from the wire reference: one user, one method, one address.

use std::net::Ipv4Addr;

use crate::crypto::{BindingHash, Hlak, MsChapV2, certificate_hash, compound_mac};
use crate::wire::ppp::{ConfigOption, ControlPacket, frame, protocol};
use crate::wire::{self, Packet};
use crate::{ClientKind, Method};

pub(crate) const CERTIFICATE: &[u8] = b"sstp-wire reference certificate";
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 2);
const CHALLENGE: [u8; 16] = [0x5B; 16];
const NONCE: [u8; 32] = [0x40; 32];

pub(crate) struct MiniServer {
    /// The method first offered; a Nak changes it.
    pub(crate) offer: Method,
    pub(crate) password: &'static str,
    pub(crate) hashes: u8,
    pub(crate) certificate: Vec<u8>,
    /// Send LCP in the same flight as Call Connect Ack.
    pub(crate) hasty: bool,
    /// Withhold Protocol-Reject, which kills one client.
    pub(crate) expects: ClientKind,
    /// Every SSTP packet of the client.
    pub(crate) seen: Vec<Vec<u8>>,
    /// What the check of Call Connected said.
    pub(crate) binding: Option<bool>,
    pub(crate) zero_hlak: bool,
    pub(crate) authenticated: bool,
    pub(crate) connected: bool,
    pub(crate) packets: Vec<Vec<u8>>,
    pub(crate) early: usize,
    pub(crate) closed: bool,
    head: Option<Vec<u8>>,
    input: Vec<u8>,
    out: Vec<u8>,
    exchange: Option<MsChapV2>,
    magic: bool,
    lcp: (bool, bool),
    lcp_id: u8,
}

impl MiniServer {
    pub(crate) fn new(offer: Method) -> Self {
        Self {
            offer,
            password: "clientPass",
            hashes: 2,
            certificate: CERTIFICATE.to_vec(),
            hasty: false,
            expects: ClientKind::Windows,
            seen: Vec::new(),
            binding: None,
            zero_hlak: false,
            authenticated: false,
            connected: false,
            packets: Vec::new(),
            early: 0,
            closed: false,
            head: Some(Vec::new()),
            input: Vec::new(),
            out: Vec::new(),
            exchange: None,
            magic: true,
            lcp: (false, false),
            lcp_id: 0,
        }
    }

    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn send_packet(&mut self, ip: &[u8]) {
        wire::push_frame(&mut self.out, protocol::IPV4, ip);
    }

    pub(crate) fn send(&mut self, number: u16, code: u8, id: u8, data: &[u8]) {
        wire::push_frame(&mut self.out, number, &ControlPacket { code, id, data }.emit());
    }

    pub(crate) fn handle_input(&mut self, bytes: &[u8]) {
        if let Some(head) = &mut self.head {
            head.extend_from_slice(bytes);
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            assert!(head.starts_with(b"SSTP_DUPLEX_POST /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/ HTTP/1.1\r\n"));
            self.input = head.split_off(end + 4);
            self.head = None;
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\nServer: mini\r\n\r\n";
            self.out.extend(head.as_bytes());
        } else {
            self.input.extend_from_slice(bytes);
        }
        loop {
            let input = std::mem::take(&mut self.input);
            let Some((packet, rest)) = wire::split(&input).unwrap() else {
                self.input = input;
                return;
            };
            self.input = rest.to_vec();
            self.seen.push(input[..input.len() - rest.len()].to_vec());
            match packet {
                Packet::Control(_) => self.control(self.seen.last().unwrap().clone()),
                Packet::Data(bytes) => {
                    let (number, information) = frame(bytes).unwrap();
                    self.frame(number, information);
                }
            }
        }
    }

    fn control(&mut self, packet: Vec<u8>) {
        match packet[5] {
            1 => {
                self.out.extend([0x10, 0x01, 0x00, 0x30, 0x00, 0x02, 0x00, 0x01]);
                self.out.extend([0x00, 0x04, 0x00, 0x28, 0x00, 0x00, 0x00, self.hashes]);
                self.out.extend(NONCE);
                if self.hasty {
                    self.lcp_request();
                }
            }
            4 => self.call_connected(&packet),
            5 => self.closed = true,
            6 => {
                self.out.extend(wire::CALL_DISCONNECT_ACK);
                self.closed = true;
            }
            8 => self.out.extend(wire::ECHO_RESPONSE),
            _ => {}
        }
    }

    fn hlak(&self) -> Hlak {
        self.exchange.as_ref().filter(|_| !self.zero_hlak).map_or(Hlak::ZERO, MsChapV2::hlak)
    }

    fn call_connected(&mut self, packet: &[u8]) {
        let hash = if self.hashes & 2 != 0 { BindingHash::Sha256 } else { BindingHash::Sha1 };
        let mut wanted = wire::call_connected(hash as u8, &NONCE, &certificate_hash(hash, &self.certificate));
        let mac = compound_mac(hash, &self.hlak(), &wanted);
        wanted[wire::COMPOUND_MAC..].copy_from_slice(&mac);
        let good = packet == wanted && self.authenticated && self.binding.is_none();
        self.binding = Some(good);
        self.connected = good;
        if !good {
            self.out.extend(wire::ending(5, Some(wire::Status { attribute: 3, status: 4 })));
        }
    }

    pub(crate) fn lcp_request(&mut self) {
        self.lcp_id += 1;
        let method = super::habits::authentication(self.offer);
        let mut options = vec![ConfigOption::new(3, method), ConfigOption::new(1, [0x05, 0xDC])];
        if self.magic {
            options.push(ConfigOption::new(5, [0x11, 0x22, 0x33, 0x44]));
        }
        self.send(protocol::LCP, 1, self.lcp_id, &ConfigOption::emit_all(&options));
    }

    fn frame(&mut self, number: u16, information: &[u8]) {
        if number == protocol::IPV4 {
            match self.connected {
                true => self.packets.push(information.to_vec()),
                false => self.early += 1,
            }
            return;
        }
        let packet = ControlPacket::parse(information).unwrap();
        match number {
            protocol::LCP => self.lcp(packet),
            protocol::IPCP => self.ipcp(packet),
            protocol::PAP => self.pap(packet),
            protocol::CHAP => self.chap(packet),
            protocol::EAP => self.eap(packet),
            _ if self.expects != ClientKind::OpenSstp => {
                let data = [&number.to_be_bytes(), information].concat();
                self.send(protocol::LCP, 8, 0x80, &data);
            }
            _ => {}
        }
    }

    fn lcp(&mut self, packet: ControlPacket<'_>) {
        let options = ConfigOption::parse_all(packet.data);
        match packet.code {
            1 => {
                let first = self.lcp_id == 0;
                let (keep, reject): (Vec<_>, Vec<_>) =
                    options.unwrap().into_iter().partition(|option| matches!(option.kind, 1 | 2 | 5));
                self.lcp.1 = reject.is_empty();
                if reject.is_empty() {
                    self.send(protocol::LCP, 2, packet.id, &ConfigOption::emit_all(&keep));
                } else {
                    self.send(protocol::LCP, 4, packet.id, &ConfigOption::emit_all(&reject));
                }
                if first {
                    self.lcp_request();
                }
            }
            2 => self.lcp.0 = packet.id == self.lcp_id,
            3 => {
                for option in options.unwrap() {
                    self.offer = match (option.kind, option.value.as_slice()) {
                        (3, [0xC0, 0x23]) => Method::Pap,
                        (3, [0xC2, 0x23, 0x81]) => Method::MsChapV2,
                        (3, [0xC2, 0x27]) => Method::EapMsChapV2,
                        other => panic!("Nak of {other:?}"),
                    };
                }
                self.lcp_request();
            }
            4 => {
                self.magic = options.unwrap().iter().all(|option| option.kind != 5);
                self.lcp_request();
            }
            5 => self.send(protocol::LCP, 6, packet.id, b""),
            9 => self.send(protocol::LCP, 10, packet.id, packet.data),
            _ => {}
        }
        if self.lcp == (true, true) && self.exchange.is_none() && matches!(packet.code, 1 | 2) {
            self.ask();
        }
    }

    fn ask(&mut self) {
        match self.offer {
            Method::Pap => {}
            Method::MsChapV2 => self.send(protocol::CHAP, 1, 0x10, &challenge()),
            Method::EapMsChapV2 => self.send(protocol::EAP, 1, 0x20, &[1]),
        }
    }

    fn pap(&mut self, packet: ControlPacket<'_>) {
        let [n, rest @ ..] = packet.data else { panic!("PAP") };
        let (_, password) = rest.split_at(usize::from(*n));
        self.authenticated = &password[1..] == self.password.as_bytes();
        self.send(protocol::PAP, if self.authenticated { 2 } else { 3 }, packet.id, &[0]);
    }

    /// The verdict on a Response: text, and whether it is good.
    fn judge(&mut self, response: &[u8]) -> (Vec<u8>, bool) {
        assert_eq!(response[0], 49);
        let peer = response[1..17].try_into().unwrap();
        let exchange = MsChapV2::respond(&response[50..], self.password, &CHALLENGE, &peer);
        let good = response[25..49] == exchange.nt_response;
        let text = if good {
            format!("{} M=ok", exchange.authenticator_response)
        } else {
            "E=691 R=0 C=5B5B5B5B5B5B5B5B5B5B5B5B5B5B5B5B V=3 M=Access denied".into()
        };
        self.exchange = Some(exchange);
        (text.into_bytes(), good)
    }

    fn chap(&mut self, packet: ControlPacket<'_>) {
        assert_eq!((packet.code, packet.id), (2, 0x10));
        let (text, good) = self.judge(packet.data);
        self.authenticated = good;
        self.send(protocol::CHAP, if good { 3 } else { 4 }, 0x10, &text);
    }

    fn eap(&mut self, packet: ControlPacket<'_>) {
        assert_eq!(packet.code, 2);
        let request = |code, data: &[u8]| [&[26][..], &ControlPacket { code, id: 0x10, data }.emit()].concat();
        match packet.data {
            [1, ..] => self.send(protocol::EAP, 1, 0x21, &request(1, &challenge())),
            [26, 2, _, _, _, response @ ..] => {
                let (text, good) = self.judge(response);
                self.send(protocol::EAP, 1, 0x22, &request(if good { 3 } else { 4 }, &text));
            }
            [26, 3] => {
                self.authenticated = true;
                self.send(protocol::EAP, 3, packet.id, b"");
            }
            [26, 4] => self.send(protocol::EAP, 4, packet.id, b""),
            other => panic!("EAP {other:?}"),
        }
    }

    fn ipcp(&mut self, packet: ControlPacket<'_>) {
        if packet.code != 1 {
            return;
        }
        let options = ConfigOption::parse_all(packet.data).unwrap();
        let reject: Vec<_> = options.iter().filter(|option| !matches!(option.kind, 3 | 129)).cloned().collect();
        let mut nak = Vec::new();
        for (kind, address) in [(3, CLIENT), (129, GATEWAY)] {
            if options.iter().any(|option| option.kind == kind && option.value != address.octets()) {
                nak.push(ConfigOption::new(kind, address.octets()));
            }
        }
        let gateway = ConfigOption::emit_all(&[ConfigOption::new(3, GATEWAY.octets())]);
        if packet.id == 1 {
            self.send(protocol::IPCP, 1, 1, &gateway);
        }
        match (reject.is_empty(), nak.is_empty()) {
            (false, _) => self.send(protocol::IPCP, 4, packet.id, &ConfigOption::emit_all(&reject)),
            (true, false) => self.send(protocol::IPCP, 3, packet.id, &ConfigOption::emit_all(&nak)),
            (true, true) => self.send(protocol::IPCP, 2, packet.id, packet.data),
        }
    }
}

fn challenge() -> Vec<u8> {
    [&[16][..], &CHALLENGE, b"mini"].concat()
}
