//! EAP ([RFC 3748]) with one method: MS-CHAPv2, type 26 (draft-kamath-pppext-eap-mschapv2).
//!
//! Request/Identity, Challenge, Success or Failure, and EAP's own Success or Failure at the end. Only Requests are
//! repeated; a Response whose identifier is not the current Request's is dropped. The identity is not used: the name
//! that counts is the one which the Response is computed with.

use std::time::Instant;

use super::mschapv2::{Response, challenge_message, change_refused_message, failure_message, success_message};
use super::{Method, Opening, Outcome, Refusal, Retransmission, Tick, VERDICT_DEADLINE, Verdict};
use crate::ppp::outbox::Outbox;
use crate::ppp::wire::{Malformed, PACKET_HEADER, Packet, Protocol};

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const SUCCESS: u8 = 3;
const FAILURE: u8 = 4;

const TYPE_IDENTITY: u8 = 1;
const TYPE_NAK: u8 = 3;
const TYPE_MSCHAPV2: u8 = 26;

const OP_CHALLENGE: u8 = 1;
const OP_RESPONSE: u8 = 2;
const OP_SUCCESS: u8 = 3;
const OP_FAILURE: u8 = 4;
const OP_CHANGE_PASSWORD: u8 = 7;

/// How many wanted types of a Nak are kept, for the log; Windows and Android send one.
const MAX_WANTED: usize = 8;

#[derive(Debug)]
enum State {
    /// Request/Identity is out.
    Identity(Retransmission),
    /// The Challenge is out.
    Challenged(Retransmission),
    /// A verdict is asked for.
    Parked { deadline: Instant },
    /// The Success-Request is out.
    Succeeding(Retransmission),
    /// EAP-Success is out.
    Succeeded,
    /// The Failure-Request is out. It is not repeated: the link ends soon, and some clients do not answer it.
    Failing,
    /// EAP-Failure is out.
    Failed,
}

/// The authenticator's side of EAP.
#[derive(Debug)]
pub(in crate::ppp) struct Eap {
    opening: Opening,
    /// The identifier of the latest Request.
    id: u8,
    state: State,
}

impl Eap {
    pub(super) fn start(opening: Opening, now: Instant, out: &mut Outbox) -> Self {
        let id = opening.id;
        let identity = Packet { code: REQUEST, id, data: &[TYPE_IDENTITY] }.emit_frame(Protocol::Eap);
        Self { opening, id, state: State::Identity(Retransmission::start(identity, now, out)) }
    }

    pub(super) fn handle_packet(
        &mut self,
        packet: Packet<'_>,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<Option<Outcome>, Malformed> {
        if packet.code != RESPONSE || packet.id != self.id {
            return Ok(None);
        }
        let (kind, data) = packet.data.split_first().ok_or(Malformed::TooShort { expected: 1, got: 0 })?;
        match (&self.state, *kind) {
            (State::Identity(_), TYPE_IDENTITY) => {
                self.challenge(now, out);
                Ok(None)
            }
            (State::Challenged(_), TYPE_NAK) => {
                Ok(Some(Outcome::Unwanted(data.get(..MAX_WANTED).unwrap_or(data).to_vec())))
            }
            (State::Challenged(_), TYPE_MSCHAPV2) => self.handle_answer(data, now, out),
            (State::Succeeding(_) | State::Succeeded, TYPE_MSCHAPV2) => Ok(self.confirm_success(data, out)),
            (State::Failing, TYPE_MSCHAPV2) => Ok(self.confirm_failure(data, out)),
            (
                State::Identity(_)
                | State::Challenged(_)
                | State::Parked { .. }
                | State::Succeeding(_)
                | State::Succeeded
                | State::Failing
                | State::Failed,
                _,
            ) => Ok(None),
        }
    }

    fn challenge(&mut self, now: Instant, out: &mut Outbox) {
        let data = challenge_message(&self.opening.challenge, &self.opening.server_name);
        let request = self.request(OP_CHALLENGE, &data);
        self.state = State::Challenged(Retransmission::start(request, now, out));
    }

