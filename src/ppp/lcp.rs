//! The Link Control Protocol: its options, the choice of the authentication method, and its own codes.
//!
//! [RFC 1661] sections 5 and 6 rule, RFC 1570 the codes 12 and 13. We request Authentication-Protocol, MRU and
//! Magic-Number; of the peer's options MRU, ACCM and Magic-Number are taken, everything else is rejected.

use std::time::{Duration, Instant};

use super::Seed;
use super::auth::Method;
use super::automaton::{Event, State};
use super::end::End;
use super::layer::{Judgement, Layer, OptionSet, Signal};
use super::outbox::{DEFAULT_MRU, Outbox};
use super::wire::{Code, ConfigureOption, MAX_FRAME, Malformed, Packet, Protocol, printable};

/// Maximum-Receive-Unit
const MRU: u8 = 1;
/// Async-Control-Character-Map; means nothing without bytes on a serial line
const ACCM: u8 = 2;
/// Authentication-Protocol
const AUTHENTICATION: u8 = 3;
/// Magic-Number
const MAGIC: u8 = 5;

/// The smallest MRU that is taken: what every host of the internet must accept (RFC 791), and the least that our stack sends.
const MIN_MRU: u16 = 576;

/// The largest MRU that a peer may talk us into: what fits an SSTP packet.
const MAX_MRU: u16 = MAX_FRAME as u16;

/// How long the client may take to begin. Windows loses what arrives before its PPP engine runs, right after Call
/// Connect Ack; and a client that waits for us must not wait long.
pub(super) const PASSIVE: Duration = Duration::from_secs(1);

/// How much text of an Identification is kept.
const MAX_IDENTIFICATION: usize = 64;

/// How many different wishes of a client are kept for the log; as many as there are methods in the field.
const MAX_WISHES: usize = 8;

/// The value of the Authentication-Protocol option.
fn authentication(method: Method) -> &'static [u8] {
    match method {
        Method::Pap => &[0xC0, 0x23],
        Method::MsChapV2 => &[0xC2, 0x23, 0x81],
        Method::EapMsChapV2 => &[0xC2, 0x27],
    }
}

/// The name of what a client wants instead.
fn wish(value: &[u8]) -> String {
    match value {
        [0xC0, 0x23] => "pap".to_owned(),
        [0xC2, 0x27] => "eap".to_owned(),
        [0xC2, 0x23, 0x05] => "chap-md5".to_owned(),
        [0xC2, 0x23, 0x80] => "mschapv1".to_owned(),
        [0xC2, 0x23, 0x81] => "mschapv2".to_owned(),
        [high, low, ..] => format!("protocol {:#06x}", u16::from_be_bytes([*high, *low])),
        [] | [_] => "nothing known".to_owned(),
    }
}

/// Which methods are left to offer.
#[derive(Debug)]
struct Choice {
    configured: Vec<Method>,
    untried: Vec<Method>,
    current: Option<Method>,
    wishes: Vec<String>,
}

impl Choice {
    fn new(configured: Vec<Method>) -> Self {
        let mut choice = Self { untried: configured.clone(), configured, current: None, wishes: Vec::new() };
        choice.current = choice.take(|_| true);
        choice
    }

    /// The first untried method that suits; a method is offered once.
    fn take(&mut self, suits: impl Fn(Method) -> bool) -> Option<Method> {
        let at = self.untried.iter().position(|method| suits(*method))?;
        Some(self.untried.remove(at))
    }

    /// The client does not want the current method, but perhaps one with this option value.
    fn refuse(&mut self, value: &[u8], wish: String) -> Result<(), End> {
        if self.wishes.len() < MAX_WISHES && !self.wishes.contains(&wish) {
            self.wishes.push(wish);
        }
        let next = self.take(|method| authentication(method) == value).or_else(|| self.take(|_| true));
        self.current = Some(next.ok_or_else(|| self.exhausted())?);
        Ok(())
    }

