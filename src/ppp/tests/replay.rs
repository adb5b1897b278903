//! Replays a transcript against a [`Link`]: bytes, time and verdicts go in, every frame and event must be as written.
//!
//! A transcript is read line by line; `#` begins a comment. Bytes are hexadecimal digits with any spacing, and text
//! in quotes.
//!
//! | line | meaning |
//! |---|---|
//! | `methods A B`, `network GATEWAY CLIENT DNS`, `server NAME`, `user NAME PASSWORD` | the configuration |
//! | `seed magic BYTES`, `seed challenge BYTES`, `seed ids LCP AUTH IPCP` | the randomness |
//! | `open`, `bound`, `close REASON`, `wait 3s`, `wait 500ms` | what the owner does; timers fire when they are due |
//! | `> BYTES` | the client sends |
//! | `verdict` | the question is answered, by the configured user |
//! | `< BYTES`, `= EVENT`, `packet BYTES` | the next frame, event, or packet; none may be left over |

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ppp::auth::mschapv2::{NtHash, verify, without_domain};
use crate::ppp::auth::{Method, Proof, Refusal, Verdict};
use crate::ppp::{Config, Event, Input, Link, Seed};

struct Replay {
    config: Config,
    user: (String, String),
    seed: [u8; 64],
    link: Option<Link>,
    now: Instant,
    proof: Option<Proof>,
    packet: Option<Vec<u8>>,
}

/// Replays `transcript`; panics with the line that does not hold.
pub(super) fn replay(transcript: &str) {
    let address = std::net::Ipv4Addr::UNSPECIFIED;
    let mut replay = Replay {
        config: Config {
            methods: Vec::new(),
            gateway: address,
            client: address,
            dns: address,
            server_name: "sstp".to_owned(),
        },
        user: (String::new(), String::new()),
        seed: [0; 64],
        link: None,
        now: crate::clock::now(),
        proof: None,
        packet: None,
    };
    for (number, line) in transcript.lines().enumerate() {
        if !line.is_empty() && !line.starts_with('#') {
            replay.line(line, &format!("line {}: {line}", number + 1));
        }
    }
    replay.nothing_left("the end");
}

impl Replay {
    fn line(&mut self, line: &str, at: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match word {
            "methods" => self.config.methods = words.iter().map(|name| method(name)).collect(),
            "network" => {
                self.config.gateway = words[0].parse().unwrap();
                self.config.client = words[1].parse().unwrap();
                self.config.dns = words[2].parse().unwrap();
            }
            "server" => self.config.server_name = rest.to_owned(),
            "user" => self.user = (words[0].to_owned(), words[1].to_owned()),
            "seed" => {
                let (at, bytes) = match words[0] {
                    "magic" => (0, bytes(words[1])),
                    "challenge" => (4, bytes(words[1])),
                    "ids" => (20, bytes(&words[1..].concat())),
                    other => panic!("{other}"),
                };
                self.seed[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            "<" => assert_eq!(hex(&self.link().poll_transmit().unwrap_or_default()), hex(&bytes(rest)), "{at}"),
            "=" => {
                let event = self.link().poll_event();
                assert_eq!(event.as_ref().map(|event| format!("{event:?}")).as_deref(), Some(rest), "{at}");
                if let Some(Event::AuthenticationRequested(proof)) = event {
                    self.proof = Some(proof);
                }
            }
            "packet" => assert_eq!(self.packet.take(), Some(bytes(rest)), "{at}"),
            input => {
                self.nothing_left(at);
                self.input(input, rest);
            }
        }
    }

    fn input(&mut self, word: &str, rest: &str) {
        let now = self.now;
        match word {
            "open" => {
                self.link = Some(Link::new(Arc::new(self.config.clone()), Seed(self.seed)));
                self.link().open(now);
            }
            "bound" => self.link().set_bound(now),
            "close" => self.link().close(rest.to_owned().leak(), now),
            "wait" => self.wait(rest),
            ">" => {
                if let Input::Packet(packet) = self.link().handle_input(&bytes(rest), now) {
                    self.packet = Some(packet.to_vec());
                }
            }
            "verdict" => {
                let verdict = self.verdict();
                self.link().resolve_authentication(verdict, now);
            }
            other => panic!("{other} is no word of a transcript"),
        }
    }

    fn wait(&mut self, time: &str) {
        let time = match time.strip_suffix("ms") {
            Some(number) => Duration::from_millis(number.parse().unwrap()),
            None => Duration::from_secs(time.strip_suffix('s').unwrap().parse().unwrap()),
        };
        let until = self.now + time;
        while let Some((deadline, _)) = self.link().poll_timeout().filter(|(deadline, _)| *deadline <= until) {
            self.now = deadline;
            self.link().handle_timeout(deadline);
        }
        self.now = until;
    }

    fn verdict(&mut self) -> Verdict {
        let proof = self.proof.take().expect("a proof came");
        let (name, password) = &self.user;
        let known = without_domain(proof.name()) == name.as_bytes();
        let accepted = match &proof {
            Proof::Password { password: sent, .. } => (sent.as_bytes() == password.as_bytes()).then_some(None),
            Proof::MsChapV2 { name, challenge, peer_challenge, nt_response, .. } => {
                verify(&NtHash::of_password(password), name, challenge, peer_challenge, nt_response).map(Some)
            }
        };
        match accepted.filter(|_| known) {
            Some(success) => Verdict::Accepted(success),
            None => Verdict::Refused(Refusal::Credentials),
        }
    }

    fn link(&mut self) -> &mut Link {
        self.link.as_mut().expect("the transcript says open")
    }

    fn nothing_left(&mut self, at: &str) {
        if let Some(link) = &mut self.link {
            assert_eq!(link.poll_transmit().map(|frame| hex(&frame)), None, "a frame before {at}");
            assert_eq!(link.poll_event(), None, "an event before {at}");
        }
        assert_eq!(self.packet, None, "a packet before {at}");
    }
}

fn method(name: &str) -> Method {
    [Method::Pap, Method::MsChapV2, Method::EapMsChapV2].into_iter().find(|method| method.as_str() == name).unwrap()
}

/// Hexadecimal digits and quoted text to bytes.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, part) in text.split('"').enumerate() {
        if number % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u32> = part.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16).unwrap()).collect();
        let (pairs, rest) = digits.as_chunks::<2>();
        assert!(rest.is_empty(), "an odd number of digits in {part}");
        bytes.extend(pairs.iter().map(|[high, low]| u8::try_from(high * 16 + low).unwrap()));
    }
    bytes
}

/// Bytes as the transcripts write them.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
