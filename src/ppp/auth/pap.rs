//! PAP ([RFC 1334] section 2): the client sends its name and password until it is answered.
//!
//! pppd gives every repetition a new identifier, others keep it. So a repetition is known by its content, of which
//! only a keyed digest is kept.

use std::time::Instant;

use sha1::{Digest as _, Sha1};

use super::{DENIED, Opening, Outcome, PAP_DEADLINE, Proof, Refusal, Secret, VERDICT_DEADLINE, Verdict};
use crate::ppp::outbox::Outbox;
use crate::ppp::wire::{Malformed, Packet, Protocol};

const AUTHENTICATE_REQUEST: u8 = 1;
const AUTHENTICATE_ACK: u8 = 2;
const AUTHENTICATE_NAK: u8 = 3;

#[derive(Debug)]
enum State {
    /// The client has not spoken.
    Waiting { deadline: Instant },
    /// A verdict is asked for.
    Parked { request: Request, deadline: Instant },
    /// Answered with Ack.
    Accepted { request: Request },
    /// Answered with Nak.
    Refused,
}

/// The request that was judged, and the identifier of its latest repetition.
#[derive(Clone, Copy, Debug)]
struct Request {
    id: u8,
    digest: [u8; 20],
}

/// The authenticator's side of PAP.
#[derive(Debug)]
pub(in crate::ppp) struct Pap {
    key: [u8; 16],
    state: State,
}

impl Pap {
    pub(super) fn start(opening: &Opening, now: Instant) -> Self {
        Self { key: opening.challenge, state: State::Waiting { deadline: now + PAP_DEADLINE } }
    }

    pub(super) fn handle_packet(
        &mut self,
        packet: Packet<'_>,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<Option<Outcome>, Malformed> {
        if packet.code != AUTHENTICATE_REQUEST {
            return Ok(None);
        }
        let (name, password) = credentials(packet.data)?;
        let request = Request { id: packet.id, digest: self.digest(name, password) };
        match &mut self.state {
            State::Waiting { .. } => {
                self.state = State::Parked { request, deadline: now + VERDICT_DEADLINE };
                let proof = Proof::Password { name: name.to_vec(), password: Secret::new(password) };
                return Ok(Some(Outcome::Ask(proof)));
            }
            State::Parked { request: judged, .. } if judged.digest == request.digest => judged.id = request.id,
            State::Accepted { request: judged } if judged.digest == request.digest => {
                answer(AUTHENTICATE_ACK, request.id, "", out);
            }
            State::Parked { .. } | State::Accepted { .. } => {}
            // Whatever it says now, this link has had its one try.
            State::Refused => answer(AUTHENTICATE_NAK, request.id, DENIED, out),
        }
        Ok(None)
    }

    pub(super) fn handle_timeout(&self, now: Instant) -> Option<Outcome> {
        match self.state {
            State::Waiting { deadline } => (deadline <= now).then_some(Outcome::NoAnswer),
            State::Parked { deadline, .. } => (deadline <= now).then_some(Outcome::VerdictLate),
            State::Accepted { .. } | State::Refused => None,
        }
    }

    pub(super) fn resolve(&mut self, verdict: &Verdict, out: &mut Outbox) -> Option<Outcome> {
        let State::Parked { request, .. } = self.state else { return None };
        match verdict {
            Verdict::Accepted(_) => {
                answer(AUTHENTICATE_ACK, request.id, "", out);
                self.state = State::Accepted { request };
                Some(Outcome::Accepted)
            }
            Verdict::Refused(refusal) => Some(self.refuse(*refusal, request.id, out)),
        }
    }

    fn refuse(&mut self, refusal: Refusal, id: u8, out: &mut Outbox) -> Outcome {
        answer(AUTHENTICATE_NAK, id, DENIED, out);
        self.state = State::Refused;
        Outcome::Refused(refusal)
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::Waiting { deadline } => Some((deadline, "PAP: the client's request")),
            State::Parked { deadline, .. } => Some((deadline, "PAP: the verdict")),
            State::Accepted { .. } | State::Refused => None,
        }
    }

    fn digest(&self, name: &[u8], password: &[u8]) -> [u8; 20] {
        Sha1::new()
            .chain_update(self.key)
            .chain_update(name.len().to_be_bytes())
            .chain_update(name)
            .chain_update(password)
            .finalize()
            .into()
    }
}