    fn exhausted(&self) -> End {
        let offered: Vec<_> = self.configured.iter().map(|method| method.as_str()).collect();
        let or_nothing = |list: String| if list.is_empty() { "nothing".to_owned() } else { list };
        End::NoCommonMethod { wanted: or_nothing(self.wishes.join(", ")), offered: or_nothing(offered.join(", ")) }
    }
}

/// Both sides' LCP options.
#[derive(Debug)]
pub(super) struct LcpOptions {
    choice: Choice,
    mru: Option<u16>,
    magic: Option<u32>,
    seed: Seed,
    magics_used: usize,
    peer_mru: u16,
    candidate_mru: u16,
}

impl LcpOptions {
    fn new(methods: Vec<Method>, seed: Seed) -> Self {
        let magic = Some(seed.magic(0));
        Self {
            choice: Choice::new(methods),
            mru: Some(DEFAULT_MRU),
            magic,
            seed,
            magics_used: 1,
            peer_mru: DEFAULT_MRU,
            candidate_mru: DEFAULT_MRU,
        }
    }

    fn fresh_magic(&mut self) -> u32 {
        let magic = self.seed.magic(self.magics_used);
        self.magics_used = self.magics_used.wrapping_add(1);
        magic
    }
}

impl OptionSet for LcpOptions {
    const PROTOCOL: Protocol = Protocol::Lcp;
    const NAME: &'static str = "LCP";

    fn request(&self) -> Vec<u8> {
        let mut data = Vec::new();
        if let Some(method) = self.choice.current {
            ConfigureOption { kind: AUTHENTICATION, value: authentication(method) }.emit_to(&mut data);
        }
        if let Some(mru) = self.mru {
            ConfigureOption { kind: MRU, value: &mru.to_be_bytes() }.emit_to(&mut data);
        }
        if let Some(magic) = self.magic {
            ConfigureOption { kind: MAGIC, value: &magic.to_be_bytes() }.emit_to(&mut data);
        }
        data
    }

