//! Streams as the application sees them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

const MIB: usize = 1024 * 1024;

#[test]
fn a_mebibyte_travels_both_ways_on_several_streams() {
    let mut net = Net::new();
    let ends = [(SERVICE, 443), (SERVICE, 80), (OTHER_SERVICE, 443)];
    let up: Vec<_> = (0..3).map(|index| noise(MIB, index)).collect();
    let down: Vec<_> = (0..3).map(|index| noise(MIB, 100 + index)).collect();
    for (index, (address, port)) in ends.into_iter().enumerate() {
        net.connect(address, port, Talk::saying(&up[index]), Talk::saying(&down[index]));
    }
    net.run_for(Duration::from_secs(60));
    for index in 0..3 {
        assert!(net.clients[index].1.received == down[index], "download {index}");
        assert!(net.servers[index].1.received == up[index], "upload {index}");
        assert!(net.servers[index].1.peer_closed && net.clients[index].1.peer_closed);
    }
    assert_eq!(net.stack.counters().accepted, 3);
    assert_eq!(net.repeated, 0);
    net.release_all();
    net.run_for(Duration::from_secs(1));
    assert!(net.stack.connections.is_empty());
}

#[test]
fn an_accepted_stream_says_whom_the_client_called() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    let (serial, _) = shake_hands(&mut stack, &mut sink, now, OTHER_SERVICE, 80);
    assert_eq!(
        stack.poll_event(),
        Some(Event::Accepted { stream: StreamId { slot: 0, serial }, address: OTHER_SERVICE, port: 80 })
    );
    assert_eq!(stack.poll_event(), None);
}

#[test]
fn what_follows_the_clients_fin_is_not_read() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    let (serial, ours) = shake_hands(&mut stack, &mut sink, now, SERVICE, 80);
    let stream = StreamId { slot: 0, serial };
    let said = TcpRepr {
        dst_port: 80,
        control: TcpControl::Fin,
        seq_number: TcpSeqNumber(1001),
        ack_number: Some(ours),
        max_seg_size: None,
        payload: b"GET",
        ..SEGMENT
    };
    stack.handle_input(&segment(CLIENT, SERVICE, &said), now, &mut sink);
    let beyond = TcpRepr { control: TcpControl::Psh, seq_number: TcpSeqNumber(1005), payload: b"more", ..said };
    let again = TcpRepr { window_len: 5, seq_number: TcpSeqNumber(1001), payload: b"GET more", ..beyond };
    for segment_of in [beyond, again, beyond] {
        stack.handle_input(&segment(CLIENT, SERVICE, &segment_of), now, &mut sink);
    }
    let cx = &mut Context::from_waker(Waker::noop());
    let mut buf = [0; 16];
    assert_eq!(stack.poll_read(stream, cx, &mut buf), Poll::Ready(Ok(3)));
    assert_eq!(&buf[..3], b"GET");
    for _ in 0..2 {
        assert_eq!(stack.poll_read(stream, cx, &mut buf), Poll::Ready(Ok(0)), "it stays over");
        stack.handle_input(&segment(CLIENT, SERVICE, &beyond), now, &mut sink);
    }
}

/// Both ends say something and close in this order; all memory is free afterwards.
fn closes(client_first: bool, server_first: bool) {
    let mut net = Net::new();
    let client = Talk { closes: client_first, ..Talk::saying(b"GET / HTTP/1.1") };
    let server = Talk { closes: server_first, ..Talk::saying(b"HTTP/1.1 200 OK") };
    net.connect(SERVICE, 443, client, server);
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.servers[0].1.peer_closed, client_first);
    assert_eq!(net.clients[0].1.peer_closed, server_first);
    net.clients[0].1.closes = true;
    net.servers[0].1.closes = true;
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.servers[0].1.received, b"GET / HTTP/1.1");
    assert_eq!(net.clients[0].1.received, b"HTTP/1.1 200 OK");
    assert!(net.servers[0].1.peer_closed && net.clients[0].1.peer_closed);
    net.release_all();
    net.run_for(Duration::from_secs(1));
    assert!(net.stack.connections.is_empty());
    assert_eq!((net.stack.connections.capacity(), net.stack.events.capacity()), (0, 0));
    assert_eq!(net.stack.poll_timeout(net.now), None);
    assert_eq!((net.repeated, net.resets), (0, 0));
}

#[test]
fn the_client_may_close_first() {
    closes(true, false);
}

#[test]
fn the_application_may_close_first_and_time_wait_takes_no_time() {
    closes(false, true);
}

