//! The option negotiation automaton of [RFC 1661] section 4, shared by LCP and IPCP.
//!
//! In go events, out come actions and the next state. [`transition`] is the table of section 4.1 and nothing else;
//! [`Automaton`] adds the restart counter and the restart timer of section 4.6. It knows no packet and no option.

use std::time::{Duration, Instant};

/// Restart timer: how long a request waits for its answer.
pub const RESTART: Duration = Duration::from_secs(3);

/// Max-Configure: how often a Configure-Request is sent without any answer.
pub const MAX_CONFIGURE: u8 = 10;

/// Max-Terminate: how often a Terminate-Request is sent without any answer.
pub const MAX_TERMINATE: u8 = 2;

/// Section 4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// 0: the lower layer is down, no Open has occurred.
    Initial,
    /// 1: Open has occurred, the lower layer is down.
    Starting,
    /// 2: the lower layer is up, no Open has occurred.
    Closed,
    /// 3: Open has occurred, and this end waits for the peer to begin.
    Stopped,
    /// 4: Terminate-Request sent because of Close.
    Closing,
    /// 5: Terminate-Request sent or received while open.
    Stopping,
    /// 6: Configure-Request sent.
    ReqSent,
    /// 7: Configure-Request sent and acknowledged.
    AckRcvd,
    /// 8: Configure-Request sent, the peer's acknowledged.
    AckSent,
    /// 9: both acknowledged.
    Opened,
}

/// Section 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Lower layer is up.
    Up,
    /// Lower layer is down.
    Down,
    /// Administrative open.
    Open,
    /// Administrative close.
    Close,
    /// TO+: timeout with counter > 0.
    ToPlus,
    /// TO-: timeout with counter expired.
    ToMinus,
    /// RCR+: receive Configure-Request, good.
    RcrPlus,
    /// RCR-: receive Configure-Request, bad.
    RcrMinus,
    /// Receive Configure-Ack.
    Rca,
    /// Receive Configure-Nak or Configure-Reject.
    Rcn,
    /// Receive Terminate-Request.
    Rtr,
    /// Receive Terminate-Ack.
    Rta,
    /// Receive unknown code.
    Ruc,
    /// RXJ+: receive a permitted Code-Reject or Protocol-Reject.
    RxjPlus,
    /// RXJ-: receive a catastrophic Code-Reject or Protocol-Reject.
    RxjMinus,
    /// Receive Echo-Request, Echo-Reply or Discard-Request.
    Rxr,
}

/// Section 4.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// This-Layer-Up.
    Tlu,
    /// This-Layer-Down.
    Tld,
    /// This-Layer-Started.
    Tls,
    /// This-Layer-Finished.
    Tlf,
    /// Initialize-Restart-Count.
    Irc,
    /// Zero-Restart-Count.
    Zrc,
    /// Send-Configure-Request.
    Scr,
    /// Send-Configure-Ack.
    Sca,
    /// Send-Configure-Nak or Send-Configure-Reject.
    Scn,
    /// Send-Terminate-Request.
    Str,
    /// Send-Terminate-Ack.
    Sta,
    /// Send-Code-Reject.
    Scj,
    /// Send-Echo-Reply.
    Ser,
}

