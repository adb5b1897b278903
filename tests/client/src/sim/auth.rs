//! Authentication as the client does it: PAP (RFC 1334), MS-CHAPv2 (RFC 2759), EAP (RFC 3748) with MS-CHAPv2 inside.
//!
//! Information fields of PAP, CHAP and EAP frames go in; a [`Step`] comes out.

use std::time::{Duration, Instant};

use crate::crypto::{Hlak, MsChapV2, Random};
use crate::wire::ppp::{ControlPacket, protocol};
use crate::{Method, Profile};

/// RFC 1334 names no time; three seconds, ten times, as for RFC 1661's requests.
const RESTART: Duration = Duration::from_secs(3);
const MAX_REQUESTS: u32 = 10;
/// What the user of Windows reads after a refusal that names no code.
const BAD_CREDENTIALS: u32 = 691;

const EAP_IDENTITY: u8 = 1;
const EAP_NOTIFICATION: u8 = 2;
const EAP_NAK: u8 = 3;
const EAP_MSCHAPV2: u8 = 26;

/// What an authentication packet led to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    Send {
        protocol: u16,
        information: Vec<u8>,
    },
    Authenticated,
    /// The code of MS-CHAPv2's `E=`, else 691; with EAP an answer is due.
    Refused {
        code: u32,
        answer: Option<Vec<u8>>,
    },
    Broken(&'static str),
}

enum State {
    /// Waits for the server's first question, or PAP's verdict.
    Asked,
    Responded {
        id: u8,
        exchange: MsChapV2,
    },
    /// The server proved itself; EAP still owes its Success.
    Proven {
        id: u8,
    },
    Done,
}

pub(crate) struct Authentication {
    method: Method,
    state: State,
    hlak: Option<Hlak>,
    /// The last request with its response: a repeated question gets the same answer.
    last_eap: Option<(Vec<u8>, Vec<u8>)>,
    restart: Option<(Instant, u32)>,
    pap_id: u8,
}

impl Authentication {
    pub(crate) fn new(method: Method) -> Self {
        Self { method, state: State::Asked, hlak: None, last_eap: None, restart: None, pap_id: 1 }
    }

    /// The binding key as far as it is known; MS-CHAPv2 knows it before the verdict.
    pub(crate) fn hlak(&self) -> Hlak {
        self.hlak.clone().unwrap_or(Hlak::ZERO)
    }

    /// LCP is open. Only PAP speaks first.
    pub(crate) fn open(&mut self, profile: &Profile, now: Instant) -> Step {
        match self.method {
            Method::Pap => {
                self.restart = Some((now + RESTART, 1));
                self.pap_request(profile)
            }
            Method::MsChapV2 | Method::EapMsChapV2 => Step::Nothing,
        }
    }

    fn pap_request(&self, profile: &Profile) -> Step {
        let mut data = Vec::new();
        for field in [profile.user.as_bytes(), profile.password.as_bytes()] {
            let length = u8::try_from(field.len()).unwrap_or(u8::MAX);
            data.push(length);
            data.extend(field.iter().take(usize::from(length)));
        }
        send(protocol::PAP, 1, self.pap_id, &data)
    }

    pub(crate) fn timeout_at(&self) -> Option<Instant> {
        self.restart.map(|(at, _)| at)
    }

    pub(crate) fn handle_timeout(&mut self, profile: &Profile, now: Instant) -> Step {
        match self.restart {
            Some((at, _)) if now < at => Step::Nothing,
            Some((_, tries)) if tries < MAX_REQUESTS => {
                self.restart = Some((now + RESTART, tries + 1));
                self.pap_request(profile)
            }
            Some(_) | None => {
                self.restart = None;
                Step::Nothing
            }
        }
    }

    pub(crate) fn handle_frame(&mut self, number: u16, info: &[u8], profile: &Profile, random: &mut Random) -> Step {
        let Some(packet) = ControlPacket::parse(info) else { return Step::Broken("an authentication packet is cut") };
        match (self.method, number) {
            (Method::Pap, protocol::PAP) => self.handle_pap(packet),
            (Method::MsChapV2, protocol::CHAP) => self.handle_chap(packet, profile, random),
            (Method::EapMsChapV2, protocol::EAP) => self.handle_eap(packet, profile, random),
            (Method::Pap | Method::MsChapV2 | Method::EapMsChapV2, _) => {
                Step::Broken("an authentication protocol that was not agreed on")
            }
        }
    }

    fn handle_pap(&mut self, packet: ControlPacket<'_>) -> Step {
        if packet.id != self.pap_id || !matches!(self.state, State::Asked) {
            return Step::Nothing;
        }
        let [length, message @ ..] = packet.data else { return Step::Broken("a PAP verdict without message length") };
        if message.len() != usize::from(*length) {
            return Step::Broken("the message of a PAP verdict has another length than it says");
        }
        self.restart = None;
        match packet.code {
            2 => {
                self.state = State::Done;
                Step::Authenticated
            }
            3 => {
                self.state = State::Done;
                Step::Refused { code: BAD_CREDENTIALS, answer: None }
            }
            _ => Step::Broken("an unknown PAP code"),
        }
    }

    fn handle_chap(&mut self, packet: ControlPacket<'_>, profile: &Profile, random: &mut Random) -> Step {
        match (packet.code, &self.state) {
            (1, State::Asked | State::Responded { .. }) => match self.respond(packet, profile, random) {
                Some(response) => send(protocol::CHAP, 2, packet.id, &response),
                None => Step::Broken("a malformed MS-CHAPv2 Challenge"),
            },
            (3, State::Responded { id, exchange }) if *id == packet.id => {
                if !proves(packet.data, exchange) {
                    return Step::Broken("a wrong authenticator response");
                }
                self.state = State::Done;
                Step::Authenticated
            }
            (4, State::Responded { id, .. }) if *id == packet.id => match failure_code(packet.data) {
                Some(code) => {
                    self.state = State::Done;
                    Step::Refused { code, answer: None }
                }
                None => Step::Broken("a malformed MS-CHAPv2 Failure"),
            },
            (3 | 4, State::Done) => Step::Nothing,
            _ => Step::Broken("a CHAP packet out of turn"),
        }
    }