#[test]
fn both_may_close_at_once() {
    closes(true, true);
}

#[test]
fn a_release_right_after_the_shutdown_still_delivers_everything() {
    let mut net = Net::new();
    let said = noise(200_000, 1);
    net.connect(SERVICE, 443, Talk { paused: true, ..Talk::default() }, Talk::saying(&said));
    net.run_for(Duration::from_secs(1));
    assert!(net.servers[0].1.closed, "all of it fits into the buffer");
    net.release_all();
    net.run_for(Duration::from_secs(60));
    net.clients[0].1.paused = false;
    net.clients[0].1.closes = true;
    net.run_for(Duration::from_secs(1));
    assert!(net.clients[0].1.received == said);
    assert!(net.stack.connections.is_empty());
    assert_eq!(net.repeated, 0);
}

#[test]
fn what_the_client_sends_after_the_release_is_thrown_away_without_a_reset() {
    let mut net = Net::new();
    net.connect(SERVICE, 443, Talk { to_send: noise(300_000, 1).into(), ..Talk::default() }, Talk::saying(b"413"));
    net.accepts[0].paused = true;
    net.run_for(Duration::from_secs(1));
    net.release_all();
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.clients[0].1.received, b"413");
    assert!(net.clients[0].1.to_send.is_empty(), "the window stayed open");
    assert_eq!(net.client_state(0), State::CloseWait);
    net.run_for(Duration::from_secs(60));
    assert_eq!(net.client_state(0), State::Closed, "but not for ever");
    assert!(net.stack.connections.is_empty());
}

#[test]
fn a_release_without_a_shutdown_resets() {
    let mut net = Net::new();
    net.connect(SERVICE, 443, Talk::default(), Talk { to_send: noise(1000, 1).into(), ..Talk::default() });
    net.run_for(Duration::from_secs(1));
    net.release_all();
    net.exchange();
    assert_eq!(net.client_state(0), State::Closed);
    assert!(net.stack.connections.is_empty());
}

#[test]
fn what_is_left_for_a_client_that_never_takes_it_is_given_up() {
    let mut net = Net::new();
    net.connect(SERVICE, 443, Talk { paused: true, ..Talk::default() }, Talk::saying(&noise(200_000, 1)));
    net.run_for(Duration::from_secs(1));
    net.release_all();
    net.run_for(Duration::from_secs(590));
    assert_eq!(net.stack.connections.iter().flatten().count(), 1);
    net.run_for(Duration::from_secs(60));
    assert!(net.stack.connections.is_empty());
}

#[test]
fn a_reset_by_the_client_is_an_error_to_the_application() {
    let mut net = Net::new();
    net.connect(SERVICE, 443, Talk::default(), Talk::default());
    net.run_for(Duration::from_secs(1));
    net.client_socket(0).abort();
    net.exchange();
    assert_eq!(net.servers[0].1.error, Some(StreamError::Reset));
    let stream = net.servers[0].0;
    let cx = &mut Context::from_waker(Waker::noop());
    assert_eq!(net.stack.poll_write(stream, cx, b"x"), Poll::Ready(Err(StreamError::Reset)));
    net.release_all();
    assert!(net.stack.connections.is_empty());
    assert_eq!(net.stack.poll_read(stream, cx, &mut [0]), Poll::Ready(Err(StreamError::Unknown)));
}

#[test]
fn a_reset_before_the_handshake_is_complete_leaves_nothing() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    stack.handle_input(&tcp(CLIENT, SERVICE, 50_000, 443), now, &mut sink);
    stack.poll_transmit(now, &mut sink);
    let reset = TcpRepr { control: TcpControl::Rst, seq_number: TcpSeqNumber(1001), ..SEGMENT };
    stack.handle_input(&segment(CLIENT, SERVICE, &reset), now, &mut sink);
    assert!(stack.connections.is_empty());
    assert_eq!(stack.poll_event(), None);
}

#[test]
fn a_write_after_the_shutdown_fails() {
    let mut net = Net::new();
    net.connect(SERVICE, 443, Talk::default(), Talk::saying(b"all"));
    net.run_for(Duration::from_secs(1));
    let cx = &mut Context::from_waker(Waker::noop());
    assert_eq!(net.stack.poll_write(net.servers[0].0, cx, b"x"), Poll::Ready(Err(StreamError::ShutDown)));
}

