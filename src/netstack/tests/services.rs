//! What the gateway itself answers: names, DHCP, ping.

use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr};

use super::*;

/// A query for `orders` with this much of the name right.
fn query(host: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    message.push(u8::try_from(host.len()).unwrap());
    message.extend(host.as_bytes());
    message.extend(b"\x03api\x04corp\x07example\x00\x00\x01\x00\x01");
    message
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// Gives one packet to a fresh stack; what comes back.
fn answers(packet: &[u8]) -> (Vec<Vec<u8>>, Counters) {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    stack.handle_input(packet, now, &mut sink);
    assert!(stack.poll_transmit(now, &mut sink));
    assert_eq!(stack.poll_event(), None);
    (sink.packets.into(), stack.counters())
}

#[test]
fn a_query_by_datagram_is_answered_by_datagram() {
    let (sent, counters) = answers(&udp(CLIENT, GATEWAY, 54_321, 53, &query("orders")));
    let [answer] = &sent[..] else { panic!("{sent:?}") };
    let ip = Ipv4Packet::new_checked(&answer[..]).unwrap();
    assert!(ip.verify_checksum());
    assert_eq!((ip.src_addr(), ip.dst_addr(), ip.hop_limit()), (GATEWAY, CLIENT, 64));
    let udp = UdpPacket::new_checked(ip.payload()).unwrap();
    assert!(udp.verify_checksum(&GATEWAY.into(), &CLIENT.into()));
    assert_eq!((udp.src_port(), udp.dst_port()), (53, 54_321));
    assert!(udp.payload().starts_with(&[0x12, 0x34, 0x85, 0x80]) && udp.payload().ends_with(&SERVICE.octets()));
    assert_eq!(counters, Counters { dns_answered: 1, ..Counters::default() });
}

#[test]
fn nt_48_names_follow_visibility_at_once() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    stack.set_visible(Arc::default());
    stack.handle_input(&udp(CLIENT, GATEWAY, 54_321, 53, &query("orders")), now, &mut sink);
    let hidden = sink.pop().unwrap();
    assert_eq!(hidden[28 + 3] & 0x0F, 3);
    stack.set_visible(visible());
    stack.handle_input(&udp(CLIENT, GATEWAY, 54_321, 53, &query("orders")), now, &mut sink);
    assert!(sink.pop().unwrap().ends_with(&SERVICE.octets()));
}

