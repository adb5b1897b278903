//! The client's machine against the server's: no socket, no TLS, virtual time, and bytes cut into any pieces.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sha1::Digest as _;
use wicket_client::{ClientKind, Ended, Event as ClientEvent, Method, Profile, SimClient, ip};
use wicketgate::identity;
use wicketgate::netstack::{self, Counters};
use wicketgate::ppp::auth::mschapv2::{self, NtHash};
use wicketgate::ppp::auth::{Proof, Refusal, Verdict};
use wicketgate::sstp::{self, CertificateHashes};
use wicketgate::tunnel::{Config, End, Event, Outgoing, Seeds, Tunnel};
use wicketgate::{clock, ppp};

const PASSWORD: &str = "hunter2";
const CERTIFICATE: &[u8] = b"the DER of a certificate";

pub(crate) const CLIENTS: [ClientKind; 3] = [ClientKind::Windows, ClientKind::Pppd, ClientKind::OpenSstp];
pub(crate) const METHODS: [Method; 3] = [Method::EapMsChapV2, Method::MsChapV2, Method::Pap];

/// Alice with this client and method, and the right password.
pub(crate) fn alice(client: ClientKind, method: Method) -> Profile {
    Profile::new("vpn.example.test", "alice", PASSWORD, method).client(client)
}

/// Both machines and the time between them.
pub(crate) struct Pair {
    pub(crate) client: SimClient,
    pub(crate) tunnel: Tunnel,
    pub(crate) now: Instant,
    began: Instant,
    out: Outgoing,
    /// The sizes of the pieces, again and again.
    pieces: Vec<usize>,
    piece: usize,
    /// Whether logins are judged.
    pub(crate) judge: bool,
    waiting: Option<Proof>,
    /// What the server said, as text.
    pub(crate) server_events: Vec<String>,
    pub(crate) client_events: Vec<ClientEvent>,
    pub(crate) end: Option<End>,
}

impl Pair {
    pub(crate) fn new(profile: Profile) -> Self {
        Self::cut(profile, &[usize::MAX])
    }

    /// Every byte goes in pieces of these sizes.
    pub(crate) fn cut(profile: Profile, pieces: &[usize]) -> Self {
        let now = clock::now();
        let hashes = CertificateHashes {
            sha1: sha1::Sha1::digest(CERTIFICATE).into(),
            sha256: sha2::Sha256::digest(CERTIFICATE).into(),
        };
        let mut client = SimClient::new(profile, CERTIFICATE, [3; 32], now);
        let mut head = Vec::new();
        client.poll_transmit(&mut head);
        let (_, length) = sstp::http::read_head(&head).unwrap().unwrap();
        let seeds = Seeds { nonce: [1; 32], link: ppp::Seed([2; 64]), stack: 7 };
        let mut tunnel = Tunnel::new(config(), hashes, seeds, now);
        let mut out = Outgoing::default();
        // What a client in a hurry sent behind its request.
        tunnel.handle_input(&head[length..], now, &mut out);
        client.handle_input(&sstp::http::accepted("Tue, 24 Nov 2026 00:00:00 GMT"), now);
        Self {
            client,
            tunnel,
            now,
            began: now,
            out,
            pieces: pieces.to_vec(),
            piece: 0,
            judge: true,
            waiting: None,
            server_events: Vec::new(),
            client_events: Vec::new(),
            end: None,
        }
    }

    /// Lets both talk until neither has anything to say, without time passing.
    pub(crate) fn talk(&mut self) {
        let mut quiet = false;
        while !quiet {
            quiet = true;
            let mut bytes = Vec::new();
            self.client.poll_transmit(&mut bytes);
            quiet &= bytes.is_empty();
            for piece in self.pieces_of(&bytes) {
                self.tunnel.handle_input(&piece, self.now, &mut self.out);
                quiet &= !self.serve();
            }
            quiet &= !self.serve();
        }
    }

    /// The server's turn; whether it had anything to do.
    fn serve(&mut self) -> bool {
        let mut busy = false;
        while let Some(event) = self.tunnel.poll_event() {
            busy = true;
            self.handle_event(event);
        }
        while !self.tunnel.poll_transmit(self.now, &mut self.out) {}
        let bytes = self.out.bytes().to_vec();
        self.out.clear();
        for piece in self.pieces_of(&bytes) {
            self.client.handle_input(&piece, self.now);
            while let Some(event) = self.client.poll_event() {
                self.client_events.push(event);
            }
        }
        busy || !bytes.is_empty()
    }

    fn handle_event(&mut self, event: Event) {
        self.server_events.push(format!("{event:?}"));
        match event {
            Event::LoginRequested(proof) if self.judge => self.tunnel.resolve_login(verdict(&proof), self.now),
            Event::LoginRequested(proof) => self.waiting = Some(proof),
            Event::Ended(end) => self.end = Some(end),
            Event::Identification(_) | Event::Up(_) | Event::Accepted(_) | Event::WorldRefused => {}
        }
    }

