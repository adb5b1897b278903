//! How calls end, and what is told about it.

use super::*;

#[test]
fn our_close_is_acknowledged_and_over() {
    let now = start();
    let mut sstp = connected(now);
    sstp.close(now);
    sstp.close(now);
    let told = drain(&mut sstp);
    assert_eq!(told.sent, [0x10, 0x01, 0x00, 0x14, 0, 6, 0, 1, 0, 2, 0x00, 0x0C, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(told.events, [Event::Disconnecting { by_peer: false }]);
    assert!(!sstp.data_open() && !sstp.is_finished());
    feed(&mut sstp, &CALL_DISCONNECT_ACK, now);
    assert_eq!(drain(&mut sstp), Told { sent: vec![], events: vec![Event::Finished(End::Closed)] });
}

#[test]
fn a_close_that_is_never_acknowledged_is_over_after_5_seconds() {
    let now = start();
    let mut sstp = connected(now);
    sstp.close(now);
    drain(&mut sstp);
    assert_eq!(sstp.poll_timeout(), Some((now + 5 * SECOND, "disconnect 1")));
    sstp.handle_timeout(now + 5 * SECOND);
    assert_eq!(drain(&mut sstp).events, [Event::Finished(End::Closed)]);
}

#[test]
fn the_status_that_the_client_gives_is_told() {
    let now = start();
    let mut with_status = abort(3, 4);
    for (kind, end) in [
        (5, End::PeerAborted { status: Some(Status::VALUE_NOT_SUPPORTED) }),
        (6, End::PeerDisconnected { status: Some(Status::VALUE_NOT_SUPPORTED) }),
    ] {
        with_status[5] = kind;
        let mut sstp = connected(now);
        feed(&mut sstp, &with_status, now);
        assert_eq!(drain(&mut sstp).events, [Event::Disconnecting { by_peer: true }]);
        sstp.handle_timeout(now + SECOND);
        assert_eq!(drain(&mut sstp).events, [Event::Finished(end)]);
    }
    let mut sstp = connected(now);
    feed(&mut sstp, &CALL_DISCONNECT, now);
    sstp.handle_timeout(now + SECOND);
    let events = [Event::Disconnecting { by_peer: true }, Event::Finished(End::PeerDisconnected { status: None })];
    assert_eq!(drain(&mut sstp).events, events);
}

#[test]
fn the_first_reason_is_the_one_that_is_told() {
    let now = start();
    let mut sstp = connected(now);
    sstp.close(now);
    feed(&mut sstp, &CALL_ABORT, now);
    assert_eq!(sstp.poll_timeout(), Some((now + SECOND, "abort 2")));
    sstp.handle_eof();
    let events = [Event::Disconnecting { by_peer: false }, Event::Finished(End::Closed)];
    assert_eq!(drain(&mut sstp).events, events);
}

#[test]
fn a_lost_stream_ends_without_an_abort() {
    let now = start();
    for (bytes, error) in [
        (&[0x11][..], Error::Version { expected: 0x10, got: 0x11 }),
        (&[0x10, 0x00, 0x00, 0x03], Error::Length { expected: 4, got: 3 }),
        (&[0x10, 0x00, 0xF0, 0x00], Error::Length { expected: 4, got: 0 }),
        (&[0x10, 0x01, 0x00, 0x07], Error::Length { expected: 8, got: 7 }),
    ] {
        let mut sstp = connected(now);
        assert_eq!(sstp.handle_input(bytes, now), Err(error));
        assert_eq!(drain(&mut sstp), Told { sent: vec![], events: vec![Event::Finished(End::StreamLost(error))] });
        assert_eq!(sstp.handle_input(bytes, now), Ok(Some((bytes.len(), Input::Handled))));
        assert_eq!(sstp.handle_input(&[], now), Ok(None));
    }
}

#[test]
fn the_end_of_the_stream_is_told_at_once() {
    let mut sstp = connected(start());
    sstp.handle_eof();
    sstp.handle_eof();
    assert_eq!(drain(&mut sstp), Told { sent: vec![], events: vec![Event::Finished(End::ConnectionClosed)] });
}

#[test]
fn an_end_reads_as_a_sentence() {
    for (end, text) in [
        (End::PeerDisconnected { status: None }, "the client disconnected"),
        (
            End::PeerAborted { status: Some(Status::VALUE_NOT_SUPPORTED) },
            "the client aborted: status 0x4 (value not supported)",
        ),
        (End::BindingFailed(BindingFailure::Nonce), "crypto binding: the nonce is not the one of the Call Connect Ack"),
        (End::NegotiationTimeout { awaited: MessageType::CallConnected }, "no Call Connected in time"),
        (
            End::ProtocolViolation(Violation::Unaccepted {
                message: MessageType::EchoRequest,
                state: "ConnectRequestPending",
            }),
            "Echo Request is not allowed in ConnectRequestPending",
        ),
        (End::StreamLost(Error::Version { expected: 0x10, got: 0x11 }), "SSTP version 0x11, expected 0x10"),
    ] {
        assert_eq!(end.to_string(), text);
    }
}