#[test]
fn several_queries_on_one_connection_are_answered_in_order_and_nobody_is_told() {
    let mut net = Net::new();
    let said: Vec<u8> = (0..200).flat_map(|index| framed(&query(&format!("name{index}")))).collect();
    let mut said = said;
    said.extend(framed(&query("orders")));
    net.connect(GATEWAY, 53, Talk::saying(&said), Talk::default());
    net.run_for(Duration::from_secs(1));
    assert!(net.servers.is_empty(), "served by the stack");
    let mut received = &net.clients[0].1.received[..];
    let mut answers = 0;
    while let Some((length, rest)) = received.split_first_chunk::<2>() {
        let (answer, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
        assert_eq!(answer[3] & 0x0F, if answers == 200 { 0 } else { 3 });
        (received, answers) = (rest, answers + 1);
    }
    assert_eq!((answers, net.stack.counters().dns_answered), (201, 201));
    assert!(net.clients[0].1.peer_closed, "the stack closes after the client");
    assert!(net.stack.connections.is_empty());
}

#[test]
fn queries_wait_while_the_client_does_not_take_its_answers() {
    let mut net = Net::new();
    let said = framed(&query("orders")).repeat(2000);
    net.connect(GATEWAY, 53, Talk { paused: true, ..Talk::saying(&said) }, Talk::default());
    net.run_for(Duration::from_secs(5));
    assert!(net.stack.counters().dns_answered < 1300, "the client's window and the send buffer are full");
    net.clients[0].1.paused = false;
    net.run_for(Duration::from_secs(5));
    let answers: Vec<_> = net.clients[0].1.received.chunks(2 + 57).collect();
    assert_eq!(answers.len(), 2000);
    assert!(answers.iter().all(|answer| answer.starts_with(&[0, 57, 0x12, 0x34]) && answer.ends_with(&[10])));
    assert_eq!((net.repeated, net.resets), (0, 0));
}

#[test]
fn a_resolver_connection_that_is_idle_is_reset() {
    let mut net = Net::new();
    net.connect(GATEWAY, 53, Talk { to_send: framed(&query("orders")).into(), ..Talk::default() }, Talk::default());
    net.run_for(Duration::from_secs(9));
    assert_eq!((net.client_state(0), net.clients[0].1.received.len()), (State::Established, 2 + 57));
    net.run_for(Duration::from_secs(2));
    assert_eq!(net.client_state(0), State::Closed);
    assert!(net.stack.connections.is_empty());
}

#[test]
fn a_fifth_resolver_connection_is_reset() {
    let mut net = Net::new();
    for _ in 0..5 {
        net.connect(GATEWAY, 53, Talk::default(), Talk::default());
    }
    net.exchange();
    let states: Vec<_> = (0..5).map(|index| net.client_state(index)).collect();
    assert_eq!(states[..4], [State::Established; 4]);
    assert_eq!(states[4], State::Closed);
    net.connect(SERVICE, 443, Talk::default(), Talk::default());
    net.exchange();
    assert_eq!(net.servers.len(), 1, "streams are counted apart");
}

#[test]
fn a_message_that_is_too_long_or_no_query_ends_the_connection() {
    let mut answer = query("orders");
    answer[2] |= 0x80;
    for said in [vec![0x02, 0x01, 0], framed(&answer), framed(b"stump")] {
        let mut net = Net::new();
        net.connect(GATEWAY, 53, Talk { to_send: said.into(), ..Talk::default() }, Talk::default());
        net.exchange();
        assert_eq!(net.client_state(0), State::Closed);
        assert!(net.stack.connections.is_empty());
    }
}

#[test]
fn an_inform_is_answered_to_the_client_alone() {
    let mut inform = vec![0; 240];
    inform[..3].copy_from_slice(&[1, 8, 6]);
    inform[12..16].copy_from_slice(&CLIENT.octets());
    inform[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    inform.extend([53, 1, 8, 55, 2, 6, 249, 255]);
    for to in [Ipv4Addr::BROADCAST, GATEWAY] {
        let (sent, counters) = answers(&udp(CLIENT, to, 68, 67, &inform));
        let [answer] = &sent[..] else { panic!("{sent:?}") };
        let ip = Ipv4Packet::new_checked(&answer[..]).unwrap();
        assert_eq!((ip.src_addr(), ip.dst_addr(), answer.len()), (GATEWAY, CLIENT, 328));
        let udp = UdpPacket::new_checked(ip.payload()).unwrap();
        assert!(udp.verify_checksum(&GATEWAY.into(), &CLIENT.into()));
        assert_eq!((udp.src_port(), udp.dst_port()), (67, 68));
        assert_eq!(counters.dhcp_answered, 1);
    }
    let mut discover = inform.clone();
    discover[242] = 1;
    let (sent, counters) = answers(&udp(CLIENT, Ipv4Addr::BROADCAST, 68, 67, &discover));
    assert_eq!((sent.len(), counters.dropped_unserved), (0, 1));
    let (sent, counters) = answers(&udp(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, 68, 67, &inform));
    assert_eq!((sent.len(), counters.dropped_spoofed), (0, 1));
}

fn ping(to: Ipv4Addr, len: usize) -> Vec<u8> {
    let repr = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 9, data: &vec![0x61; len] };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::default());
    ipv4(IpProtocol::Icmp, CLIENT, to, &bytes)
}

#[test]
fn the_gateway_answers_a_ping_and_nobody_else_does() {
    let (sent, counters) = answers(&ping(GATEWAY, 56));
    let [answer] = &sent[..] else { panic!("{sent:?}") };
    let ip = Ipv4Packet::new_checked(&answer[..]).unwrap();
    assert_eq!((ip.src_addr(), ip.dst_addr()), (GATEWAY, CLIENT));
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    assert_eq!(
        Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()),
        Ok(Icmpv4Repr::EchoReply { ident: 7, seq_no: 9, data: &[0x61; 56] })
    );
    assert_eq!(counters.echo_answered, 1);
    for to in [SERVICE, HIDDEN, UNUSED, CLIENT, Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::BROADCAST] {
        assert_eq!(answers(&ping(to, 56)).0.len(), 0, "{to}");
    }
}

#[test]
fn a_ping_that_is_larger_than_the_client_takes_is_not_answered() {
    assert_eq!(answers(&ping(GATEWAY, MAX_PACKET - 28)).0.len(), 1);
    assert_eq!(answers(&ping(GATEWAY, MAX_PACKET - 27)).0.len(), 0);
}

#[test]
fn other_icmp_messages_are_not_answered() {
    for kind in (0..=255_u8).filter(|&kind| kind != 8) {
        let mut packet = ping(GATEWAY, 56);
        packet[20] = kind;
        assert_eq!(answers(&packet).0.len(), 0, "type {kind}");
    }
}

#[test]
fn names_resolve_during_a_download_but_answers_do_not_pile_up() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(0));
    for _ in 0..1000 {
        stack.handle_input(&udp(CLIENT, GATEWAY, 54_321, 53, &query("orders")), now, &mut sink);
        stack.handle_input(&tcp(CLIENT, Ipv4Addr::new(1, 1, 1, 1), 50_000, 443), now, &mut sink);
        stack.handle_input(&ping(GATEWAY, 56), now, &mut sink);
    }
    assert!(sink.packets.len() > 100);
    assert!(sink.bytes <= Overdraft::LIMIT, "{} bytes", sink.bytes);
    assert!(stack.counters().answers_dropped > 0);
}
