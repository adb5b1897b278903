//! A client that does what no client should.

use proptest::prelude::*;

use super::*;

/// What a stack does with these packets: everything it sends, at once and within a minute.
fn sent_for(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    for packet in packets {
        stack.handle_input(packet, now, &mut sink);
        stack.poll_transmit(now, &mut sink);
    }
    let mut at = now;
    while let Some((next, _)) = stack.poll_timeout(at)
        && next < now + Duration::from_secs(60)
    {
        at = next;
        stack.poll_transmit(at, &mut sink);
    }
    sink.packets.into()
}

fn every_kind_of_segment(to: Ipv4Addr, dst_port: u16) -> Vec<Vec<u8>> {
    [TcpControl::None, TcpControl::Psh, TcpControl::Syn, TcpControl::Fin, TcpControl::Rst]
        .into_iter()
        .flat_map(|control| [None, Some(TcpSeqNumber(77))].map(|ack_number| (control, ack_number)))
        .map(|(control, ack_number)| {
            let max_seg_size = (control == TcpControl::Syn).then_some(1360);
            segment(CLIENT, to, &TcpRepr { dst_port, control, ack_number, max_seg_size, ..SEGMENT })
        })
        .collect()
}

#[test]
fn nt_47_a_hidden_host_is_as_silent_as_an_unused_address() {
    for to in [HIDDEN, UNUSED, Ipv4Addr::new(198, 18, 0, 0), Ipv4Addr::new(198, 18, 255, 255)] {
        let now = start();
        let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
        let mut packets = [1, 22, 53, 80, 443, 65_535].map(|port| every_kind_of_segment(to, port)).concat();
        packets.push(udp(CLIENT, to, 50_000, 443, b"quic"));
        packets.push(ipv4(IpProtocol::Icmp, CLIENT, to, &[8, 0, 0xF7, 0xFF, 0, 0, 0, 0]));
        for packet in &packets {
            stack.handle_input(packet, now, &mut sink);
        }
        assert!(stack.poll_transmit(now, &mut sink));
        assert_eq!((sink.packets.len(), stack.poll_event(), stack.poll_timeout(now)), (0, None, None), "{to}");
        let dropped = packets.len() as u64;
        assert_eq!(stack.counters(), Counters { dropped_hidden: dropped, ..Counters::default() }, "{to}");
    }
}

#[test]
fn nt_47_a_host_that_was_hidden_is_silent_for_segments_of_old_connections() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    stack.set_visible(Arc::default());
    for packet in every_kind_of_segment(SERVICE, 443) {
        stack.handle_input(&packet, now, &mut sink);
    }
    assert!(stack.poll_transmit(now, &mut sink));
    assert_eq!(sink.packets.len(), 0);
}

#[test]
fn other_ports_of_a_visible_host_and_of_the_gateway_are_reset() {
    for (to, port) in [(SERVICE, 22), (SERVICE, 8443), (SERVICE, 53), (GATEWAY, 443), (GATEWAY, 80), (GATEWAY, 22)] {
        let sent = sent_for(&[tcp(CLIENT, to, 50_000, port)]);
        let [reset] = &sent[..] else { panic!("{to}:{port} {sent:?}") };
        let (from, client, repr) = parsed(reset);
        assert_eq!((from, client, repr.src_port, repr.dst_port), (to, CLIENT, port, 50_000));
        assert_eq!((repr.control, repr.ack_number), (TcpControl::Rst, Some(TcpSeqNumber(1001))));
    }
}

#[test]
fn segments_of_no_connection_to_a_visible_host_are_reset_and_resets_are_not() {
    for packet in every_kind_of_segment(SERVICE, 443) {
        let sent = sent_for(std::slice::from_ref(&packet));
        let (_, _, asked) = parsed(&packet);
        match (asked.control, asked.ack_number) {
            (TcpControl::Rst, _) => assert_eq!(sent.len(), 0),
            (TcpControl::Syn, None) => assert_eq!(parsed(&sent[0]).2.control, TcpControl::Syn),
            _ => assert_eq!(parsed(&sent[0]).2.control, TcpControl::Rst),
        }
    }
}

#[test]
fn nt_49_the_world_is_reset_and_counted_and_special_addresses_are_silent() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    for (to, resets) in [
        ("1.1.1.1", 1),
        ("10.0.0.5", 1),
        ("198.19.0.2", 1),
        ("127.0.0.1", 0),
        ("169.254.169.254", 0),
        ("0.0.0.0", 0),
        ("198.18.0.2", 0),
        ("255.255.255.255", 0),
        ("224.0.0.1", 0),
    ] {
        stack.handle_input(&tcp(CLIENT, to.parse().unwrap(), 50_000, 443), now, &mut sink);
        assert_eq!(sink.packets.drain(..).count(), resets, "{to}");
    }
    assert_eq!(stack.counters().world_refused, 3);
    assert_eq!(stack.poll_event(), None, "no flow is ever opened");
    assert!(stack.connections.is_empty());
}

