//! MS-CHAPv2 in CHAP ([RFC 1994] section 4 for the exchange, RFC 2759 for its values).

use std::time::Instant;

use super::mschapv2::{Response, challenge_message, change_refused_message, failure_message, success_message};
use super::{Method, Opening, Outcome, Refusal, Retransmission, Tick, VERDICT_DEADLINE, Verdict};
use crate::ppp::outbox::Outbox;
use crate::ppp::wire::{Malformed, Packet, Protocol};

const CHALLENGE: u8 = 1;
const RESPONSE: u8 = 2;
const SUCCESS: u8 = 3;
const FAILURE: u8 = 4;
const CHANGE_PASSWORD: u8 = 7;

#[derive(Debug)]
enum State {
    /// The challenge is out.
    Challenged(Retransmission),
    /// A verdict is asked for; `response` is what is judged.
    Parked { response: Vec<u8>, deadline: Instant },
    /// Answered with Success or Failure. The same Response gets the same `reply`: it may have been lost.
    Answered { response: Vec<u8>, reply: Vec<u8>, refused: bool },
}

/// The authenticator's side of CHAP.
#[derive(Debug)]
pub(in crate::ppp) struct Chap {
    opening: Opening,
    state: State,
}

impl Chap {
    pub(super) fn start(opening: Opening, now: Instant, out: &mut Outbox) -> Self {
        let data = challenge_message(&opening.challenge, &opening.server_name);
        let challenge = Packet { code: CHALLENGE, id: opening.id, data: &data }.emit_frame(Protocol::Chap);
        Self { opening, state: State::Challenged(Retransmission::start(challenge, now, out)) }
    }

    pub(super) fn handle_packet(
        &mut self,
        packet: Packet<'_>,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<Option<Outcome>, Malformed> {
        match packet.code {
            RESPONSE if packet.id == self.opening.id => self.handle_response(packet.data, now, out),
            CHANGE_PASSWORD => Ok(self.refuse_change(packet.id, out)),
            _ => Ok(None),
        }
    }

    fn handle_response(&mut self, data: &[u8], now: Instant, out: &mut Outbox) -> Result<Option<Outcome>, Malformed> {
        match &self.state {
            State::Challenged(_) => {
                let proof = Response::parse(data)?.proof(Method::MsChapV2, self.opening.challenge);
                self.state = State::Parked { response: data.to_vec(), deadline: now + VERDICT_DEADLINE };
                Ok(Some(Outcome::Ask(proof)))
            }
            State::Answered { response, reply, .. } if response == data => {
                out.push(reply.clone());
                Ok(None)
            }
            State::Parked { .. } | State::Answered { .. } => Ok(None),
        }
    }

    /// We never say that a password has expired, so nobody has a reason to change one here.
    fn refuse_change(&mut self, id: u8, out: &mut Outbox) -> Option<Outcome> {
        let reply = self.failure(id, &change_refused_message(&self.opening.challenge));
        match &self.state {
            State::Challenged(_) => {
                out.push(reply.clone());
                self.state = State::Answered { response: Vec::new(), reply, refused: true };
                Some(Outcome::Refused(Refusal::Credentials))
            }
            State::Answered { refused: true, .. } => {
                out.push(reply);
                None
            }
            State::Parked { .. } | State::Answered { refused: false, .. } => None,
        }
    }

