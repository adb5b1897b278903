//! Whole links: transcripts, virtual time, clients that do not play along, and noise.

mod hostile;
mod replay;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::replay::{bytes, hex, replay};
use super::auth::mschapv2::Success;
use super::auth::{Method, Refusal, Verdict};
use super::{Config, Counters, End, Event, Input, Link, Seed};

#[test]
fn windows_logs_in_with_mschapv2() {
    replay(include_str!("../../tests/transcripts/ppp/windows-mschapv2.txt"));
}

#[test]
fn windows_logs_in_with_eap_mschapv2() {
    replay(include_str!("../../tests/transcripts/ppp/windows-eap-mschapv2.txt"));
}

#[test]
fn a_wrong_password_is_error_691_and_the_end() {
    replay(include_str!("../../tests/transcripts/ppp/windows-wrong-password.txt"));
}

#[test]
fn a_wrong_password_in_eap_ends_without_the_clients_help() {
    replay(include_str!("../../tests/transcripts/ppp/eap-wrong-password.txt"));
}

#[test]
fn pppd_logs_in_with_mschapv2_after_refusing_eap() {
    replay(include_str!("../../tests/transcripts/ppp/pppd-mschapv2.txt"));
}

#[test]
fn pppd_logs_in_with_pap_under_a_new_identifier() {
    replay(include_str!("../../tests/transcripts/ppp/pppd-pap.txt"));
}

#[test]
fn open_sstp_client_rejects_magic_and_naks_the_mru() {
    replay(include_str!("../../tests/transcripts/ppp/open-sstp-client.txt"));
}

#[test]
fn an_eap_nak_falls_back_to_the_next_lcp_method() {
    replay(include_str!("../../tests/transcripts/ppp/eap-nak.txt"));
}

const RESPONSE: &str = "FF03 C223 02 10 003A 31 11111111111111111111111111111111 0000000000000000 \
                        222222222222222222222222222222222222222222222222 00 \"User\"";

/// A link at a moment, with a client that sends what a test says.
struct Bench {
    link: Link,
    now: Instant,
}

impl Bench {
    fn new(methods: &[Method]) -> Self {
        let config = Config {
            methods: methods.to_vec(),
            gateway: Ipv4Addr::new(10, 99, 0, 1),
            client: Ipv4Addr::new(10, 99, 0, 42),
            dns: Ipv4Addr::new(10, 99, 0, 1),
            server_name: "sstp".to_owned(),
        };
        let mut seed = [0x59; 64];
        seed[20..23].copy_from_slice(&[0x01, 0x10, 0x01]); // LCP, authentication, IPCP
        Self { link: Link::new(Arc::new(config), Seed(seed)), now: crate::clock::now() }
    }

    /// LCP is about to negotiate.
    fn opened(methods: &[Method]) -> Self {
        let mut bench = Self::new(methods);
        bench.link.open(bench.now);
        bench
    }

    /// LCP is open with MS-CHAPv2, the challenge is out.
    fn challenged() -> Self {
        let mut bench = Self::opened(&[Method::MsChapV2]);
        bench.send("FF03 C021 01 01 0008 010405DC");
        bench.send("FF03 C021 02 01 0013 0305C22381 010405DC 050659595959");
        assert!(bench.sent().last().unwrap().starts_with("FF03C2230110"));
        bench
    }

    /// The question is asked.
    fn asked() -> Self {
        let mut bench = Self::challenged();
        bench.send(RESPONSE);
        assert!(matches!(bench.events()[..], [Event::AuthenticationRequested(_)]));
        bench
    }

    /// The login is accepted, IPCP begins.
    fn accepted() -> Self {
        let mut bench = Self::asked();
        bench.resolve(accepted());
        assert_eq!(bench.events(), [Event::Authenticated]);
        assert_eq!(bench.sent().len(), 2);
        bench
    }

    /// IPCP is open.
    fn up() -> Self {
        let mut bench = Self::accepted();
        bench.send("FF03 8021 02 01 000A 03060A630001");
        bench.send("FF03 8021 01 01 000A 03060A63002A");
        assert_eq!(bench.events(), [Event::NetworkUp { max_packet: 1400 }]);
        assert_eq!(bench.sent(), ["FF0380210201000A03060A63002A"]);
        bench
    }

    fn send(&mut self, frame: &str) {
        assert_eq!(self.link.handle_input(&bytes(frame), self.now), Input::Handled);
    }

    fn resolve(&mut self, verdict: Verdict) {
        self.link.resolve_authentication(verdict, self.now);
    }