#[test]
fn nt_46_a_forged_source_reaches_no_connection() {
    let mut net = Net::new();
    net.connect(SERVICE, 443, Talk::default(), Talk::default());
    net.run_for(Duration::from_secs(1));
    let reset = TcpRepr { control: TcpControl::Rst, max_seg_size: None, ..SEGMENT };
    net.stack.handle_input(&segment(Ipv4Addr::new(198, 18, 0, 3), SERVICE, &reset), net.now, &mut net.sink);
    net.exchange();
    assert_eq!((net.servers[0].1.error, net.stack.counters().dropped_spoofed), (None, 1));
}

#[test]
fn nt_46_fragments_that_overlap_are_never_put_together() {
    let whole = tcp(CLIENT, SERVICE, 50_000, 443);
    let [first, second] = overlapping(&whole);
    for packets in [[&first, &second], [&second, &first]] {
        let now = start();
        let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
        for packet in packets {
            stack.handle_input(packet, now, &mut sink);
        }
        assert!(stack.poll_transmit(now, &mut sink));
        assert_eq!((sink.packets.len(), stack.poll_event(), stack.poll_timeout(now)), (0, None, None));
        assert_eq!(stack.counters(), Counters { dropped_fragment: 2, ..Counters::default() });
        stack.handle_input(&whole, now, &mut sink);
        assert!(stack.poll_transmit(now, &mut sink));
        assert_eq!(parsed(&sink.pop().unwrap()).2.control, TcpControl::Syn, "the whole packet is answered");
    }
}

#[test]
fn nt_46_a_packet_of_ipv6_with_extension_headers_is_dropped() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    stack.handle_input(&ipv6_with_extensions(), now, &mut sink);
    assert!(stack.poll_transmit(now, &mut sink));
    assert_eq!((sink.packets.len(), stack.poll_event(), stack.poll_timeout(now)), (0, None, None));
    assert_eq!(stack.counters(), Counters { dropped_malformed: 1, ..Counters::default() });
}

#[test]
fn before_ipcp_is_up_nothing_is_answered() {
    let now = start();
    let mut sink = Sink::new(64 * 1024);
    let mut stack = Stack::new(Arc::new(config()), 1, now);
    stack.set_visible(visible());
    stack.handle_input(&tcp(CLIENT, SERVICE, 50_000, 443), now, &mut sink);
    assert!(stack.poll_transmit(now, &mut sink));
    assert_eq!((sink.packets.len(), stack.counters().dropped_malformed), (0, 1));
}

#[test]
fn a_flood_of_syns_is_bounded_and_reaped() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(usize::MAX));
    for port in 1..2000 {
        stack.handle_input(&tcp(CLIENT, SERVICE, port, 443), now, &mut sink);
    }
    assert_eq!(stack.connections.len(), MAX_STREAMS);
    stack.poll_transmit(now + Duration::from_secs(10), &mut sink);
    assert!(stack.connections.is_empty());
}

#[test]
fn connections_that_come_and_go_leave_no_events_behind() {
    let mut net = Net::new();
    for _ in 0..50 {
        let index = net.connect(SERVICE, 443, Talk::default(), Talk::default());
        net.exchange();
        net.client_socket(index).abort();
        net.exchange();
        net.release_all();
    }
    assert_eq!(net.stack.counters().accepted, 50);
    assert_eq!((net.stack.connections.capacity(), net.stack.events.capacity()), (0, 0));
}

/// Whether the stack may ever send this packet to the client.
fn is_allowed(packet: &[u8]) -> bool {
    let ip = Ipv4Packet::new_checked(packet).unwrap();
    let from = ip.src_addr();
    let hidden = config().services.contains(&from) && ![GATEWAY, SERVICE, OTHER_SERVICE].contains(&from);
    let one_of_ours = match u8::from(ip.next_header()) {
        1 | 17 => from == GATEWAY,
        6 if [SERVICE, OTHER_SERVICE, GATEWAY].contains(&from) => true,
        6 => parsed(packet).2.control == TcpControl::Rst,
        _ => false,
    };
    ip.dst_addr() == CLIENT && !hidden && one_of_ours
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        prop::sample::select(vec![GATEWAY, CLIENT, SERVICE, OTHER_SERVICE, HIDDEN, UNUSED, Ipv4Addr::BROADCAST]),
        any::<Ipv4Addr>(),
    ]
}

