//! Whole tunnels in virtual time: the three machines together, with a client that logs in by PAP.

use std::task::Waker;
use std::time::Duration;

use super::*;

/// SHA-256 of the certificate, and the compound MAC over it with the zero key and the nonce 40 to 5F.
const CERTIFICATE: &str = "11B0F06405F333C768FC97B9F30753D81528DC4604F6C87E095BDAC8877AFDB7";
const MAC: &str = "2835000E51F4EB7777CDCF315CF46199667D380C4D2D0F1D7EE59457AA31EF51";

const CALL_CONNECT_REQUEST: &str = "1001000E 0001 0001 0001 0006 0001";
const SERVICE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

fn config() -> Arc<Config> {
    let (gateway, client) = (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2));
    Arc::new(Config {
        ppp: Arc::new(ppp::Config {
            methods: vec![Method::Pap],
            gateway,
            client,
            dns: gateway,
            server_name: "sstp".to_owned(),
        }),
        network: Arc::new(netstack::Config {
            gateway,
            client,
            services: "198.18.0.0/16".parse().unwrap(),
            suffix: "api.corp.example".into(),
            max_streams: 4,
        }),
        hashes: sstp::Hashes { sha1: false, sha256: true },
        zero_binding: vec![Method::Pap],
    })
}

struct Bench {
    tunnel: Tunnel,
    now: Instant,
    out: Outgoing,
}

impl Bench {
    /// A tunnel that is up, with one visible host.
    fn up() -> Self {
        let now = crate::clock::now();
        let sha256 = bytes(CERTIFICATE).try_into().unwrap();
        let seeds = Seeds {
            nonce: std::array::from_fn(|index| 0x40 + u8::try_from(index).unwrap()),
            link: ppp::Seed([1; 64]),
            stack: 1,
        };
        let certificate = sstp::CertificateHashes { sha1: [0; 20], sha256 };
        let mut bench = Self { tunnel: Tunnel::new(config(), certificate, seeds, now), now, out: Outgoing::default() };
        bench.receive(&bytes(CALL_CONNECT_REQUEST));
        bench.frame("C021 01 01 0004");
        let ours = bench.configure_request(0xC021);
        bench.frame(&format!("C021 02 {ours}"));
        bench.frame("C023 01 01 000A 01 61 03 707764");
        assert!(matches!(bench.events()[..], [Event::LoginRequested(_)]));
        bench.tunnel.resolve_login(Verdict::Accepted(None), bench.now);
        let nonce: String = (0x40..0x60).map(|byte| format!("{byte:02X}")).collect();
        bench.receive(&bytes(&format!("10010070 0004 0001 0003 0068 00000002 {nonce} {CERTIFICATE} {MAC}")));
        bench.frame("8021 01 01 000A 0306C6120002");
        let ours = bench.configure_request(0x8021);
        bench.frame(&format!("8021 02 {ours}"));
        assert!(matches!(bench.events()[..], [Event::Up(Binding::Zero)]));
        let host = netstack::Host { name: "orders.api.corp.example".into(), address: SERVICE };
        bench.tunnel.set_visible(Arc::new(netstack::Visible { hosts: vec![host] }));
        bench.sent();
        bench
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.tunnel.handle_input(bytes, self.now, &mut self.out);
    }

    fn frame(&mut self, frame: &str) {
        let frame = [&[0xFF, 0x03], &bytes(frame)[..]].concat();
        let header = sstp::wire::data_header(frame.len()).unwrap();
        self.receive(&[&header[..], &frame].concat());
    }