    fn failure(&self, id: u8, message: &[u8]) -> Vec<u8> {
        Packet { code: FAILURE, id, data: message }.emit_frame(Protocol::Chap)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Option<Outcome> {
        match &mut self.state {
            State::Challenged(challenge) => match challenge.tick(now, out) {
                Tick::Waiting => None,
                Tick::Exhausted => Some(Outcome::NoAnswer),
            },
            State::Parked { deadline, .. } => (*deadline <= now).then_some(Outcome::VerdictLate),
            State::Answered { .. } => None,
        }
    }

    pub(super) fn resolve(&mut self, verdict: &Verdict, out: &mut Outbox) -> Option<Outcome> {
        let State::Parked { response, .. } = &mut self.state else { return None };
        let response = std::mem::take(response);
        let id = self.opening.id;
        let (reply, outcome) = match verdict {
            Verdict::Accepted(Some(success)) => {
                let data = success_message(success);
                (Packet { code: SUCCESS, id, data: &data }.emit_frame(Protocol::Chap), Outcome::Accepted)
            }
            Verdict::Accepted(None) => self.refused(Refusal::Credentials),
            Verdict::Refused(refusal) => self.refused(*refusal),
        };
        out.push(reply.clone());
        self.state = State::Answered { response, reply, refused: outcome != Outcome::Accepted };
        Some(outcome)
    }

    fn refused(&self, refusal: Refusal) -> (Vec<u8>, Outcome) {
        let message = failure_message(refusal.error(), &self.opening.challenge);
        (self.failure(self.opening.id, &message), Outcome::Refused(refusal))
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Challenged(challenge) => Some((challenge.deadline, "CHAP: the client's response")),
            State::Parked { deadline, .. } => Some((*deadline, "CHAP: the verdict")),
            State::Answered { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ppp::auth::mschapv2::Success;

    const ID: u8 = 0x10;

    fn chap() -> (Chap, Outbox, Instant) {
        let (now, mut out) = (crate::clock::now(), Outbox::default());
        let opening = Opening { id: ID, challenge: [0xAB; 16], server_name: "sstp".to_owned() };
        let chap = Chap::start(opening, now, &mut out);
        assert!(out.pop().unwrap().ends_with(b"sstp"));
        (chap, out, now)
    }

    fn response(fill: u8) -> Vec<u8> {
        let mut data = vec![49];
        data.extend([fill; 49]);
        data.extend_from_slice(b"User");
        data
    }

    fn accepted() -> Verdict {
        Verdict::Accepted(Some(Success { authenticator_response: [0x0F; 20], binding_key: [0; 32] }))
    }

    impl Chap {
        fn take(&mut self, code: u8, id: u8, data: &[u8], now: Instant, out: &mut Outbox) -> Option<Outcome> {
            self.handle_packet(Packet { code, id, data }, now, out).unwrap()
        }
    }

    #[test]
    fn a_response_with_another_identifier_is_dropped() {
        let (mut chap, mut out, now) = chap();
        assert_eq!(chap.take(RESPONSE, ID + 1, &response(1), now, &mut out), None);
        assert!(matches!(chap.take(RESPONSE, ID, &response(1), now, &mut out), Some(Outcome::Ask(_))));
    }

    #[test]
    fn the_same_response_gets_the_same_success_and_another_gets_nothing() {
        let (mut chap, mut out, now) = chap();
        chap.take(RESPONSE, ID, &response(1), now, &mut out);
        assert_eq!(chap.take(RESPONSE, ID, &response(1), now, &mut out), None);
        assert_eq!(out.pop(), None);
        assert_eq!(chap.resolve(&accepted(), &mut out), Some(Outcome::Accepted));
        let success = out.pop().unwrap();
        assert!(success.ends_with(b"S=0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F M=ok"));
        assert_eq!(chap.take(RESPONSE, ID, &response(1), now, &mut out), None);
        assert_eq!(out.pop(), Some(success));
        assert_eq!(chap.take(RESPONSE, ID, &response(2), now, &mut out), None);
        assert_eq!(chap.take(CHANGE_PASSWORD, ID, &[], now, &mut out), None);
        assert_eq!(out.pop(), None);
    }

    #[test]
    fn an_acceptance_without_keys_is_a_refusal() {
        let (mut chap, mut out, now) = chap();
        chap.take(RESPONSE, ID, &response(1), now, &mut out);
        let outcome = chap.resolve(&Verdict::Accepted(None), &mut out);
        assert_eq!(outcome, Some(Outcome::Refused(Refusal::Credentials)));
        assert_eq!(out.pop().unwrap()[4], FAILURE);
    }

    #[test]
    fn each_refusal_has_its_number() {
        for (refusal, text) in [
            (Refusal::Credentials, "E=691 R=0 C=ABABABABABABABABABABABABABABABAB V=3 M=Access denied"),
            (Refusal::Disabled, "E=647 R=0 C=ABABABABABABABABABABABABABABABAB V=3 M=Access denied"),
            (Refusal::NotAllowed, "E=649 R=0 C=ABABABABABABABABABABABABABABABAB V=3 M=Access denied"),
        ] {
            let (mut chap, mut out, now) = chap();
            chap.take(RESPONSE, ID, &response(1), now, &mut out);
            assert_eq!(chap.resolve(&Verdict::Refused(refusal), &mut out), Some(Outcome::Refused(refusal)));
            let frame = out.pop().unwrap();
            assert_eq!(frame[4..6], [FAILURE, ID]);
            assert_eq!(&frame[8..], text.as_bytes());
        }
    }

    #[test]
    fn a_change_of_password_fails_with_709() {
        let (mut chap, mut out, now) = chap();
        chap.take(RESPONSE, ID, &response(1), now, &mut out);
        assert_eq!(chap.take(CHANGE_PASSWORD, ID + 1, &[0; 582], now, &mut out), None);
        assert_eq!(out.pop(), None, "nothing is said while the verdict is outstanding");
        chap.resolve(&Verdict::Refused(Refusal::Credentials), &mut out);
        out.pop().unwrap();
        assert_eq!(chap.take(CHANGE_PASSWORD, ID + 1, &[0; 582], now, &mut out), None);
        let frame = out.pop().unwrap();
        assert_eq!(frame[4..6], [FAILURE, ID + 1]);
        assert!(frame[8..].starts_with(b"E=709 R=0 "));
    }

    #[test]
    fn the_challenge_goes_out_ten_times() {
        let (mut chap, mut out, start) = chap();
        let mut sent = 1;
        let end = loop {
            let (now, _) = chap.poll_timeout().unwrap();
            if let Some(outcome) = chap.handle_timeout(now, &mut out) {
                assert_eq!(outcome, Outcome::NoAnswer);
                break now;
            }
            assert!(out.pop().is_some());
            sent += 1;
        };
        assert_eq!((sent, end - start), (10, Duration::from_secs(30)));
    }

    #[test]
    fn a_late_verdict_ends_it() {
        let (mut chap, mut out, now) = chap();
        chap.take(RESPONSE, ID, &response(1), now, &mut out);
        assert_eq!(chap.poll_timeout(), Some((now + VERDICT_DEADLINE, "CHAP: the verdict")));
        assert_eq!(chap.handle_timeout(now + VERDICT_DEADLINE, &mut out), Some(Outcome::VerdictLate));
    }
}