#[test]
fn the_application_may_read_long_after_both_sides_have_closed() {
    let mut net = Net::new();
    let said = noise(50_000, 1);
    net.connect(SERVICE, 443, Talk::saying(&said), Talk { paused: true, ..Talk::saying(b"done") });
    net.run_for(Duration::from_secs(300));
    assert_eq!(net.stack.poll_timeout(net.now), None);
    net.servers[0].1.paused = false;
    net.exchange();
    assert!(net.servers[0].1.received == said && net.servers[0].1.peer_closed);
}

#[test]
fn a_port_may_be_used_again_while_the_old_stream_is_still_held() {
    let mut net = Net::new();
    net.connect(SERVICE, 443, Talk::saying(b"one"), Talk { paused: true, ..Talk::saying(b"1") });
    net.run_for(Duration::from_secs(1));
    net.sockets.remove(net.clients.remove(0).0);
    net.next_port -= 1;
    net.sent.clear();
    net.connect(SERVICE, 443, Talk::saying(b"two"), Talk::saying(b"2"));
    net.run_for(Duration::from_secs(1));
    net.servers[0].1.paused = false;
    net.exchange();
    assert_eq!((&*net.servers[0].1.received, &*net.servers[1].1.received), (&b"one"[..], &b"two"[..]));
    assert_eq!(net.clients[0].1.received, b"2");
}

#[test]
fn no_packet_is_larger_than_agreed() {
    for (agreed, largest) in [(1400, 1400), (800, 800), (100, 576), (65_535, 1400)] {
        let mut net = Net::new();
        net.stack.open(agreed);
        net.connect(SERVICE, 443, Talk::default(), Talk::saying(&noise(100_000, 1)));
        net.run_for(Duration::from_secs(1));
        assert_eq!(net.clients[0].1.received.len(), 100_000);
        assert_eq!(net.largest, largest, "the client itself takes 1400");
    }
}

#[test]
fn the_syn_ack_announces_the_segment_size() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    stack.open(1000);
    stack.handle_input(&tcp(CLIENT, SERVICE, 50_000, 443), now, &mut sink);
    stack.poll_transmit(now, &mut sink);
    assert_eq!(parsed(&sink.pop().unwrap()).2.max_seg_size, Some(960));
}

#[test]
fn one_stream_too_many_is_reset() {
    let mut net = Net::new();
    for _ in 0..=MAX_STREAMS {
        net.connect(SERVICE, 443, Talk::default(), Talk::default());
    }
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.servers.len(), MAX_STREAMS);
    assert_eq!(net.client_state(MAX_STREAMS), State::Closed);
    assert_eq!(net.stack.counters().refused_full, 1);
    let (stream, _) = net.servers.remove(3);
    net.stack.release(stream, net.now);
    net.exchange();
    net.connect(SERVICE, 443, Talk::default(), Talk::default());
    net.exchange();
    assert_eq!(net.servers.len(), MAX_STREAMS);
    assert_eq!(net.client_state(MAX_STREAMS + 1), State::Established);
}

#[test]
fn a_half_open_connection_is_reset_after_ten_seconds() {
    let now = start();
    let (mut stack, mut sink) = (stack(now), Sink::new(64 * 1024));
    stack.handle_input(&tcp(CLIENT, SERVICE, 50_000, 443), now, &mut sink);
    assert!(stack.poll_transmit(now, &mut sink));
    assert_eq!(sink.packets.drain(..).count(), 1);
    let (until, why) = stack.poll_timeout(now).unwrap();
    assert_eq!((until - now, why), (Duration::from_secs(10), "a handshake is not completed"));
    assert!(stack.poll_transmit(until, &mut sink));
    assert_eq!(parsed(&sink.packets.pop_front().unwrap()).2.control, TcpControl::Rst);
    assert!(stack.connections.is_empty() && sink.packets.is_empty());
}

#[test]
fn a_keep_alive_is_answered() {
    let mut net = Net::new();
    net.connect(SERVICE, 443, Talk::default(), Talk::default());
    net.exchange();
    net.client_socket(0).set_keep_alive(Some(smoltcp::time::Duration::from_secs(15)));
    net.client_socket(0).set_timeout(Some(smoltcp::time::Duration::from_secs(40)));
    net.run_for(Duration::from_secs(600));
    assert_eq!(net.client_state(0), State::Established);
}