    /// Judges the login that waits.
    fn judge_now(&mut self) {
        let proof = self.waiting.take().expect("a login");
        self.tunnel.resolve_login(verdict(&proof), self.now);
        self.talk();
    }

    fn pieces_of(&mut self, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let size = self.pieces[self.piece % self.pieces.len()].clamp(1, bytes.len());
            self.piece += 1;
            let (piece, rest) = bytes.split_at(size);
            pieces.push(piece.to_vec());
            bytes = rest;
        }
        pieces
    }

    /// Lets time pass from timer to timer, until something ended or so long.
    pub(crate) fn wait(&mut self, limit: Duration) {
        let until = self.now + limit;
        self.talk();
        while self.end.is_none() {
            let timers = [self.client.poll_timeout(), self.tunnel.poll_timeout(self.now)];
            let Some((next, _)) = timers.into_iter().flatten().min() else { break };
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.tunnel.handle_timeout(self.now);
            self.talk();
        }
        self.now = self.now.max(if self.end.is_none() { until } else { self.now });
    }

    /// Lets time pass for the server alone, as if the client were gone.
    fn wait_alone(&mut self) {
        while !self.tunnel.poll_transmit(self.now, &mut self.out) {}
        self.out.clear();
        while self.end.is_none() {
            let (next, _) = self.tunnel.poll_timeout(self.now).expect("it does not wait forever");
            self.now = self.now.max(next);
            self.tunnel.handle_timeout(self.now);
            while !self.tunnel.poll_transmit(self.now, &mut self.out) {}
            self.out.clear();
            while let Some(event) = self.tunnel.poll_event() {
                self.handle_event(event);
            }
        }
    }

    pub(crate) fn passed(&self) -> Duration {
        self.now - self.began
    }

    /// Whether the server thinks that streams may come.
    pub(crate) fn is_up(&self) -> bool {
        self.server_events.iter().any(|event| event.starts_with("Up"))
    }

    pub(crate) fn client_is_up(&self) -> bool {
        self.client_events.iter().any(|event| matches!(event, ClientEvent::Up(_)))
    }

    pub(crate) fn ended(&self) -> Option<&Ended> {
        self.client_events
            .iter()
            .find_map(|event| if let ClientEvent::Ended(ended) = event { Some(ended) } else { None })
    }

    pub(crate) fn counters(&self) -> Counters {
        self.tunnel.counters()
    }
}

pub(crate) fn config() -> Arc<Config> {
    let (gateway, client) = ("198.18.7.1".parse().unwrap(), "198.18.7.2".parse().unwrap());
    Arc::new(Config {
        ppp: Arc::new(ppp::Config {
            methods: vec![identity::Method::EapMsChapV2, identity::Method::MsChapV2, identity::Method::Pap],
            gateway,
            client,
            dns: gateway,
            server_name: "test".to_owned(),
        }),
        network: Arc::new(netstack::Config {
            gateway,
            client,
            services: "198.18.7.128/25".parse().unwrap(),
            suffix: "api.example.test".into(),
            max_streams: 10,
        }),
        hashes: sstp::Hashes { sha1: false, sha256: true },
        zero_binding: vec![identity::Method::EapMsChapV2],
    })
}

fn verdict(proof: &Proof) -> Verdict {
    let accepted = match proof {
        Proof::Password { password, .. } => (password.as_bytes() == PASSWORD.as_bytes()).then_some(None),
        Proof::MsChapV2 { name, challenge, peer_challenge, nt_response, .. } => {
            mschapv2::verify(&NtHash::of_password(PASSWORD), name, challenge, peer_challenge, nt_response).map(Some)
        }
    };
    accepted.map_or(Verdict::Refused(Refusal::Credentials), Verdict::Accepted)
}

/// A login, an echo and a farewell; what both sides told of it.
fn story(profile: Profile, pieces: &[usize]) -> (Vec<String>, Vec<ClientEvent>, Counters) {
    let mut pair = Pair::cut(profile, pieces);
    pair.talk();
    assert!(pair.is_up() && pair.client_is_up(), "{:?} {:?}", pair.server_events, pair.client_events);
    let (from, gateway) = ("198.18.7.2".parse().unwrap(), "198.18.7.1".parse().unwrap());
    assert!(pair.client.send_packet(&ip::icmp_echo(from, gateway, 7, 1)));
    pair.talk();
    pair.client.disconnect(pair.now);
    pair.wait(Duration::from_secs(20));
    let counters = pair.counters();
    (pair.server_events, pair.client_events, counters)
}