    fn judge(&mut self, options: &[ConfigureOption<'_>], may_nak: bool) -> Judgement {
        let (mut naks, mut rejects) = (Vec::new(), Vec::new());
        self.candidate_mru = DEFAULT_MRU;
        for (at, option) in options.iter().enumerate() {
            let repeated = options.iter().take(at).any(|earlier| earlier.kind == option.kind);
            let better = match (option.kind, option.value) {
                (MRU | ACCM | MAGIC, _) if repeated => None,
                (MRU, [high, low]) => {
                    let mru = u16::from_be_bytes([*high, *low]);
                    if mru >= MIN_MRU {
                        self.candidate_mru = mru;
                        continue;
                    }
                    Some(DEFAULT_MRU.to_be_bytes().to_vec())
                }
                (ACCM, [_, _, _, _]) => continue,
                (MAGIC, [a, b, c, d]) => {
                    let magic = u32::from_be_bytes([*a, *b, *c, *d]);
                    if magic != 0 && Some(magic) != self.magic {
                        continue;
                    }
                    Some(self.fresh_magic().to_be_bytes().to_vec())
                }
                _ => None,
            };
            match better.filter(|_| may_nak) {
                Some(value) => ConfigureOption { kind: option.kind, value: &value }.emit_to(&mut naks),
                None => option.emit_to(&mut rejects),
            }
        }
        match (rejects.is_empty(), naks.is_empty()) {
            (false, _) => Judgement::Reject(rejects),
            (true, false) => Judgement::Nak(naks),
            (true, true) => Judgement::Ack,
        }
    }

    fn adopt(&mut self) {
        self.peer_mru = self.candidate_mru;
    }

    /// Options that we did not request are ignored; a wish for another method is taken even so.
    fn take_nak(&mut self, options: &[ConfigureOption<'_>]) -> Result<(), End> {
        for option in options {
            match (option.kind, option.value) {
                (AUTHENTICATION, value) => self.choice.refuse(value, wish(value))?,
                (MRU, [high, low]) if self.mru.is_some() => {
                    let mru = u16::from_be_bytes([*high, *low]);
                    if (MIN_MRU..=MAX_MRU).contains(&mru) {
                        self.mru = Some(mru);
                    }
                }
                (MAGIC, _) if self.magic.is_some() => self.magic = Some(self.fresh_magic()),
                _ => {}
            }
        }
        Ok(())
    }

    fn take_reject(&mut self, options: &[ConfigureOption<'_>]) -> Result<(), End> {
        for option in options {
            match option.kind {
                AUTHENTICATION => return Err(self.choice.exhausted()),
                MRU => self.mru = None,
                MAGIC => self.magic = None,
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a packet or the clock did to LCP.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// From the automaton.
    Signal(Signal),
    /// The peer described itself.
    Identification(Box<str>),
    /// The peer does not speak this protocol.
    Rejected(Protocol),
}

/// LCP of one link.
#[derive(Debug)]
pub(super) struct Lcp {
    layer: Layer<LcpOptions>,
    /// While it is set, the client is awaited; when it passes, we begin.
    passive: Option<Instant>,
}

impl Lcp {
    /// In Stopped, where RFC 1661 section 4.2 has an end that waits for its peer to begin.
    pub(super) fn new(methods: Vec<Method>, seed: Seed) -> Self {
        let first_id = seed.lcp_id();
        Self { layer: Layer::new(State::Stopped, LcpOptions::new(methods, seed), first_id), passive: None }
    }

    /// The lower layer is up, and the client may begin.
    pub(super) fn await_client(&mut self, now: Instant) {
        self.passive = Some(now + PASSIVE);
    }

    pub(super) fn state(&self) -> State {
        self.layer.state()
    }

    pub(super) fn is_opened(&self) -> bool {
        self.layer.is_opened()
    }

    /// The method that the latest request offers; agreed on, once LCP is Opened.
    pub(super) fn method(&self) -> Option<Method> {
        self.layer.options.choice.current
    }

    /// The end of a link whose methods are all refused, or that has none.
    pub(super) fn no_common_method(&self) -> End {
        self.layer.options.choice.exhausted()
    }

    /// The largest packet that the peer takes.
    pub(super) fn peer_mru(&self) -> u16 {
        self.layer.options.peer_mru
    }

    /// The agreed method turned out not to suit the client: offers the next one, by negotiating again.
    pub(super) fn offer_next(&mut self, wish: String, now: Instant, out: &mut Outbox) -> Result<(), End> {
        self.layer.options.choice.refuse(&[], wish)?;
        self.restart(now, out);
        Ok(())
    }

    fn restart(&mut self, now: Instant, out: &mut Outbox) {
        self.passive = None;
        self.layer.step(Event::Down, now, out);
        self.layer.step(Event::Up, now, out);
    }

    pub(super) fn close(&mut self, reason: &'static str, now: Instant, out: &mut Outbox) -> Option<Signal> {
        self.passive = None;
        self.layer.close(reason, now, out)
    }

    pub(super) fn handle_packet(
        &mut self,
        packet: Packet<'_>,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<Option<Notice>, Malformed> {
        match Code::from(packet.code) {
            Code::EchoRequest => Ok(self.handle_echo(packet, now, out).map(Notice::Signal)),
            Code::EchoReply | Code::DiscardRequest | Code::TimeRemaining => Ok(None),
            Code::Identification => identification(packet.data).map(Some),
            Code::ProtocolReject => self.handle_protocol_reject(packet.data),
            Code::ConfigureRequest
            | Code::ConfigureAck
            | Code::ConfigureNak
            | Code::ConfigureReject
            | Code::TerminateRequest
            | Code::TerminateAck
            | Code::CodeReject
            | Code::Other(_) => {
                let signal = self.layer.handle_packet(packet, now, out)?;
                if self.layer.state() != State::Stopped {
                    self.passive = None;
                }
                Ok(signal.map(Notice::Signal))
            }
        }
    }

    /// The reply has our magic number in place of the peer's. When the peer rejected ours, the data goes back as it
    /// came: such a peer may have put its text where the number belongs.
    fn handle_echo(&mut self, packet: Packet<'_>, now: Instant, out: &mut Outbox) -> Option<Signal> {
        match (self.layer.options.magic, packet.data.split_first_chunk::<4>()) {
            (Some(magic), Some((_, rest))) => {
                let mut data = magic.to_be_bytes().to_vec();
                data.extend_from_slice(rest);
                self.layer.echo(packet.id, &data, now, out)
            }
            (Some(_), None) | (None, _) => self.layer.echo(packet.id, packet.data, now, out),
        }
    }

    /// RFC 1661 section 5.7: discarded unless LCP is Opened.
    fn handle_protocol_reject(&self, data: &[u8]) -> Result<Option<Notice>, Malformed> {
        let [high, low, ..] = data else {
            return Err(Malformed::TooShort { expected: 2, got: data.len() });
        };
        let protocol = Protocol::from(u16::from_be_bytes([*high, *low]));
        Ok(self.is_opened().then_some(Notice::Rejected(protocol)))
    }

    pub(super) fn reject_protocol(&mut self, protocol: Protocol, information: &[u8], out: &mut Outbox) {
        self.layer.reject_protocol(protocol, information, out);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Option<Signal> {
        if self.passive.is_some_and(|deadline| deadline <= now) {
            self.restart(now, out);
            return None;
        }
        self.layer.handle_timeout(now, out)
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let passive = self.passive.map(|deadline| (deadline, "LCP: the client begins"));
        passive.or_else(|| self.layer.deadline().map(|deadline| (deadline, "LCP: restart timer")))
    }
}

/// Magic-Number and text; Windows sends its version, its computer's name, and 16 bytes that are no text.
fn identification(data: &[u8]) -> Result<Notice, Malformed> {
    let (_magic, text) = data.split_first_chunk::<4>().ok_or(Malformed::TooShort { expected: 4, got: data.len() })?;
    Ok(Notice::Identification(printable(text, MAX_IDENTIFICATION)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(methods: &[Method]) -> LcpOptions {
        let mut seed = [0; 64];
        seed[..4].copy_from_slice(&[0x11, 0x22, 0x33, 0x44]);
        seed[24..28].copy_from_slice(&[0x55, 0x66, 0x77, 0x88]);
        LcpOptions::new(methods.to_vec(), Seed(seed))
    }

    fn judge(set: &mut LcpOptions, data: &[u8], may_nak: bool) -> Judgement {
        set.judge(&ConfigureOption::parse_all(data).unwrap(), may_nak)
    }

    fn nak(set: &mut LcpOptions, data: &[u8]) -> Result<(), End> {
        set.take_nak(&ConfigureOption::parse_all(data).unwrap())
    }

    #[test]
    fn all_that_windows_proposes_beyond_mru_and_magic_is_rejected_at_once() {
        let mut set = options(&[Method::Pap]);
        let proposal = [
            0x01, 0x04, 0x0F, 0xFB, // MRU 4091
            0x05, 0x06, 0xAA, 0xBB, 0xCC, 0xDD, // Magic-Number
            0x07, 0x02, // PFC
            0x08, 0x02, // ACFC
            0x0D, 0x03, 0x06, // Callback
            0x11, 0x04, 0x06, 0x4E, // MRRU
            0x13, 0x03, 0x01, // Endpoint Discriminator
            0x03, 0x04, 0xC0, 0x23, // Authentication-Protocol
        ];
        assert_eq!(judge(&mut set, &proposal, true), Judgement::Reject(proposal[10..].to_vec()));
    }

    #[test]
    fn the_mru_holds_when_it_is_acknowledged_and_not_before() {
        let mut set = options(&[Method::Pap]);
        assert_eq!(judge(&mut set, &[0x01, 0x04, 0x02, 0x40], true), Judgement::Ack);
        assert_eq!(set.peer_mru, 1500);
        set.adopt();
        assert_eq!(set.peer_mru, 576);
        assert_eq!(judge(&mut set, &[], true), Judgement::Ack);
        set.adopt();
        assert_eq!(set.peer_mru, 1500);
    }

    #[test]
    fn a_tiny_mru_is_nakked_with_1500_and_later_rejected() {
        let mut set = options(&[Method::Pap]);
        let tiny = [0x01, 0x04, 0x02, 0x3F];
        assert_eq!(judge(&mut set, &tiny, true), Judgement::Nak(vec![0x01, 0x04, 0x05, 0xDC]));
        assert_eq!(judge(&mut set, &tiny, false), Judgement::Reject(tiny.to_vec()));
    }

    #[test]
    fn our_own_magic_number_and_zero_are_nakked_with_another() {
        let mut set = options(&[Method::Pap]);
        let ours = [0x05, 0x06, 0x11, 0x22, 0x33, 0x44];
        assert_eq!(judge(&mut set, &ours, true), Judgement::Nak(vec![0x05, 0x06, 0x55, 0x66, 0x77, 0x88]));
        assert!(matches!(judge(&mut set, &[0x05, 0x06, 0, 0, 0, 0], true), Judgement::Nak(_)));
    }

    #[test]
    fn a_repeated_or_misshapen_option_is_rejected() {
        let mut set = options(&[Method::Pap]);
        let twice = [0x01, 0x04, 0x05, 0xDC, 0x01, 0x04, 0x05, 0xDD];
        assert_eq!(judge(&mut set, &twice, true), Judgement::Reject(twice[4..].to_vec()));
        let long = [0x01, 0x05, 0x05, 0xDC, 0x00];
        assert_eq!(judge(&mut set, &long, true), Judgement::Reject(long.to_vec()));
    }

    #[test]
    fn an_mru_of_up_to_4091_is_accepted_from_a_nak() {
        let mut set = options(&[Method::Pap]);
        for (wanted, taken) in [(1600, 1600), (4091, 4091), (4092, 4091), (100, 4091), (1400, 1400)] {
            let [high, low] = u16::to_be_bytes(wanted);
            nak(&mut set, &[0x01, 0x04, high, low]).unwrap();
            assert_eq!(set.mru, Some(taken), "{wanted}");
        }
    }

    #[test]
    fn the_wanted_method_comes_next_and_each_only_once() {
        let mut set = options(&[Method::EapMsChapV2, Method::MsChapV2, Method::Pap]);
        assert_eq!(set.choice.current, Some(Method::EapMsChapV2));
        nak(&mut set, &[0x03, 0x04, 0xC0, 0x23]).unwrap();
        assert_eq!(set.choice.current, Some(Method::Pap));
        nak(&mut set, &[0x03, 0x04, 0xC0, 0x23]).unwrap();
        assert_eq!(set.choice.current, Some(Method::MsChapV2));
        let end = nak(&mut set, &[0x03, 0x05, 0xC2, 0x23, 0x05]).unwrap_err();
        let expected = End::NoCommonMethod {
            wanted: "pap, chap-md5".to_owned(),
            offered: "eap-mschapv2, mschapv2, pap".to_owned(),
        };
        assert_eq!(end, expected);
    }

    #[test]
    fn a_client_that_rejects_authentication_is_at_its_end() {
        let mut set = options(&[Method::EapMsChapV2]);
        let rejected = [0x03, 0x04, 0xC2, 0x27];
        let end = set.take_reject(&ConfigureOption::parse_all(&rejected).unwrap()).unwrap_err();
        assert_eq!(end, End::NoCommonMethod { wanted: "nothing".to_owned(), offered: "eap-mschapv2".to_owned() });
    }
}