    fn sent(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.link.poll_transmit()).map(|frame| hex(&frame)).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.link.poll_event()).collect()
    }

    /// Fires the timers until none is left; returns what was sent, and the time it took.
    fn run_out(&mut self) -> (Vec<String>, Duration) {
        let start = self.now;
        let mut sent = Vec::new();
        while let Some((deadline, _)) = self.link.poll_timeout() {
            assert!(deadline >= self.now, "a timer that was due did not fire");
            self.now = deadline;
            self.link.handle_timeout(deadline);
            sent.extend(self.sent());
        }
        (sent, self.now - start)
    }

    /// The client acknowledges our Terminate-Request; returns why the link ended.
    fn end(&mut self) -> End {
        self.send("FF03 C021 06 00 0004");
        match self.events().pop() {
            Some(Event::Finished(end)) => end,
            other => panic!("{other:?} instead of the end"),
        }
    }
}

fn accepted() -> Verdict {
    Verdict::Accepted(Some(Success { authenticator_response: [0x0F; 20], binding_key: [0x33; 32] }))
}

fn terminate_requests(sent: &[String]) -> usize {
    sent.iter().filter(|frame| frame.starts_with("FF03C02105")).count()
}

#[test]
fn a_silent_client_hears_from_us_after_a_second_and_is_given_up_after_thirty_more() {
    let mut bench = Bench::opened(&[Method::MsChapV2]);
    assert_eq!(bench.link.poll_timeout(), Some((bench.now + Duration::from_secs(1), "LCP: the client begins")));
    let (sent, time) = bench.run_out();
    assert_eq!(sent, vec!["FF03C021010100130305C22381010405DC050659595959"; 10]);
    assert_eq!(time, Duration::from_secs(31));
    assert_eq!(bench.events(), [Event::Finished(End::NoAnswer { during: "LCP" })]);
}

#[test]
fn an_unanswered_challenge_ends_the_link() {
    let mut bench = Bench::challenged();
    let (sent, time) = bench.run_out();
    // Nine more challenges, then two Terminate-Requests.
    assert_eq!((sent.len(), terminate_requests(&sent)), (11, 2));
    assert_eq!(time, Duration::from_secs(30 + 6));
    assert_eq!(bench.events(), [Event::Finished(End::NoAnswer { during: "authentication" })]);
}

#[test]
fn a_verdict_that_does_not_come_ends_the_link_after_fifty_seconds() {
    let mut bench = Bench::asked();
    bench.now += Duration::from_secs(50) - Duration::from_millis(1);
    bench.link.handle_timeout(bench.now);
    assert_eq!(bench.sent(), [""; 0]);
    bench.now += Duration::from_millis(1);
    bench.link.handle_timeout(bench.now);
    assert_eq!(terminate_requests(&bench.sent()), 1);
    bench.resolve(accepted());
    assert_eq!(bench.end(), End::VerdictLate);
}

#[test]
fn a_client_that_does_not_negotiate_ipcp_is_given_up_after_thirty_seconds() {
    let mut bench = Bench::accepted();
    let (sent, time) = bench.run_out();
    assert_eq!((sent.len(), terminate_requests(&sent)), (9 + 2, 2));
    assert_eq!(time, Duration::from_secs(30 + 6));
    assert_eq!(bench.events(), [Event::Finished(End::NoAnswer { during: "IPCP" })]);
}

/// The client acknowledges each of our IPCP requests, of which `id` is the first, and never sends a good one of its own;
/// returns how long that goes on.
fn only_acknowledges(bench: &mut Bench, mut id: String) -> Duration {
    let start = bench.now;
    loop {
        bench.send(&format!("FF03 8021 02 {id} 000A 03060A630001"));
        bench.now = bench.link.poll_timeout().expect("a timer").0;
        bench.link.handle_timeout(bench.now);
        let sent = bench.sent();
        if terminate_requests(&sent) > 0 {
            return bench.now - start;
        }
        assert!(bench.now - start < Duration::from_secs(60), "the link still waits");
        id = sent.last().expect("a new request")[10..12].to_owned();
    }
}

#[test]
fn a_client_that_only_acknowledges_ipcp_is_given_up_after_thirty_seconds() {
    let mut bench = Bench::accepted();
    assert_eq!(only_acknowledges(&mut bench, "01".to_owned()), Duration::from_secs(30));
    assert_eq!(bench.end(), End::NetworkLate);
}

#[test]
fn ipcp_that_went_down_has_thirty_seconds_to_come_up_again() {
    let mut bench = Bench::up();
    bench.now += Duration::from_secs(1000);
    bench.send("FF03 8021 01 02 000A 03060A000001");
    assert_eq!(bench.events(), [Event::NetworkDown]);
    let id = bench.sent()[0][10..12].to_owned();
    assert_eq!(only_acknowledges(&mut bench, id), Duration::from_secs(30));
    assert_eq!(bench.end(), End::NetworkLate);
}

#[test]
fn a_link_that_is_up_has_no_timer() {
    assert_eq!(Bench::up().link.poll_timeout(), None);
}

#[test]
fn a_refused_client_has_a_second_to_end_the_link() {
    let mut bench = Bench::asked();
    bench.resolve(Verdict::Refused(Refusal::NotAllowed));
    assert_eq!(bench.events(), [Event::PasswordRefused(Refusal::NotAllowed)]);
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.link.poll_timeout(), Some((bench.now + Duration::from_secs(1), "a refused client ends the link")));
    let (sent, time) = bench.run_out();
    assert_eq!(terminate_requests(&sent), 2);
    assert_eq!(time, Duration::from_secs(1 + 6));
    assert_eq!(bench.events(), [Event::Finished(End::Refused(Refusal::NotAllowed))]);
}