/// The table of section 4.1: what to do and where to go. `None` where the table has a dash: the event cannot occur.
#[rustfmt::skip]
pub fn transition(state: State, event: Event) -> Option<(&'static [Action], State)> {
    use Action::{Irc, Sca, Scj, Scn, Scr, Ser, Sta, Str, Tld, Tlf, Tls, Tlu, Zrc};
    use Event::{
        Close, Down, Open, Rca, Rcn, RcrMinus, RcrPlus, Rta, Rtr, Ruc, RxjMinus, RxjPlus, Rxr, ToMinus, ToPlus, Up,
    };
    use State::{AckRcvd, AckSent, Closed, Closing, Initial, Opened, ReqSent, Starting, Stopped, Stopping};

    let cell: (&'static [Action], State) = match (state, event) {
        (Initial, Up) => (&[], Closed),
        (Initial, Open) => (&[Tls], Starting),
        (Initial, Close) => (&[], Initial),
        (Initial, Down | ToPlus | ToMinus | RcrPlus | RcrMinus | Rca | Rcn | Rtr | Rta | Ruc | RxjPlus | RxjMinus | Rxr) => return None,

        (Starting, Up) => (&[Irc, Scr], ReqSent),
        (Starting, Open) => (&[], Starting),
        (Starting, Close) => (&[Tlf], Initial),
        (Starting, Down | ToPlus | ToMinus | RcrPlus | RcrMinus | Rca | Rcn | Rtr | Rta | Ruc | RxjPlus | RxjMinus | Rxr) => return None,

        (Closed, Up | ToPlus | ToMinus) => return None,
        (Closed, Down) => (&[], Initial),
        (Closed, Open) => (&[Irc, Scr], ReqSent),
        (Closed, Close | Rta | RxjPlus | Rxr) => (&[], Closed),
        (Closed, RcrPlus | RcrMinus | Rca | Rcn | Rtr) => (&[Sta], Closed),
        (Closed, Ruc) => (&[Scj], Closed),
        (Closed, RxjMinus) => (&[Tlf], Closed),

        (Stopped, Up | ToPlus | ToMinus) => return None,
        (Stopped, Down) => (&[Tls], Starting),
        (Stopped, Open | Rta | RxjPlus | Rxr) => (&[], Stopped),
        (Stopped, Close) => (&[], Closed),
        (Stopped, RcrPlus) => (&[Irc, Scr, Sca], AckSent),
        (Stopped, RcrMinus) => (&[Irc, Scr, Scn], ReqSent),
        (Stopped, Rca | Rcn | Rtr) => (&[Sta], Stopped),
        (Stopped, Ruc) => (&[Scj], Stopped),
        (Stopped, RxjMinus) => (&[Tlf], Stopped),

        (Closing, Up) => return None,
        (Closing, Down) => (&[], Initial),
        (Closing, Open) => (&[], Stopping),
        (Closing, Close | RcrPlus | RcrMinus | Rca | Rcn | RxjPlus | Rxr) => (&[], Closing),
        (Closing, ToPlus) => (&[Str], Closing),
        (Closing, ToMinus | Rta | RxjMinus) => (&[Tlf], Closed),
        (Closing, Rtr) => (&[Sta], Closing),
        (Closing, Ruc) => (&[Scj], Closing),

        (Stopping, Up) => return None,
        (Stopping, Down) => (&[], Starting),
        (Stopping, Close) => (&[], Closing),
        (Stopping, Open | RcrPlus | RcrMinus | Rca | Rcn | RxjPlus | Rxr) => (&[], Stopping),
        (Stopping, ToPlus) => (&[Str], Stopping),
        (Stopping, ToMinus | Rta | RxjMinus) => (&[Tlf], Stopped),
        (Stopping, Rtr) => (&[Sta], Stopping),
        (Stopping, Ruc) => (&[Scj], Stopping),

        (ReqSent, Up) => return None,
        (ReqSent, Down) => (&[], Starting),
        (ReqSent, Open | Rta | RxjPlus | Rxr) => (&[], ReqSent),
        (ReqSent, Close) => (&[Irc, Str], Closing),
        (ReqSent, ToPlus) => (&[Scr], ReqSent),
        (ReqSent, ToMinus | RxjMinus) => (&[Tlf], Stopped),
        (ReqSent, RcrPlus) => (&[Sca], AckSent),
        (ReqSent, RcrMinus) => (&[Scn], ReqSent),
        (ReqSent, Rca) => (&[Irc], AckRcvd),
        (ReqSent, Rcn) => (&[Irc, Scr], ReqSent),
        (ReqSent, Rtr) => (&[Sta], ReqSent),
        (ReqSent, Ruc) => (&[Scj], ReqSent),

        (AckRcvd, Up) => return None,
        (AckRcvd, Down) => (&[], Starting),
        (AckRcvd, Open | Rxr) => (&[], AckRcvd),
        (AckRcvd, Close) => (&[Irc, Str], Closing),
        (AckRcvd, ToPlus | Rca | Rcn) => (&[Scr], ReqSent),
        (AckRcvd, ToMinus | RxjMinus) => (&[Tlf], Stopped),
        (AckRcvd, RcrPlus) => (&[Sca, Tlu], Opened),
        (AckRcvd, RcrMinus) => (&[Scn], AckRcvd),
        (AckRcvd, Rtr) => (&[Sta], ReqSent),
        (AckRcvd, Rta | RxjPlus) => (&[], ReqSent),
        (AckRcvd, Ruc) => (&[Scj], AckRcvd),

        (AckSent, Up) => return None,
        (AckSent, Down) => (&[], Starting),
        (AckSent, Open | Rta | RxjPlus | Rxr) => (&[], AckSent),
        (AckSent, Close) => (&[Irc, Str], Closing),
        (AckSent, ToPlus) => (&[Scr], AckSent),
        (AckSent, ToMinus | RxjMinus) => (&[Tlf], Stopped),
        (AckSent, RcrPlus) => (&[Sca], AckSent),
        (AckSent, RcrMinus) => (&[Scn], ReqSent),
        (AckSent, Rca) => (&[Irc, Tlu], Opened),
        (AckSent, Rcn) => (&[Irc, Scr], AckSent),
        (AckSent, Rtr) => (&[Sta], ReqSent),
        (AckSent, Ruc) => (&[Scj], AckSent),

        (Opened, Up | ToPlus | ToMinus) => return None,
        (Opened, Down) => (&[Tld], Starting),
        (Opened, Open | RxjPlus) => (&[], Opened),
        (Opened, Close) => (&[Tld, Irc, Str], Closing),
        (Opened, RcrPlus) => (&[Tld, Scr, Sca], AckSent),
        (Opened, RcrMinus) => (&[Tld, Scr, Scn], ReqSent),
        (Opened, Rca | Rcn | Rta) => (&[Tld, Scr], ReqSent),
        (Opened, Rtr) => (&[Tld, Zrc, Sta], Stopping),
        (Opened, Ruc) => (&[Scj], Opened),
        (Opened, RxjMinus) => (&[Tld, Irc, Str], Stopping),
        (Opened, Rxr) => (&[Ser], Opened),
    };
    Some(cell)
}