#[test]
fn however_the_bytes_are_cut_both_sides_tell_the_same_story() {
    for client in CLIENTS {
        for method in METHODS {
            let whole = story(alice(client, method), &[usize::MAX]);
            assert_eq!(whole.2.echo_answered, 1);
            assert!(whole.1.contains(&ClientEvent::Ended(Ended::Closed)), "{client:?} {method:?} {:?}", whole.1);
            for pieces in [&[1][..], &[2], &[3, 1], &[4, 5], &[7, 64, 1], &[4095, 1]] {
                assert_eq!(story(alice(client, method), pieces), whole, "{client:?} {method:?} {pieces:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_tells_the_same_story(pieces in prop::collection::vec(1_usize..300, 1..40), kind in 0..3_usize) {
        let profile = || alice(CLIENTS[kind], Method::EapMsChapV2);
        prop_assert_eq!(story(profile(), &pieces), story(profile(), &[usize::MAX]));
    }
}

#[test]
fn a_wrong_password_is_told_to_both_sides() {
    for client in CLIENTS {
        for method in METHODS {
            let mut profile = alice(client, method);
            profile.password = "hunter3".to_owned();
            let mut pair = Pair::new(profile);
            pair.wait(Duration::from_secs(20));
            assert_eq!(pair.ended(), Some(&Ended::Refused(691)), "{client:?} {method:?}");
            assert!(!pair.is_up() && pair.end.is_some(), "{:?}", pair.server_events);
        }
    }
}

#[test]
fn a_slow_directory_is_waited_for_and_nothing_passes_meanwhile() {
    for client in CLIENTS {
        for method in METHODS {
            let mut pair = Pair::new(alice(client, method));
            pair.judge = false;
            pair.wait(Duration::from_secs(20));
            assert!(!pair.is_up() && !pair.client_is_up() && pair.end.is_none(), "{:?}", pair.server_events);
            assert_eq!(pair.server_events.iter().filter(|event| event.starts_with("LoginRequested")).count(), 1);
            pair.judge_now();
            pair.wait(Duration::from_secs(5));
            assert!(pair.is_up() && pair.client_is_up(), "{client:?} {method:?} {:?}", pair.client_events);
        }
    }
}

#[test]
fn a_directory_that_never_answers_ends_the_call_within_a_minute() {
    let mut pair = Pair::new(alice(ClientKind::Windows, Method::EapMsChapV2));
    pair.judge = false;
    pair.wait(Duration::from_secs(90));
    assert!(pair.end.is_some() && !pair.is_up());
    assert!(pair.passed() <= Duration::from_secs(65), "{:?}", pair.passed());
}

#[test]
fn a_client_that_falls_silent_is_given_up_and_its_echo_is_asked_for_before() {
    let mut pair = Pair::new(alice(ClientKind::Windows, Method::MsChapV2));
    pair.talk();
    assert!(pair.is_up());
    pair.wait_alone();
    assert_eq!(pair.end, Some(End::Call(sstp::End::HelloTimeout)));
    assert!((110..=180).contains(&pair.passed().as_secs()), "{:?}", pair.passed());
}

#[test]
fn a_client_that_lives_is_not_given_up_though_it_has_nothing_to_say() {
    for client in CLIENTS {
        let mut pair = Pair::new(alice(client, Method::MsChapV2));
        pair.wait(Duration::from_secs(3600));
        assert!(pair.is_up() && pair.end.is_none() && pair.ended().is_none(), "{client:?} {:?}", pair.client_events);
    }
}

#[test]
fn a_server_that_closes_says_goodbye_and_is_answered() {
    for client in CLIENTS {
        let mut pair = Pair::new(alice(client, Method::EapMsChapV2));
        pair.talk();
        pair.tunnel.close(pair.now);
        pair.wait(Duration::from_secs(10));
        assert!(matches!(pair.ended(), Some(Ended::Disconnected(_))), "{client:?} {:?}", pair.ended());
        assert_eq!(pair.end, Some(End::Call(sstp::End::Closed)));
        assert!(pair.passed() < Duration::from_secs(1), "the answer ends the wait");
    }
}

#[test]
fn a_server_that_closes_does_not_wait_for_a_client_that_is_gone() {
    let mut pair = Pair::new(alice(ClientKind::Windows, Method::EapMsChapV2));
    pair.talk();
    pair.tunnel.close(pair.now);
    pair.wait_alone();
    assert!(pair.passed() <= Duration::from_secs(10), "{:?}", pair.passed());
}

#[test]
fn the_end_of_the_connection_is_the_end_of_the_session() {
    let mut pair = Pair::new(alice(ClientKind::Pppd, Method::EapMsChapV2));
    pair.talk();
    pair.tunnel.handle_eof(pair.now);
    pair.talk();
    assert_eq!(pair.end, Some(End::Call(sstp::End::ConnectionClosed)));
}