#[test]
fn closing_before_the_client_spoke_ends_at_once() {
    for mut bench in [Bench::new(&[Method::Pap]), Bench::opened(&[Method::Pap])] {
        bench.link.close("shutdown", bench.now);
        assert_eq!(bench.events(), [Event::Finished(End::Closed { reason: "shutdown" })]);
        assert_eq!(bench.link.poll_timeout(), None);
        assert_eq!(bench.sent(), [""; 0]);
    }
}

#[test]
fn closing_asks_twice_and_ends_after_six_seconds() {
    let mut bench = Bench::up();
    bench.link.close("bye", bench.now);
    bench.link.close("again", bench.now);
    assert_eq!(bench.sent(), ["FF03C02105020007627965"]);
    let (sent, time) = bench.run_out();
    assert_eq!(sent, ["FF03C02105030007627965"]);
    assert_eq!(time, Duration::from_secs(6));
    assert_eq!(bench.events(), [Event::NetworkDown, Event::Finished(End::Closed { reason: "bye" })]);
}

#[test]
fn after_the_end_nothing_happens() {
    let mut bench = Bench::up();
    bench.link.close("bye", bench.now);
    bench.end();
    bench.sent();
    bench.link.open(bench.now);
    bench.send("FF03 C021 01 01 0008 010405DC");
    bench.link.handle_timeout(bench.now + Duration::from_secs(100));
    bench.link.close("bye", bench.now);
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
    assert_eq!(bench.link.poll_timeout(), None);
}

#[test]
fn the_smaller_mru_bounds_what_we_send() {
    let mut bench = Bench::opened(&[Method::MsChapV2]);
    assert_eq!(bench.link.max_packet(), 1400);
    bench.send("FF03 C021 01 01 0008 01040240"); // MRU 576
    assert_eq!(bench.link.max_packet(), 576);
}

#[test]
fn echoes_and_rejects_are_cut_to_the_peers_mru() {
    let mut bench = Bench::opened(&[Method::MsChapV2]);
    bench.send("FF03 C021 01 01 0008 01040240"); // MRU 576
    bench.send("FF03 C021 02 01 0013 0305C22381 010405DC 050659595959");
    bench.sent();
    let long = "00".repeat(700);
    bench.send(&format!("FF03 C021 09 05 02C0 {long}")); // Echo-Request
    bench.send(&format!("FF03 C021 0E 06 02C0 {long}")); // an unknown code
    for (frame, start) in bench.sent().iter().zip(["FF03C0210A050240", "FF03C02107020240"]) {
        assert!(frame.starts_with(start), "{frame}");
        assert_eq!(frame.len() / 2, 4 + 576);
    }
}

#[test]
fn a_protocol_reject_is_cut_to_the_peers_mru() {
    let mut bench = Bench::up();
    bench.send(&format!("FF03 80FD {}", "00".repeat(3000)));
    let sent = bench.sent();
    assert!(sent[0].starts_with("FF03C021080205DC80FD"));
    assert_eq!((sent.len(), sent[0].len() / 2), (1, 4 + 1500));
}

#[test]
fn an_echo_is_answered_only_when_lcp_is_open() {
    let mut bench = Bench::opened(&[Method::MsChapV2]);
    bench.send("FF03 C021 09 05 0008 00000000");
    assert_eq!(bench.sent(), [""; 0]);
}

#[test]
fn ipcp_terminated_by_the_client_ends_the_link() {
    let mut bench = Bench::up();
    bench.send("FF03 8021 05 07 0004");
    assert_eq!(bench.sent(), ["FF03802106070004"]);
    assert_eq!(bench.events(), [Event::NetworkDown]);
    bench.now += Duration::from_secs(3);
    bench.link.handle_timeout(bench.now);
    assert_eq!(terminate_requests(&bench.sent()), 1);
    assert_eq!(bench.end(), End::NetworkEnded);
}

#[test]
fn ipcp_may_be_negotiated_again() {
    let mut bench = Bench::up();
    bench.send("FF03 8021 01 02 000A 03060A63002A");
    assert_eq!(bench.sent(), ["FF0380210102000A03060A630001", "FF0380210202000A03060A63002A"]);
    assert_eq!(bench.events(), [Event::NetworkDown]);
    bench.send("FF03 8021 02 02 000A 03060A630001");
    assert_eq!(bench.events(), [Event::NetworkUp { max_packet: 1400 }]);
}

#[test]
fn a_client_that_rejects_our_address_gets_an_empty_request() {
    let mut bench = Bench::accepted();
    bench.send("FF03 8021 04 01 000A 03060A630001");
    assert_eq!(bench.sent(), ["FF03802101020004"]);
}