/// One protocol's automaton with its restart counter and timer.
#[derive(Debug)]
pub struct Automaton {
    state: State,
    restarts: u8,
    deadline: Option<Instant>,
}

impl Automaton {
    /// An automaton in `state`, its timer not running.
    pub fn new(state: State) -> Self {
        Self { state, restarts: 0, deadline: None }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// When the restart timer fires.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// TO+ or TO-, when the restart timer is due.
    pub fn expired(&self, now: Instant) -> Option<Event> {
        self.deadline.filter(|deadline| *deadline <= now)?;
        Some(if self.restarts > 0 { Event::ToPlus } else { Event::ToMinus })
    }

    /// Takes `event`; the caller carries out the actions that are returned. Counter and timer are already served. An
    /// event that cannot occur in this state changes nothing.
    pub fn step(&mut self, event: Event, now: Instant) -> &'static [Action] {
        let Some((actions, state)) = transition(self.state, event) else { return &[] };
        for action in actions {
            match action {
                Action::Irc if actions.contains(&Action::Str) => self.restarts = MAX_TERMINATE,
                Action::Irc => self.restarts = MAX_CONFIGURE,
                Action::Zrc => {
                    self.restarts = 0;
                    self.deadline = now.checked_add(RESTART);
                }
                Action::Scr | Action::Str => {
                    self.restarts = self.restarts.saturating_sub(1);
                    self.deadline = now.checked_add(RESTART);
                }
                Action::Tlu
                | Action::Tld
                | Action::Tls
                | Action::Tlf
                | Action::Sca
                | Action::Scn
                | Action::Sta
                | Action::Scj
                | Action::Ser => {}
            }
        }
        self.state = state;
        match state {
            State::Initial | State::Starting | State::Closed | State::Stopped | State::Opened => self.deadline = None,
            State::Closing | State::Stopping | State::ReqSent | State::AckRcvd | State::AckSent => {}
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 10] = [
        State::Initial,
        State::Starting,
        State::Closed,
        State::Stopped,
        State::Closing,
        State::Stopping,
        State::ReqSent,
        State::AckRcvd,
        State::AckSent,
        State::Opened,
    ];

    const EVENTS: [(&str, Event); 16] = [
        ("Up", Event::Up),
        ("Down", Event::Down),
        ("Open", Event::Open),
        ("Close", Event::Close),
        ("TO+", Event::ToPlus),
        ("TO-", Event::ToMinus),
        ("RCR+", Event::RcrPlus),
        ("RCR-", Event::RcrMinus),
        ("RCA", Event::Rca),
        ("RCN", Event::Rcn),
        ("RTR", Event::Rtr),
        ("RTA", Event::Rta),
        ("RUC", Event::Ruc),
        ("RXJ+", Event::RxjPlus),
        ("RXJ-", Event::RxjMinus),
        ("RXR", Event::Rxr),
    ];

    fn printed(cell: Option<(&'static [Action], State)>) -> String {
        let Some((actions, next)) = cell else { return "-".to_owned() };
        let next = STATES.iter().position(|state| *state == next).unwrap();
        match actions {
            [] => next.to_string(),
            _ => {
                let names: Vec<_> = actions.iter().map(|action| format!("{action:?}").to_lowercase()).collect();
                format!("{}/{next}", names.join(","))
            }
        }
    }

    #[test]
    fn every_cell_is_the_one_of_rfc_1661() {
        let table = include_str!("../../tests/transcripts/ppp/rfc1661-table.txt");
        let rows: Vec<Vec<&str>> = table
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        assert_eq!(rows.len(), EVENTS.len());
        for (row, (name, event)) in rows.iter().zip(EVENTS) {
            assert_eq!(row[0], name);
            assert_eq!(row.len(), 1 + STATES.len(), "{name}");
            for (cell, state) in row[1..].iter().zip(STATES) {
                assert_eq!(printed(transition(state, event)), *cell, "{name} in {state:?}");
            }
        }
    }

    /// Steps and timeouts from `events`, then counts the timeouts until the timer stops.
    fn sends_until_silence(automaton: &mut Automaton, start: Instant, action: Action) -> (usize, Duration) {
        let mut now = start;
        let mut sent = 1;
        while let Some(deadline) = automaton.deadline() {
            assert_eq!(automaton.expired(deadline - Duration::from_millis(1)), None);
            now = deadline;
            let event = automaton.expired(now).unwrap();
            sent += automaton.step(event, now).iter().filter(|done| **done == action).count();
        }
        (sent, now - start)
    }

    #[test]
    fn ten_configure_requests_go_out_in_thirty_seconds() {
        let now = crate::clock::now();
        let mut automaton = Automaton::new(State::Starting);
        assert_eq!(automaton.step(Event::Up, now), [Action::Irc, Action::Scr]);
        assert_eq!(sends_until_silence(&mut automaton, now, Action::Scr), (10, Duration::from_secs(30)));
        assert_eq!(automaton.state(), State::Stopped);
    }

    #[test]
    fn two_terminate_requests_go_out_in_six_seconds() {
        let now = crate::clock::now();
        let mut automaton = Automaton::new(State::Opened);
        assert_eq!(automaton.step(Event::Close, now), [Action::Tld, Action::Irc, Action::Str]);
        assert_eq!(sends_until_silence(&mut automaton, now, Action::Str), (2, Duration::from_secs(6)));
        assert_eq!(automaton.state(), State::Closed);
    }

    #[test]
    fn a_terminated_peer_gets_one_restart_time_to_read_the_ack() {
        let now = crate::clock::now();
        let mut automaton = Automaton::new(State::Opened);
        automaton.step(Event::Rtr, now);
        assert_eq!(automaton.deadline(), Some(now + RESTART));
        assert_eq!(automaton.expired(now + RESTART), Some(Event::ToMinus));
        assert_eq!(automaton.step(Event::ToMinus, now + RESTART), [Action::Tlf]);
        assert_eq!(automaton.deadline(), None);
    }
}