    /// The answer to the Challenge: a Response, or an attempt to change the password at once.
    fn handle_answer(&mut self, data: &[u8], now: Instant, out: &mut Outbox) -> Result<Option<Outcome>, Malformed> {
        match data.first() {
            Some(&OP_RESPONSE) => {
                let proof = Response::parse(embedded(data)?)?.proof(Method::EapMsChapV2, self.opening.challenge);
                self.state = State::Parked { deadline: now + VERDICT_DEADLINE };
                Ok(Some(Outcome::Ask(proof)))
            }
            Some(&OP_CHANGE_PASSWORD) => {
                self.fail(&change_refused_message(&self.opening.challenge), out);
                Ok(Some(Outcome::Refused(Refusal::Credentials)))
            }
            Some(_) => Ok(None),
            None => Err(Malformed::TooShort { expected: 1, got: 0 }),
        }
    }

    /// Success-Response: one byte. It comes again when EAP-Success was lost.
    fn confirm_success(&mut self, data: &[u8], out: &mut Outbox) -> Option<Outcome> {
        if data.first() != Some(&OP_SUCCESS) {
            return None;
        }
        self.conclude(SUCCESS, out);
        match std::mem::replace(&mut self.state, State::Succeeded) {
            State::Succeeding(_) => Some(Outcome::Accepted),
            State::Identity(_)
            | State::Challenged(_)
            | State::Parked { .. }
            | State::Succeeded
            | State::Failing
            | State::Failed => None,
        }
    }

    /// Failure-Response: one byte. A new password instead of it fails as well.
    fn confirm_failure(&mut self, data: &[u8], out: &mut Outbox) -> Option<Outcome> {
        match data.first() {
            Some(&OP_FAILURE) => {
                self.give_up(out);
                Some(Outcome::Concluded)
            }
            Some(&OP_CHANGE_PASSWORD) => {
                self.fail(&change_refused_message(&self.opening.challenge), out);
                None
            }
            Some(_) | None => None,
        }
    }

    pub(super) fn resolve(&mut self, verdict: &Verdict, now: Instant, out: &mut Outbox) -> Option<Outcome> {
        let State::Parked { .. } = self.state else { return None };
        let refusal = match verdict {
            Verdict::Accepted(Some(success)) => {
                let request = self.request(OP_SUCCESS, &success_message(success));
                self.state = State::Succeeding(Retransmission::start(request, now, out));
                return None;
            }
            Verdict::Accepted(None) => Refusal::Credentials,
            Verdict::Refused(refusal) => *refusal,
        };
        self.fail(&failure_message(refusal.error(), &self.opening.challenge), out);
        Some(Outcome::Refused(refusal))
    }

    /// Sends EAP-Failure, unless the exchange is over.
    pub(super) fn give_up(&mut self, out: &mut Outbox) {
        match self.state {
            State::Succeeded | State::Failed => {}
            State::Identity(_)
            | State::Challenged(_)
            | State::Parked { .. }
            | State::Succeeding(_)
            | State::Failing => {
                self.conclude(FAILURE, out);
                self.state = State::Failed;
            }
        }
    }

    fn fail(&mut self, message: &[u8], out: &mut Outbox) {
        let request = self.request(OP_FAILURE, message);
        out.push(request);
        self.state = State::Failing;
    }

    /// EAP's own Success and Failure have the identifier of the last Response.
    fn conclude(&self, code: u8, out: &mut Outbox) {
        out.send(Protocol::Eap, Packet { code, id: self.id, data: &[] });
    }

