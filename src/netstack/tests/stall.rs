//! The link loses nothing, so nothing is ever sent twice, however long it stands still.

use super::*;

const STALL: Duration = Duration::from_secs(20);
const LONG: usize = 1024 * 1024;

/// A download and an upload in full swing.
fn in_full_swing(client: Talk) -> Net {
    let mut net = Net::new();
    net.connect(SERVICE, 443, client, Talk::saying(&noise(LONG, 2)));
    for _ in 0..20 {
        net.exchange_once();
    }
    assert!(!net.clients[0].1.received.is_empty() || net.clients[0].1.paused);
    assert!(!net.servers[0].1.to_send.is_empty(), "the download is not over");
    net
}

fn arrives_once(mut net: Net) {
    net.run_for(Duration::from_secs(60));
    assert!(net.clients[0].1.received == noise(LONG, 2));
    assert_eq!(net.repeated, 0);
}

#[test]
fn a_full_outer_socket_makes_the_clock_stand_still() {
    let mut net = in_full_swing(Talk::saying(&noise(LONG, 1)));
    net.downlink = Downlink::Blocked;
    net.run_for(STALL);
    assert!(net.sink.bytes < net.sink.limit + MAX_PACKET + Overdraft::LIMIT);
    assert_eq!(net.stack.poll_timeout(net.now), None);
    net.downlink = Downlink::Open;
    arrives_once(net);
}

#[test]
fn a_laptop_that_sleeps_gets_nothing_twice() {
    let mut net = in_full_swing(Talk::saying(&noise(LONG, 1)));
    net.downlink = Downlink::Asleep;
    net.run_for(STALL);
    let sent = net.wire.rx.len();
    assert_eq!(net.stack.poll_timeout(net.now), None, "no timer can fire while the client is silent");
    net.run_for(3 * STALL);
    assert_eq!(net.wire.rx.len(), sent);
    net.downlink = Downlink::Open;
    arrives_once(net);
}

#[test]
fn an_application_that_pauses_is_not_probed() {
    let mut net = in_full_swing(Talk { paused: true, ..Talk::default() });
    net.run_for(STALL);
    let sent = net.sent.clone();
    assert_eq!(net.stack.poll_timeout(net.now), None);
    net.run_for(3 * STALL);
    assert_eq!(net.sent, sent);
    net.clients[0].1.paused = false;
    arrives_once(net);
}

#[test]
fn a_paused_application_is_not_probed_while_another_stream_is_busy() {
    let mut net = in_full_swing(Talk { paused: true, ..Talk::default() });
    let busy = net.connect(SERVICE, 443, Talk::default(), Talk::default());
    net.exchange();
    for _ in 0..200 {
        net.clients[busy].1.to_send.extend(b"ping");
        net.servers[1].1.to_send.extend(b"pong");
        net.run_for(Duration::from_millis(100));
    }
    assert_eq!(net.clients[busy].1.received.len(), 800);
    net.clients[0].1.paused = false;
    arrives_once(net);
}

#[test]
fn what_is_written_while_the_window_is_closed_is_not_used_as_a_probe() {
    let mut net = Net::new();
    // Exactly the client's buffer: the window closes with nothing left to send.
    net.connect(
        SERVICE,
        443,
        Talk { paused: true, ..Talk::default() },
        Talk { to_send: noise(65_535, 1).into(), ..Talk::default() },
    );
    net.run_for(Duration::from_secs(1));
    net.servers[0].1.to_send.extend(b"more");
    net.run_for(STALL);
    assert_eq!(net.servers[0].1.to_send.len(), 4, "the writer waits");
    net.clients[0].1.paused = false;
    net.run_for(Duration::from_secs(1));
    assert!(net.clients[0].1.received.ends_with(b"more"));
    assert_eq!(net.repeated, 0);
}

#[test]
fn a_handshake_is_not_repeated_by_a_slow_link() {
    let mut net = Net::new();
    net.downlink = Downlink::Blocked;
    net.sink.limit = 0;
    net.connect(SERVICE, 443, Talk::saying(b"up"), Talk::saying(b"down"));
    // The client repeats its SYN meanwhile.
    net.run_for(STALL);
    net.downlink = Downlink::Open;
    net.sink.limit = 64 * 1024;
    net.run_for(Duration::from_secs(2));
    assert_eq!(net.clients[0].1.received, b"down");
    assert_eq!(net.repeated, 0);
}

#[test]
fn two_seconds_of_queue_in_front_of_a_slow_line_repeat_nothing() {
    let mut net = Net::new();
    net.connect(SERVICE, 443, Talk::default(), Talk::default());
    net.exchange();
    // Downstream is held back for two seconds at a time, while the client keeps talking.
    for round in 0..10 {
        net.downlink = Downlink::Narrow(0);
        net.servers[0].1.to_send.extend(noise(5000, round));
        for _ in 0..20 {
            net.clients[0].1.to_send.extend(b"telemetry");
            net.run_for(Duration::from_millis(100));
        }
        net.downlink = Downlink::Open;
        net.run_for(Duration::from_millis(100));
    }
    assert_eq!(net.clients[0].1.received.len(), 50_000);
    assert_eq!(net.repeated, 0);
}

#[test]
fn a_lone_segment_is_acknowledged_within_ten_milliseconds() {
    let mut net = Net::new();
    net.connect(SERVICE, 443, Talk::default(), Talk::default());
    net.run_for(Duration::from_secs(30));
    net.clients[0].1.to_send.extend(b"x");
    net.exchange();
    assert_eq!(net.client_socket(0).send_queue(), 1);
    let (at, _) = net.stack.poll_timeout(net.now).unwrap();
    assert_eq!(at - net.now, Duration::from_millis(10));
    net.run_for(Duration::from_millis(10));
    assert_eq!(net.client_socket(0).send_queue(), 0);
}

#[test]
fn a_download_that_fills_the_link_does_not_hold_back_the_acknowledgements_of_others() {
    let mut net = in_full_swing(Talk::default());
    let other = net.connect(SERVICE, 443, Talk::default(), Talk::default());
    net.exchange_once();
    net.exchange_once();
    net.exchange_once();
    net.sink.limit = 1;
    net.downlink = Downlink::Narrow(1);
    for _ in 0..100 {
        net.exchange_once();
    }
    net.clients[other].1.to_send.extend(b"x");
    for _ in 0..20 {
        net.now += Duration::from_millis(5);
        net.exchange_once();
        assert!(net.stack.clock.is_stalled());
    }
    assert_eq!(net.client_socket(other).send_queue(), 0);
}