    /// The value and name fields of the Response to this Challenge.
    fn respond(&mut self, packet: ControlPacket<'_>, profile: &Profile, random: &mut Random) -> Option<Vec<u8>> {
        let (challenge, _server) = packet.data.split_first_chunk::<17>()?;
        let [16, challenge @ ..] = challenge else { return None };
        let peer: [u8; 16] = random.bytes();
        let exchange = MsChapV2::respond(profile.user.as_bytes(), &profile.password, challenge, &peer);
        let mut response = vec![49];
        response.extend(peer);
        response.extend([0; 8]);
        response.extend(exchange.nt_response);
        response.push(0);
        response.extend(profile.user.as_bytes());
        self.hlak = Some(exchange.hlak());
        self.state = State::Responded { id: packet.id, exchange };
        Some(response)
    }

    fn handle_eap(&mut self, packet: ControlPacket<'_>, profile: &Profile, random: &mut Random) -> Step {
        match (packet.code, &self.state) {
            (1, _) => self.handle_eap_request(packet, profile, random),
            (3, State::Proven { id }) => {
                if *id != packet.id {
                    return Step::Broken("the id of EAP-Success is not that of the last response");
                }
                self.state = State::Done;
                Step::Authenticated
            }
            (3, State::Asked | State::Responded { .. }) => Step::Broken("EAP-Success without proof of the server"),
            (4, State::Done) => Step::Nothing,
            (4, State::Asked | State::Responded { .. } | State::Proven { .. }) => {
                self.state = State::Done;
                Step::Refused { code: BAD_CREDENTIALS, answer: None }
            }
            _ => Step::Broken("an EAP packet out of turn"),
        }
    }

    fn handle_eap_request(&mut self, packet: ControlPacket<'_>, profile: &Profile, random: &mut Random) -> Step {
        let request = packet.emit();
        if let Some((_, answer)) = self.last_eap.as_ref().filter(|(asked, _)| *asked == request) {
            return Step::Send { protocol: protocol::EAP, information: answer.clone() };
        }
        let [kind, data @ ..] = packet.data else { return Step::Broken("an EAP request without type") };
        let step = match *kind {
            EAP_IDENTITY => respond_eap(packet.id, &[&[EAP_IDENTITY], profile.user.as_bytes()].concat()),
            EAP_NOTIFICATION => respond_eap(packet.id, &[EAP_NOTIFICATION]),
            EAP_MSCHAPV2 => self.handle_eap_mschapv2(packet.id, data, profile, random),
            _ => respond_eap(packet.id, &[EAP_NAK, EAP_MSCHAPV2]),
        };
        if let Step::Send { information, .. } = &step {
            self.last_eap = Some((request, information.clone()));
        }
        step
    }

    fn handle_eap_mschapv2(&mut self, eap_id: u8, data: &[u8], profile: &Profile, random: &mut Random) -> Step {
        let Some(chap) = ControlPacket::parse(data).filter(|chap| chap.data.len() + 4 == data.len()) else {
            return Step::Broken("MS-Length differs from the EAP length");
        };
        match (chap.code, &self.state) {
            (1, State::Asked) => match self.respond(chap, profile, random) {
                Some(data) => {
                    let chap = ControlPacket { code: 2, id: chap.id, data: &data }.emit();
                    respond_eap(eap_id, &[&[EAP_MSCHAPV2], chap.as_slice()].concat())
                }
                None => Step::Broken("a malformed MS-CHAPv2 Challenge"),
            },
            (3, State::Responded { id, exchange }) => {
                if *id != chap.id || !proves(chap.data, exchange) {
                    return Step::Broken("a wrong authenticator response");
                }
                self.state = State::Proven { id: eap_id };
                respond_eap(eap_id, &[EAP_MSCHAPV2, 3])
            }
            (4, State::Responded { id, .. }) => match failure_code(chap.data).filter(|_| *id == chap.id) {
                Some(code) => {
                    self.state = State::Done;
                    let answer = ControlPacket { code: 2, id: eap_id, data: &[EAP_MSCHAPV2, 4] }.emit();
                    Step::Refused { code, answer: Some(answer) }
                }
                None => Step::Broken("a malformed MS-CHAPv2 Failure"),
            },
            _ => Step::Broken("an MS-CHAPv2 packet out of turn"),
        }
    }
}

fn send(number: u16, code: u8, id: u8, data: &[u8]) -> Step {
    Step::Send { protocol: number, information: ControlPacket { code, id, data }.emit() }
}

fn respond_eap(id: u8, data: &[u8]) -> Step {
    send(protocol::EAP, 2, id, data)
}

/// `S=` and the expected digits, then nothing or ` M=`.
fn proves(message: &[u8], exchange: &MsChapV2) -> bool {
    message
        .strip_prefix(exchange.authenticator_response.as_bytes())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b" M="))
}

/// The number after `E=` of `E=… R=… C=… V=3 M=…`.
fn failure_code(message: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(message).ok()?;
    let mut fields = text.split(' ');
    let code = fields.next()?.strip_prefix("E=")?.parse().ok()?;
    fields.next()?.strip_prefix("R=").filter(|retry| matches!(*retry, "0" | "1"))?;
    Some(code)
}
