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
    assert_eq!(stack.poll_event(), Some(Event::WorldRefused));
    assert_eq!(stack.poll_event(), None, "it is said once, and no flow is ever opened");
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
fn between_two_transmissions_no_more_streams_are_opened_than_a_session_may_have() {
    let malformed = |port| {
        let mut syn = tcp(CLIENT, SERVICE, port, 443);
        assert_eq!(syn[40..42], [2, 4], "the option of the segment size");
        syn[41] = 3;
        vec![syn]
    };
    let taken_back = |port| {
        let reset = TcpRepr { src_port: port, control: TcpControl::Rst, seq_number: TcpSeqNumber(1001), ..SEGMENT };
        vec![tcp(CLIENT, SERVICE, port, 443), segment(CLIENT, SERVICE, &reset)]
    };
    let floods: [&dyn Fn(u16) -> Vec<Vec<u8>>; 2] = [&malformed, &taken_back];
    for flood in floods {
        let now = start();
        let (mut stack, mut sink) = (stack(now), Sink::new(usize::MAX));
        for packet in (1..1000).flat_map(flood) {
            stack.handle_input(&packet, now, &mut sink);
            assert!(stack.connections.is_empty() || stack.connections.len() == 1);
        }
        assert_eq!(stack.next_serial, MAX_STREAMS as u32);
        assert_eq!(stack.counters().refused_full, 999 - MAX_STREAMS as u64);
        stack.poll_transmit(now, &mut sink);
        stack.handle_input(&tcp(CLIENT, SERVICE, 1, 443), now, &mut sink);
        assert_eq!(stack.connections.len(), 1, "the next turn is a new one");
    }
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

/// Far enough from a sequence number for what is ahead to look as if it were behind.
fn far() -> impl Strategy<Value = i32> {
    let around = prop::sample::select(vec![i32::MIN, 1 << 30, -(1 << 30)]);
    (around, prop_oneof![-3..3, -70_000..70_000]).prop_map(|(far, near)| far.wrapping_add(near))
}

#[test]
fn a_segment_far_beyond_a_fin_at_the_edge_of_the_window_is_ignored() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    let (_, ours) = shake_hands(&mut stack, &mut sink, now, SERVICE, 80);
    let mut say = |stack: &mut Stack, control, sequence: i32, payload: &[u8]| {
        let repr = TcpRepr {
            dst_port: 80,
            control,
            seq_number: TcpSeqNumber(sequence),
            ack_number: Some(ours),
            max_seg_size: None,
            payload,
            ..SEGMENT
        };
        stack.handle_input(&segment(CLIENT, SERVICE, &repr), now, &mut sink);
    };
    // Nothing leaves meanwhile, so the window stays where it is until it is full.
    let text = noise(65_535, 1);
    let mut sequence = 1001;
    for piece in text.chunks(1285) {
        let control = if sequence == 1001 + 50 * 1285 { TcpControl::Fin } else { TcpControl::None };
        say(&mut stack, control, sequence, piece);
        sequence += i32::try_from(piece.len()).unwrap();
    }
    let beyond_the_fin = sequence + 1;
    for far in [i32::MAX, i32::MIN, i32::MAX - 1, 1 << 30] {
        say(&mut stack, TcpControl::None, beyond_the_fin.wrapping_add(far), b"");
    }
    let stream = StreamId { slot: 0, serial: 0 };
    let mut received = vec![0; 70_000];
    let cx = &mut Context::from_waker(Waker::noop());
    let mut len = 0;
    while let Poll::Ready(Ok(read @ 1..)) = stack.poll_read(stream, cx, &mut received[len..]) {
        len += read;
    }
    assert!(received[..len] == text);
}

#[test]
fn an_acknowledgment_of_bytes_that_were_not_sent_is_ignored() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    let (serial, ours) = shake_hands(&mut stack, &mut sink, now, SERVICE, 80);
    let stream = StreamId { slot: 0, serial };
    let cx = &mut Context::from_waker(Waker::noop());
    let said = noise(200_000, 1);
    assert_eq!(stack.poll_write(stream, cx, &said), Poll::Ready(Ok(said.len())));
    let mut heard = Vec::new();
    for _ in 0..100 {
        stack.poll_transmit(now, &mut sink);
        while let Some(packet) = sink.pop() {
            heard.extend_from_slice(parsed(&packet).2.payload);
        }
        for beyond in [said.len(), heard.len() + 1, heard.len()] {
            let acknowledgment = TcpRepr {
                dst_port: 80,
                control: TcpControl::None,
                seq_number: TcpSeqNumber(1001),
                ack_number: Some(ours + beyond),
                window_len: 8000,
                max_seg_size: None,
                ..SEGMENT
            };
            stack.handle_input(&segment(CLIENT, SERVICE, &acknowledgment), now, &mut sink);
        }
    }
    assert!(heard == said, "{} of {} bytes were sent", heard.len(), said.len());
}