/// Peer-ID and Password, each behind a byte with its length.
fn credentials(data: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (name, rest) = counted(data)?;
    let (password, _) = counted(rest)?;
    Ok((name, password))
}

fn counted(data: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (length, rest) = data.split_first().ok_or(Malformed::TooShort { expected: 1, got: 0 })?;
    let got = usize::from(*length);
    rest.split_at_checked(got).ok_or(Malformed::BadLength { least: 0, most: rest.len(), got })
}

fn answer(code: u8, id: u8, message: &str, out: &mut Outbox) {
    let mut data = vec![u8::try_from(message.len()).expect("our messages are shorter than 256 bytes")];
    data.extend_from_slice(message.as_bytes());
    out.send(Protocol::Pap, Packet { code, id, data: &data });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u8, password: &str) -> Vec<u8> {
        let mut data = vec![5];
        data.extend_from_slice(b"alice");
        data.push(u8::try_from(password.len()).unwrap());
        data.extend_from_slice(password.as_bytes());
        Packet { code: AUTHENTICATE_REQUEST, id, data: &data }.emit()
    }

    fn pap() -> (Pap, Outbox, Instant) {
        let opening = Opening { id: 1, challenge: [7; 16], server_name: String::new() };
        let now = crate::clock::now();
        (Pap::start(&opening, now), Outbox::default(), now)
    }

    impl Pap {
        fn take(&mut self, bytes: &[u8], now: Instant, out: &mut Outbox) -> Option<Outcome> {
            self.handle_packet(Packet::parse(bytes).unwrap(), now, out).unwrap()
        }
    }

    #[test]
    fn a_repetition_with_a_new_identifier_is_answered_like_the_first() {
        let (mut pap, mut out, now) = pap();
        assert!(matches!(pap.take(&request(1, "secret"), now, &mut out), Some(Outcome::Ask(_))));
        assert_eq!(pap.take(&request(2, "secret"), now, &mut out), None);
        assert_eq!(pap.resolve(&Verdict::Accepted(None), &mut out), Some(Outcome::Accepted));
        assert_eq!(out.pop(), Some(vec![0xFF, 0x03, 0xC0, 0x23, 0x02, 0x02, 0x00, 0x05, 0x00])); // Ack, id 2
        assert_eq!(pap.take(&request(3, "secret"), now, &mut out), None);
        assert_eq!(out.pop(), Some(vec![0xFF, 0x03, 0xC0, 0x23, 0x02, 0x03, 0x00, 0x05, 0x00])); // Ack, id 3
        assert_eq!(pap.take(&request(4, "other"), now, &mut out), None);
        assert_eq!(out.pop(), None);
    }

    #[test]
    fn after_a_nak_no_password_is_judged() {
        let (mut pap, mut out, now) = pap();
        pap.take(&request(1, "wrong"), now, &mut out);
        let refused = Verdict::Refused(Refusal::Credentials);
        assert_eq!(pap.resolve(&refused, &mut out), Some(Outcome::Refused(Refusal::Credentials)));
        let nak = out.pop().unwrap();
        assert_eq!(nak[4..9], [0x03, 0x01, 0x00, 0x12, 13]); // Nak, id, length, length of the message
        assert_eq!(pap.take(&request(2, "right"), now, &mut out), None);
        assert_eq!(out.pop().unwrap()[4..6], [0x03, 0x02]);
        assert_eq!(pap.resolve(&Verdict::Accepted(None), &mut out), None);
    }

    #[test]
    fn a_silent_client_and_a_late_verdict_end_it() {
        let (mut pap, mut out, now) = pap();
        assert_eq!(pap.handle_timeout(now), None);
        assert_eq!(pap.handle_timeout(now + PAP_DEADLINE), Some(Outcome::NoAnswer));
        pap.take(&request(1, "secret"), now, &mut out);
        assert_eq!(pap.handle_timeout(now + PAP_DEADLINE), None);
        assert_eq!(pap.handle_timeout(now + VERDICT_DEADLINE), Some(Outcome::VerdictLate));
    }

    #[test]
    fn a_request_that_ends_early_is_malformed() {
        let short = [0x01, 0x01, 0x00, 0x08, 0x05, b'a', b'l', b'i']; // the name has 5 bytes, 3 are there
        let (mut pap, mut out, now) = pap();
        let packet = Packet::parse(&short).unwrap();
        let expected = Malformed::BadLength { least: 0, most: 3, got: 5 };
        assert_eq!(pap.handle_packet(packet, now, &mut out), Err(expected));
    }
}