#[test]
fn every_keep_alive_without_data_is_answered() {
    for busy in [false, true] {
        let start = start();
        let (mut stack, mut sink) = (stack(start), Sink::new(64 * 1024));
        let (_, ours) = shake_hands(&mut stack, &mut sink, start, SERVICE, 443);
        stack.poll_transmit(start, &mut sink);
        assert_eq!(sink.packets.len(), 0);
        for second in 1..=100 {
            let now = start + Duration::from_secs(second);
            if busy {
                // Somebody else's turn.
                stack.poll_transmit(now - Duration::from_millis(300), &mut sink);
            }
            let probe = TcpRepr {
                control: TcpControl::None,
                seq_number: TcpSeqNumber(1000),
                ack_number: Some(ours),
                max_seg_size: None,
                ..SEGMENT
            };
            stack.handle_input(&segment(CLIENT, SERVICE, &probe), now, &mut sink);
            stack.poll_transmit(now, &mut sink);
            let answer = sink.pop().unwrap_or_else(|| panic!("probe {second} is not answered"));
            assert_eq!(parsed(&answer).2.ack_number, Some(TcpSeqNumber(1001)));
            assert_eq!(sink.packets.len(), 0);
        }
    }
}

#[test]
fn streams_whose_host_is_no_longer_visible_are_reset_within_the_call() {
    let mut net = Net::new();
    let kept = net.connect(OTHER_SERVICE, 443, Talk::default(), Talk::default());
    let revoked = net.connect(SERVICE, 443, Talk::saying(b"unread"), Talk { paused: true, ..Talk::default() });
    net.run_for(Duration::from_secs(1));
    let stream = net.servers[1].0;
    let hosts = visible().hosts.iter().filter(|host| host.address != SERVICE).cloned().collect();
    net.stack.set_visible(Arc::new(Visible { hosts }));
    let cx = &mut Context::from_waker(Waker::noop());
    assert_eq!(net.stack.poll_read(stream, cx, &mut [0; 9]), Poll::Ready(Err(StreamError::Aborted)));
    assert_eq!(net.stack.poll_write(stream, cx, b"x"), Poll::Ready(Err(StreamError::Aborted)));
    assert_eq!(net.stack.poll_shutdown(stream, cx), Poll::Ready(Err(StreamError::Aborted)));
    net.exchange();
    assert_eq!(net.client_state(revoked), State::Closed);
    assert_eq!(net.client_state(kept), State::Established);
    net.connect(SERVICE, 443, Talk::default(), Talk::default());
    net.run_for(Duration::from_secs(10));
    assert_eq!(net.client_state(2), State::SynSent, "it does not exist any more");
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_waiting_reader_and_a_waiting_writer_are_woken() {
    let mut net = Net::new();
    net.connect(SERVICE, 443, Talk { paused: true, ..Talk::default() }, Talk::default());
    net.run_for(Duration::from_secs(1));
    let (stream, _) = net.servers.pop().unwrap();
    let (reads, writes) = (Arc::new(Count(AtomicUsize::new(0))), Arc::new(Count(AtomicUsize::new(0))));
    let (reader, writer) = (Waker::from(Arc::clone(&reads)), Waker::from(Arc::clone(&writes)));
    let woken = |count: &Count| count.0.swap(0, Ordering::Relaxed) > 0;

    assert!(net.stack.poll_read(stream, &mut Context::from_waker(&reader), &mut [0; 9]).is_pending());
    net.clients[0].1.to_send.extend(b"hello");
    net.exchange();
    assert!(woken(&reads));

    let cx = &mut Context::from_waker(&writer);
    while net.stack.poll_write(stream, cx, &[7; 4096]).is_ready() {
        net.exchange();
    }
    assert!(!woken(&writes), "the buffer is full and the client does not read");
    net.clients[0].1.paused = false;
    net.exchange();
    assert!(woken(&writes));

    assert!(net.stack.poll_read(stream, &mut Context::from_waker(&reader), &mut [0; 9]).is_ready());
    assert!(net.stack.poll_read(stream, &mut Context::from_waker(&reader), &mut [0; 9]).is_pending());
    net.stack.set_visible(Arc::default());
    assert!(woken(&reads));
}

#[test]
fn a_stack_that_is_cleared_wakes_its_readers_and_keeps_no_buffer() {
    let mut net = Net::new();
    net.connect(SERVICE, 443, Talk { paused: true, ..Talk::default() }, Talk::default());
    net.run_for(Duration::from_secs(1));
    let (stream, _) = net.servers.pop().unwrap();
    let reads = Arc::new(Count(AtomicUsize::new(0)));
    let reader = Waker::from(Arc::clone(&reads));
    let cx = &mut Context::from_waker(&reader);
    assert!(net.stack.poll_read(stream, cx, &mut [0; 9]).is_pending());
    net.stack.clear();
    assert!(reads.0.load(Ordering::Relaxed) > 0);
    assert_eq!(net.stack.poll_read(stream, cx, &mut [0; 9]), Poll::Ready(Err(StreamError::Aborted)));
    assert_eq!(net.stack.poll_write(stream, cx, b"more"), Poll::Ready(Err(StreamError::Aborted)));
    assert_eq!(net.stack.connections.capacity(), 0);
    net.stack.open(MAX_PACKET);
    net.stack.handle_input(&tcp(CLIENT, SERVICE, 50_001, 443), net.now, &mut net.sink);
    assert!(net.stack.connections.is_empty(), "it stays over");
    net.stack.release(stream, net.now);
}

#[test]
fn a_writer_that_waits_for_the_clients_window_is_woken() {
    for revoked in [false, true] {
        let mut net = Net::new();
        let exactly_the_window = Talk { to_send: noise(65_535, 1).into(), ..Talk::default() };
        net.connect(SERVICE, 443, Talk { paused: true, ..Talk::default() }, exactly_the_window);
        net.run_for(Duration::from_secs(1));
        let (stream, _) = net.servers.pop().unwrap();
        let writes = Arc::new(Count(AtomicUsize::new(0)));
        let writer = Waker::from(Arc::clone(&writes));
        let cx = &mut Context::from_waker(&writer);
        assert!(net.stack.poll_write(stream, cx, b"x").is_pending());
        assert_eq!(net.stack.poll_write(stream, cx, b""), Poll::Ready(Ok(0)));
        if revoked {
            net.stack.set_visible(Arc::default());
        } else {
            net.clients[0].1.paused = false;
            net.exchange();
        }
        assert!(writes.0.load(Ordering::Relaxed) > 0);
        let expected = if revoked { Err(StreamError::Aborted) } else { Ok(1) };
        assert_eq!(net.stack.poll_write(stream, cx, b"x"), Poll::Ready(expected));
    }
}

#[test]
fn sequence_numbers_depend_on_the_seed_and_differ_after_a_second_open() {
    let first_sequence_number = |seed: u64, opens: usize| {
        let now = start();
        let (mut stack, mut sink) = (Stack::new(Arc::new(config()), seed, now), Sink::new(64 * 1024));
        stack.set_visible(visible());
        (0..opens).for_each(|_| stack.open(MAX_PACKET));
        stack.handle_input(&tcp(CLIENT, SERVICE, 50_000, 443), now, &mut sink);
        stack.poll_transmit(now, &mut sink);
        parsed(&sink.pop().unwrap()).2.seq_number
    };
    assert_eq!(first_sequence_number(1, 1), first_sequence_number(1, 1));
    assert_ne!(first_sequence_number(1, 1), first_sequence_number(2, 1));
    assert_ne!(first_sequence_number(1, 1), first_sequence_number(1, 2));
}

#[test]
fn with_room_for_one_packet_everybody_has_a_turn() {
    let mut net = Net::new();
    for index in 0..10 {
        net.connect(SERVICE, 443, Talk::default(), Talk::saying(&noise(400_000, index)));
    }
    net.exchange_once();
    net.sink.limit = 1;
    net.downlink = Downlink::Narrow(1);
    for _ in 0..1500 {
        net.exchange_once();
    }
    let received: Vec<_> = net.clients.iter().map(|(_, talk)| talk.received.len()).collect();
    let (least, most) = (received.iter().min().unwrap(), received.iter().max().unwrap());
    assert!(*least > 100_000 && most - least < 30_000, "{received:?}");
}

#[test]
fn a_tiny_sink_loses_nothing() {
    let mut net = Net::new();
    net.sink.limit = 1;
    net.downlink = Downlink::Narrow(1);
    let (up, down) = (noise(150_000, 1), noise(150_000, 2));
    for _ in 0..3 {
        net.connect(SERVICE, 443, Talk::saying(&up), Talk::saying(&down));
    }
    net.run_for(Duration::from_secs(60));
    for index in 0..3 {
        assert!(net.clients[index].1.received == down && net.servers[index].1.received == up);
    }
    assert_eq!(net.repeated, 0);
}

#[test]
fn an_idle_stack_is_small() {
    fn assert_send<T: Send>() {}
    assert_send::<Stack>();
    assert!(size_of::<Stack>() <= 640, "{} bytes", size_of::<Stack>());
    let stack = stack(start());
    assert_eq!((stack.connections.capacity(), stack.events.capacity()), (0, 0));
}