/// One thing that happens to an open connection.
#[derive(Clone, Debug)]
enum Act {
    Segment {
        control: TcpControl,
        seq: i32,
        ack: Option<i32>,
        window: u16,
        len: usize,
        absolute: bool,
    },
    /// Text up to the edge of the window, with a FIN or without.
    Fill {
        fin: bool,
    },
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
    let near = || prop_oneof![4 => Just(0), 2 => -3..3, 1 => -70_000..70_000, 1 => far(), 1 => any::<i32>()];
    let window = prop_oneof![Just(0), Just(1), Just(u16::MAX), any::<u16>()];
    prop_oneof![
        6 => (control, near(), prop::option::weighted(0.9, near()), window, 0..1300_usize, any::<bool>())
            .prop_map(|(control, seq, ack, window, len, absolute)| {
                Act::Segment { control, seq, ack, window, len, absolute }
            }),
        1 => any::<bool>().prop_map(|fin| Act::Fill { fin }),
        2 => (0..100_000_usize).prop_map(Act::Write),
        2 => (0..70_000_usize).prop_map(Act::Read),
        1 => Just(Act::Shutdown),
        2 => (0..15_000_u64).prop_map(Act::Wait),
        1 => any::<bool>().prop_map(Act::Room),
    ]
}

/// An open connection, brought to one of its states, and then segments whose numbers lie as far as they can.
fn far_from_every_state() -> impl Strategy<Value = Vec<Act>> {
    let empty = |seq, ack| {
        let (control, window) = (TcpControl::None, u16::MAX);
        Act::Segment { control, seq, ack: Some(ack), window, len: 0, absolute: false }
    };
    let number = || prop_oneof![2 => Just(0), 2 => far(), 1 => -3..3];
    let lies = prop::collection::vec((number(), number()).prop_map(move |(seq, ack)| empty(seq, ack)), 1..30);
    (any::<[bool; 5]>(), lies).prop_map(move |([room, writes, closes_first, fin, closes], lies)| {
        let mut acts = vec![empty(0, 0), Act::Room(room)];
        acts.extend(writes.then_some(Act::Write(100_000)));
        acts.extend(closes_first.then_some(Act::Shutdown));
        acts.push(Act::Fill { fin });
        acts.extend(closes.then_some(Act::Shutdown));
        acts.extend(lies);
        acts
    })
}

proptest! {
    #[test]
    fn no_packet_makes_the_stack_panic_or_send_what_it_may_not(packets in prop::collection::vec(packet(), 1..30)) {
        for packet in sent_for(&packets) {
            prop_assert!(is_allowed(&packet), "{packet:02X?}");
        }
    }

    #[test]
    fn no_sequence_of_segments_makes_an_open_connection_panic(
        acts in prop_oneof![prop::collection::vec(act(), 1..60), far_from_every_state()],
    ) {
        let mut now = start();
        let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
        let cx = &mut Context::from_waker(Waker::noop());
        stack.handle_input(&tcp(CLIENT, SERVICE, 50_000, 443), now, &mut sink);
        stack.poll_transmit(now, &mut sink);
        let (mut next, mut edge) = (TcpSeqNumber(1001), TcpSeqNumber(1001) + 65_535);
        let mut acked = parsed(&sink.pop().unwrap()).2.seq_number + 1;
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
                Act::Fill { fin } => {
                    while next < edge {
                        let payload = vec![0x61; (edge - next).min(1285)];
                        let end = next + payload.len();
                        let repr = TcpRepr {
                            control: if fin && end == edge { TcpControl::Fin } else { TcpControl::None },
                            seq_number: next,
                            ack_number: Some(acked),
                            max_seg_size: None,
                            payload: &payload,
                            ..SEGMENT
                        };
                        stack.handle_input(&segment(CLIENT, SERVICE, &repr), now, &mut sink);
                        next = end;
                    }
                    next += usize::from(fin);
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
                edge = next + usize::from(repr.window_len);
            }
            if let Some((at, why)) = stack.poll_timeout(now) {
                prop_assert!(at > now, "{why} again and again");
            }
        }
    }
}