fn built() -> impl Strategy<Value = Vec<u8>> {
    let protocol = prop_oneof![Just(6_u8), Just(17), Just(1), any::<u8>()];
    let port = || prop_oneof![prop::sample::select(vec![53_u16, 67, 68, 80, 443, 50_000]), any::<u16>()];
    (address(), protocol, port(), port(), any::<Vec<u8>>(), prop::bool::weighted(0.9)).prop_map(
        |(to, protocol, from_port, to_port, rest, honest)| {
            let mut payload = [from_port.to_be_bytes(), to_port.to_be_bytes()].concat();
            if protocol == 17 {
                payload.extend(u16::try_from(8 + rest.len()).unwrap().to_be_bytes());
                payload.extend([0, 0]);
            }
            if protocol == 6 {
                payload.extend([0, 0, 3, 0xE8, 0, 0, 0, 0, 0x50]);
            }
            payload.extend(rest);
            let from = if honest { CLIENT } else { UNUSED };
            ipv4(IpProtocol::from(protocol), from, to, &payload)
        },
    )
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    let bent = (built(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut packet, at, byte)| {
        let at = at.index(packet.len());
        packet[at] = byte;
        packet
    });
    prop_oneof![any::<Vec<u8>>(), built(), bent]
}

/// One thing that happens to an open connection.
#[derive(Clone, Debug)]
enum Act {
    Segment { control: TcpControl, seq: i32, ack: Option<i32>, window: u16, len: usize, absolute: bool },
    Write(usize),
    Read(usize),
    Shutdown,
    Wait(u64),
    Room(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let control = prop::sample::select(vec![
        TcpControl::None,
        TcpControl::None,
        TcpControl::None,
        TcpControl::Psh,
        TcpControl::Syn,
        TcpControl::Fin,
        TcpControl::Rst,
    ]);
    let near = || prop_oneof![4 => Just(0), 2 => -3..3, 1 => -70_000..70_000, 1 => any::<i32>()];
    let window = prop_oneof![Just(0), Just(1), Just(u16::MAX), any::<u16>()];
    prop_oneof![
        6 => (control, near(), prop::option::weighted(0.9, near()), window, 0..1300_usize, any::<bool>())
            .prop_map(|(control, seq, ack, window, len, absolute)| {
                Act::Segment { control, seq, ack, window, len, absolute }
            }),
        2 => (0..100_000_usize).prop_map(Act::Write),
        2 => (0..70_000_usize).prop_map(Act::Read),
        1 => Just(Act::Shutdown),
        2 => (0..15_000_u64).prop_map(Act::Wait),
        1 => any::<bool>().prop_map(Act::Room),
    ]
}

proptest! {
    #[test]
    fn no_packet_makes_the_stack_panic_or_send_what_it_may_not(packets in prop::collection::vec(packet(), 1..30)) {
        for packet in sent_for(&packets) {
            prop_assert!(is_allowed(&packet), "{packet:02X?}");
        }
    }

    #[test]
    fn no_sequence_of_segments_makes_an_open_connection_panic(acts in prop::collection::vec(act(), 1..60)) {
        let mut now = start();
        let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
        let cx = &mut Context::from_waker(Waker::noop());
        stack.handle_input(&tcp(CLIENT, SERVICE, 50_000, 443), now, &mut sink);
        stack.poll_transmit(now, &mut sink);
        let (mut next, mut acked) = (TcpSeqNumber(1001), parsed(&sink.pop().unwrap()).2.seq_number);
        let mut streams = Vec::new();
        for act in acts {
            match act {
                Act::Segment { control, seq, ack, window, len, absolute } => {
                    let offset = |base: TcpSeqNumber, by: i32| TcpSeqNumber(base.0.wrapping_add(by));
                    let payload = vec![0x61; len];
                    let repr = TcpRepr {
                        control,
                        seq_number: if absolute { TcpSeqNumber(seq) } else { offset(next, seq) },
                        ack_number: ack.map(|ack| offset(acked, ack)),
                        window_len: window,
                        max_seg_size: None,
                        payload: &payload,
                        ..SEGMENT
                    };
                    stack.handle_input(&segment(CLIENT, SERVICE, &repr), now, &mut sink);
                }
                Act::Write(len) => {
                    for &stream in &streams {
                        let _ = stack.poll_write(stream, cx, &vec![0x62; len]);
                    }
                }
                Act::Read(len) => {
                    for &stream in &streams {
                        let _ = stack.poll_read(stream, cx, &mut vec![0; len]);
                    }
                }
                Act::Shutdown => {
                    for stream in streams.drain(..) {
                        let _ = stack.poll_shutdown(stream, cx);
                        stack.release(stream, now);
                    }
                }
                Act::Wait(millis) => now += Duration::from_millis(millis),
                Act::Room(room) => sink.limit = if room { 64 * 1024 } else { 0 },
            }
            while let Some(event) = stack.poll_event() {
                if let Event::Accepted { stream, .. } = event {
                    streams.push(stream);
                }
            }
            stack.poll_transmit(now, &mut sink);
            while let Some(packet) = sink.pop() {
                prop_assert!(is_allowed(&packet));
                let (_, _, repr) = parsed(&packet);
                acked = repr.seq_number + repr.segment_len();
                next = repr.ack_number.unwrap_or(next);
            }
            if let Some((at, why)) = stack.poll_timeout(now) {
                prop_assert!(at > now, "{why} again and again");
            }
        }
    }
}