    /// The next Request: a CHAP packet behind the type. Its inner identifier is the same throughout, as some clients
    /// insist.
    fn request(&mut self, op: u8, message: &[u8]) -> Vec<u8> {
        self.id = self.id.wrapping_add(1);
        let mut data = vec![TYPE_MSCHAPV2];
        data.extend(Packet { code: op, id: self.opening.id, data: message }.emit());
        Packet { code: REQUEST, id: self.id, data: &data }.emit_frame(Protocol::Eap)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Option<Outcome> {
        match &mut self.state {
            State::Identity(request) | State::Challenged(request) | State::Succeeding(request) => {
                match request.tick(now, out) {
                    Tick::Waiting => None,
                    Tick::Exhausted => Some(Outcome::NoAnswer),
                }
            }
            State::Parked { deadline } => (*deadline <= now).then_some(Outcome::VerdictLate),
            State::Succeeded | State::Failing | State::Failed => None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Identity(request) => Some((request.deadline, "EAP: the client's identity")),
            State::Challenged(request) => Some((request.deadline, "EAP: the client's response")),
            State::Parked { deadline } => Some((*deadline, "EAP: the verdict")),
            State::Succeeding(request) => Some((request.deadline, "EAP: the client's confirmation")),
            State::Succeeded | State::Failing | State::Failed => None,
        }
    }
}

/// The value of the CHAP packet in a Response: OpCode, MS-CHAPv2-ID and MS-Length stand in front of it. Some clients
/// pad the packet or fill in a wrong MS-Length, so the smaller of the two lengths counts, unless nothing would be left.
fn embedded(data: &[u8]) -> Result<&[u8], Malformed> {
    let expected = PACKET_HEADER + Response::MIN;
    let short = Malformed::TooShort { expected, got: data.len() };
    let [_op, _id, high, low, value @ ..] = data else { return Err(short) };
    let stated = usize::from(u16::from_be_bytes([*high, *low]));
    if stated < expected {
        return Ok(value);
    }
    Ok(value.get(..stated - PACKET_HEADER).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ppp::auth::Proof;
    use crate::ppp::auth::mschapv2::Success;

    const ID: u8 = 0x20;

    fn at_challenge() -> (Eap, Outbox, Instant) {
        let (now, mut out) = (crate::clock::now(), Outbox::default());
        let opening = Opening { id: ID, challenge: [0xAB; 16], server_name: "sstp".to_owned() };
        let mut eap = Eap::start(opening, now, &mut out);
        assert_eq!(out.pop().unwrap()[4..], [REQUEST, ID, 0x00, 0x05, TYPE_IDENTITY]);
        assert_eq!(eap.take(ID, b"\x01alice", now, &mut out), None);
        let challenge = out.pop().unwrap();
        // Request, id, length | type, OpCode, MS-CHAPv2-ID, MS-Length, Value-Size
        assert_eq!(challenge[4..14], [REQUEST, ID + 1, 0x00, 0x1E, TYPE_MSCHAPV2, OP_CHALLENGE, ID, 0x00, 0x19, 16]);
        assert_eq!(challenge[14..30], [0xAB; 16]);
        assert_eq!(&challenge[30..], b"sstp");
        (eap, out, now)
    }

    fn parked() -> (Eap, Outbox, Instant) {
        let (mut eap, mut out, now) = at_challenge();
        assert!(matches!(eap.take(ID + 1, &response(58, b"User"), now, &mut out), Some(Outcome::Ask(_))));
        (eap, out, now)
    }

    fn response(ms_length: u16, name: &[u8]) -> Vec<u8> {
        let mut data = vec![TYPE_MSCHAPV2, OP_RESPONSE, ID];
        data.extend(ms_length.to_be_bytes());
        data.push(49);
        data.extend([0x11; 49]);
        data.extend_from_slice(name);
        data
    }

    fn accepted() -> Verdict {
        Verdict::Accepted(Some(Success { authenticator_response: [0x0F; 20], binding_key: [0; 32] }))
    }

    impl Eap {
        fn take(&mut self, id: u8, data: &[u8], now: Instant, out: &mut Outbox) -> Option<Outcome> {
            self.handle_packet(Packet { code: RESPONSE, id, data }, now, out).unwrap()
        }
    }

    #[test]
    fn the_smaller_of_both_lengths_bounds_the_name() {
        for (ms_length, sent, name) in [
            (58, &b"User"[..], &b"User"[..]),       // right
            (58, &b"User\0\0\0"[..], &b"User"[..]), // padded
            (200, &b"User"[..], &b"User"[..]),      // too large
            (0, &b"User"[..], &b"User"[..]),        // missing
            (54, &b"User"[..], &b""[..]),           // no name
        ] {
            let (mut eap, mut out, now) = at_challenge();
            let outcome = eap.take(ID + 1, &response(ms_length, sent), now, &mut out);
            let Some(Outcome::Ask(proof @ Proof::MsChapV2 { method: Method::EapMsChapV2, .. })) = outcome else {
                panic!("no proof");
            };
            assert_eq!(proof.name(), name);
        }
    }

    #[test]
    fn success_is_final_when_the_client_confirms_it() {
        let (mut eap, mut out, now) = parked();
        assert_eq!(eap.resolve(&accepted(), now, &mut out), None);
        let request = out.pop().unwrap();
        assert_eq!(request[4..13], [REQUEST, ID + 2, 0x00, 0x38, TYPE_MSCHAPV2, OP_SUCCESS, ID, 0x00, 0x33]);
        assert_eq!(eap.take(ID + 1, &response(58, b"User"), now, &mut out), None, "an old Response");
        assert_eq!(eap.take(ID + 2, &[TYPE_MSCHAPV2, OP_SUCCESS], now, &mut out), Some(Outcome::Accepted));
        assert_eq!(out.pop().unwrap()[4..], [SUCCESS, ID + 2, 0x00, 0x04]);
        assert_eq!(eap.take(ID + 2, &[TYPE_MSCHAPV2, OP_SUCCESS], now, &mut out), None);
        assert_eq!(out.pop().unwrap()[4..], [SUCCESS, ID + 2, 0x00, 0x04]);
    }

    #[test]
    fn a_failure_is_confirmed_or_given_up() {
        let (mut eap, mut out, now) = parked();
        let refused = Verdict::Refused(Refusal::Disabled);
        assert_eq!(eap.resolve(&refused, now, &mut out), Some(Outcome::Refused(Refusal::Disabled)));
        let request = out.pop().unwrap();
        assert_eq!(request[4..6], [REQUEST, ID + 2]);
        assert_eq!(request[8..11], [TYPE_MSCHAPV2, OP_FAILURE, ID]);
        assert!(request[13..].starts_with(b"E=647 R=0 "));
        assert_eq!(eap.take(ID + 2, &[TYPE_MSCHAPV2, OP_FAILURE], now, &mut out), Some(Outcome::Concluded));
        assert_eq!(out.pop().unwrap()[4..], [FAILURE, ID + 2, 0x00, 0x04]);
        eap.give_up(&mut out);
        assert_eq!(out.pop(), None, "it is said once");
    }

    #[test]
    fn a_new_password_after_a_failure_fails_with_709() {
        let (mut eap, mut out, now) = parked();
        eap.resolve(&Verdict::Refused(Refusal::Credentials), now, &mut out);
        out.pop().unwrap();
        assert_eq!(eap.take(ID + 2, &[TYPE_MSCHAPV2, OP_CHANGE_PASSWORD, 0], now, &mut out), None);
        let request = out.pop().unwrap();
        assert_eq!(request[4..6], [REQUEST, ID + 3]);
        assert!(request[13..].starts_with(b"E=709 R=0 "));
    }

    #[test]
    fn a_nak_names_the_types_which_the_client_wants() {
        let (mut eap, mut out, now) = at_challenge();
        let outcome = eap.take(ID + 1, &[TYPE_NAK, 13, 25], now, &mut out);
        assert_eq!(outcome, Some(Outcome::Unwanted(vec![13, 25])));
    }

    #[test]
    fn requests_are_repeated_ten_times() {
        let (mut eap, mut out, start) = at_challenge();
        let mut sent = 1;
        let end = loop {
            let (now, _) = eap.poll_timeout().unwrap();
            if let Some(outcome) = eap.handle_timeout(now, &mut out) {
                assert_eq!(outcome, Outcome::NoAnswer);
                break now;
            }
            assert!(out.pop().is_some());
            sent += 1;
        };
        assert_eq!((sent, end - start), (10, Duration::from_secs(30)));
    }
}