    /// What is sent now.
    fn sent(&mut self) -> Vec<u8> {
        self.out.clear();
        self.tunnel.poll_transmit(self.now, &mut self.out);
        let sent = self.out.bytes().to_vec();
        self.out.clear();
        sent
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.tunnel.poll_event()).collect()
    }

    /// Identifier, length and options of our Configure-Request, which the client may answer with.
    fn configure_request(&mut self, protocol: u16) -> String {
        let deadline = self.tunnel.poll_timeout(self.now).map_or(self.now, |(deadline, _)| deadline);
        let mut sent = self.sent();
        let wanted = [&[0xFF, 0x03], &protocol.to_be_bytes()[..], &[1]].concat();
        if !sent.windows(wanted.len()).any(|window| window == wanted) {
            self.now = deadline;
            self.tunnel.handle_timeout(deadline);
            sent = self.sent();
        }
        let at = sent.windows(wanted.len()).position(|window| window == wanted).expect("a Configure-Request");
        let packet = &sent[at + wanted.len()..];
        let length = usize::from(u16::from_be_bytes([packet[1], packet[2]]));
        packet[..length - 1].iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// The client opens a connection; the stream.
    fn stream(&mut self) -> StreamId {
        let mut client = SYN;
        self.frame(&client.segment());
        let sent = self.sent();
        let at = sent.windows(2).position(|window| window == [0x00, 0x21]).expect("a packet") + 2;
        let sequence = u32::from_be_bytes(sent[at + 24..at + 28].try_into().unwrap());
        client = Segment { flags: 0x10, sequence: client.sequence + 1, acknowledged: sequence + 1 };
        self.frame(&client.segment());
        match self.events()[..] {
            [Event::Accepted(Accepted { stream, .. })] => stream,
            ref other => panic!("{other:?} instead of a stream"),
        }
    }
}

/// A TCP segment of the client to port 443 of the visible host.
struct Segment {
    flags: u8,
    sequence: u32,
    acknowledged: u32,
}

const SYN: Segment = Segment { flags: 0x02, sequence: 1000, acknowledged: 0 };

impl Segment {
    /// The PPP frame behind its address and control bytes. The checksums are not looked at.
    fn segment(&self) -> String {
        let Self { flags, sequence, acknowledged } = self;
        format!(
            "0021 4500 0028 0000 0000 4006 0000 C6120002 C612000A \
             C350 01BB {sequence:08X} {acknowledged:08X} 50{flags:02X} FA00 0000 0000"
        )
    }
}

#[test]
fn nothing_wakes_us_for_a_stream_while_the_network_is_down() {
    let mut bench = Bench::up();
    let stream = bench.stream();
    bench.frame("8021 01 02 000A 0306C6120002");
    bench.sent();
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(bench.tunnel.poll_write(stream, cx, b"an answer").is_ready());
    bench.sent();
    let (deadline, reason) = bench.tunnel.poll_timeout(bench.now).expect("IPCP's");
    assert!(deadline - bench.now >= Duration::from_secs(1), "{reason}");
}

#[test]
fn a_tunnel_that_closes_lets_go_of_its_streams_at_once() {
    let closings: [fn(&mut Bench); 3] = [
        |bench| bench.tunnel.close(bench.now),
        |bench| bench.receive(&bytes("10010008 0006 0000")),
        |bench| bench.tunnel.handle_eof(bench.now),
    ];
    for close in closings {
        let mut bench = Bench::up();
        let stream = bench.stream();
        close(&mut bench);
        let cx = &mut Context::from_waker(Waker::noop());
        let read = bench.tunnel.poll_read(stream, cx, &mut [0; 9]);
        assert_eq!(read, Poll::Ready(Err(StreamError::Aborted)));
        bench.sent();
        let timeout = bench.tunnel.poll_timeout(bench.now);
        assert!(timeout.is_none_or(|(deadline, _)| deadline - bench.now >= Duration::from_secs(1)), "{timeout:?}");
    }
}

#[test]
fn answers_of_ppp_do_not_pile_up_in_front_of_a_full_socket() {
    let mut bench = Bench::up();
    bench.out.set_blocked(true);
    let mut sent = Vec::new();
    for _ in 0..1000 {
        bench.frame(&format!("C021 09 01 0400 00000000 {}", "00".repeat(1024 - 8))); // Echo-Request
        sent.extend(bench.sent());
    }
    assert_eq!(sent.len(), 0);
    bench.out.set_blocked(false);
    let sent = bench.sent().len();
    assert!((1000..64 * 1024).contains(&sent), "{sent}");
    assert!(bench.tunnel.poll_transmit(bench.now, &mut bench.out));
}
