//! Option negotiation of one control protocol (RFC 1661 4), reduced to what a client that opens once needs.
//!
//! Configure packets go in; frames go into the owner's buffer. What to say to the peer's options is the owner's choice.

use std::time::{Duration, Instant};

use crate::wire::{
    self,
    ppp::{ConfigOption, ControlPacket, code},
};

/// RFC 1661 4.6: Restart timer and Max-Configure.
const RESTART: Duration = Duration::from_secs(3);
const MAX_CONFIGURE: u32 = 10;
/// Refusals in a row without agreement, after which the talk is a loop.
const MAX_REFUSALS: u32 = 20;

/// The answer to a Configure-Request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Ack,
    Nak(Vec<ConfigOption>),
    Reject(Vec<ConfigOption>),
}

pub(crate) struct Negotiation {
    pub(crate) protocol: u16,
    pub(crate) wanted: Vec<ConfigOption>,
    /// Options whose value a Nak may not change.
    pub(crate) fixed: Option<u8>,
    next_id: u8,
    outstanding: Option<u8>,
    ours: bool,
    theirs: bool,
    restart_at: Option<Instant>,
    tries: u32,
    refusals: u32,
}

impl Negotiation {
    pub(crate) fn new(protocol: u16, wanted: Vec<ConfigOption>, first_id: u8) -> Self {
        Self {
            protocol,
            wanted,
            fixed: None,
            next_id: first_id,
            outstanding: None,
            ours: false,
            theirs: false,
            restart_at: None,
            tries: 0,
            refusals: 0,
        }
    }

    pub(crate) fn opened(&self) -> bool {
        self.ours && self.theirs
    }

    /// A fresh identifier of this protocol.
    pub(crate) fn take_id(&mut self) -> u8 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }

    pub(crate) fn value(&self, kind: u8) -> Option<&[u8]> {
        self.wanted.iter().find(|option| option.kind == kind).map(|option| option.value.as_slice())
    }

    /// This layer may start: irc, scr.
    pub(crate) fn open(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.tries = 0;
        self.send_request(now, out);
    }

    fn send_request(&mut self, now: Instant, out: &mut Vec<u8>) {
        let id = self.take_id();
        self.outstanding = Some(id);
        self.ours = false;
        self.tries += 1;
        self.restart_at = Some(now + RESTART);
        self.send(code::CONFIGURE_REQUEST, id, &ConfigOption::emit_all(&self.wanted), out);
    }

    pub(crate) fn send(&self, code: u8, id: u8, data: &[u8], out: &mut Vec<u8>) {
        wire::push_frame(out, self.protocol, &ControlPacket { code, id, data }.emit());
    }

    /// The peer's Configure-Request; `request` is its data, for the Ack.
    pub(crate) fn handle_request(&mut self, id: u8, request: &[u8], answer: &Answer, now: Instant, out: &mut Vec<u8>) {
        let reopened = self.opened();
        self.theirs = matches!(answer, Answer::Ack);
        match answer {
            Answer::Ack => self.send(code::CONFIGURE_ACK, id, request, out),
            Answer::Nak(options) => self.send(code::CONFIGURE_NAK, id, &ConfigOption::emit_all(options), out),
            Answer::Reject(options) => self.send(code::CONFIGURE_REJECT, id, &ConfigOption::emit_all(options), out),
        }
        if reopened {
            self.tries = 0;
            self.send_request(now, out);
        }
        self.settle();
    }

    /// An Ack must repeat our options byte for byte.
    pub(crate) fn handle_ack(&mut self, id: u8, data: &[u8]) -> Result<(), &'static str> {
        if self.outstanding != Some(id) {
            return Ok(());
        }
        if data != ConfigOption::emit_all(&self.wanted) {
            return Err("a Configure-Ack with other options than requested");
        }
        self.outstanding = None;
        self.ours = true;
        self.settle();
        Ok(())
    }

    pub(crate) fn handle_nak(&mut self, id: u8, options: &[ConfigOption], now: Instant, out: &mut Vec<u8>) -> Refused {
        for option in options {
            let fixed = self.fixed == Some(option.kind);
            if let Some(ours) = self.wanted.iter_mut().find(|ours| ours.kind == option.kind && !fixed) {
                ours.value.clone_from(&option.value);
            }
        }
        self.refused(id, now, out)
    }

    /// A Reject may only hold options we sent.
    pub(crate) fn handle_reject(
        &mut self,
        id: u8,
        options: &[ConfigOption],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Refused {
        if self.outstanding == Some(id) && options.iter().any(|option| !self.wanted.contains(option)) {
            return Refused::Broken("a Configure-Reject of an option that was not requested");
        }
        if self.outstanding == Some(id) {
            self.wanted.retain(|ours| !options.contains(ours));
        }
        self.refused(id, now, out)
    }

    fn refused(&mut self, id: u8, now: Instant, out: &mut Vec<u8>) -> Refused {
        if self.outstanding != Some(id) {
            return Refused::Again;
        }
        self.refusals += 1;
        if self.refusals > MAX_REFUSALS {
            return Refused::Broken("the negotiation does not converge");
        }
        self.tries = 0;
        self.send_request(now, out);
        Refused::Again
    }

    fn settle(&mut self) {
        if self.opened() {
            self.restart_at = None;
        }
    }

    pub(crate) fn stop(&mut self) {
        self.restart_at = None;
        self.outstanding = None;
    }

    pub(crate) fn timeout_at(&self) -> Option<Instant> {
        self.restart_at
    }

    /// `false` when the last try went unanswered.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        if self.restart_at.is_none_or(|at| now < at) {
            return true;
        }
        if self.tries >= MAX_CONFIGURE {
            self.stop();
            return false;
        }
        self.send_request(now, out);
        true
    }
}

/// What a Nak or Reject led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The next request is out.
    Again,
    Broken(&'static str),
}
