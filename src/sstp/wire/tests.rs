use super::*;
use proptest::prelude::*;

fn control(bytes: &[u8]) -> Control<'_> {
    match Packet::split(bytes) {
        Ok(Some((length, Packet::Control(control)))) if length == bytes.len() => control,
        other => panic!("{other:?}"),
    }
}

fn emitted(message: Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.emit(&mut out);
    out
}

fn complaint(bytes: &[u8]) -> StatusInfo<'_> {
    match Message::parse(control(bytes)) {
        Err(Fault::Attributes { complaint, .. }) => complaint,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_fixed_messages_have_these_bytes() {
    let nonce = [0xAA; 32];
    let ack = |hash_bitmask| Message::CallConnectAck(CryptoBindingRequest { hash_bitmask, nonce });
    let head = |bitmask| [0x10, 0x01, 0x00, 0x30, 0, 2, 0, 1, 0, 4, 0x00, 0x28, 0, 0, 0, bitmask];
    let zero = Some(StatusInfo::NO_ERROR);
    let protocol_2 = StatusInfo::new(AttributeId(1), Status::VALUE_NOT_SUPPORTED).echoing(&[0, 2]);
    let timeout = Some(StatusInfo::new(AttributeId::STATUS_INFO, Status::NEGOTIATION_TIMEOUT));
    for (message, bytes) in [
        //                          version, control, length      type  count  attribute
        (Message::CallConnectRequest, vec![0x10, 0x01, 0x00, 0x0E, 0, 1, 0, 1, 0, 1, 0x00, 0x06, 0, 1]),
        (ack(2), [&head(2)[..], &nonce].concat()),
        (ack(3), [&head(3)[..], &nonce].concat()),
        (
            Message::CallConnectNak(protocol_2),
            //                      header        Status Info     attribute   status      value
            vec![0x10, 0x01, 0x00, 0x16, 0, 3, 0, 1, 0, 2, 0x00, 0x0E, 0, 0, 0, 1, 0, 0, 0, 4, 0, 2],
        ),
        (
            Message::CallAbort(timeout),
            vec![0x10, 0x01, 0x00, 0x14, 0, 5, 0, 1, 0, 2, 0x00, 0x0C, 0, 0, 0, 2, 0, 0, 0, 8],
        ),
        (Message::CallAbort(None), vec![0x10, 0x01, 0x00, 0x08, 0, 5, 0, 0]),
        (
            Message::CallDisconnect(zero),
            vec![0x10, 0x01, 0x00, 0x14, 0, 6, 0, 1, 0, 2, 0x00, 0x0C, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (Message::CallDisconnect(None), vec![0x10, 0x01, 0x00, 0x08, 0, 6, 0, 0]),
        (Message::CallDisconnectAck, vec![0x10, 0x01, 0x00, 0x08, 0, 7, 0, 0]),
        (Message::EchoRequest, vec![0x10, 0x01, 0x00, 0x08, 0, 8, 0, 0]),
        (Message::EchoResponse, vec![0x10, 0x01, 0x00, 0x08, 0, 9, 0, 0]),
    ] {
        assert_eq!(emitted(message), bytes, "{message:?}");
        assert_eq!(Message::parse(control(&bytes)), Ok(message));
    }
}

#[test]
fn a_data_header_says_the_length_of_the_whole_packet() {
    assert_eq!(data_header(0), Some([0x10, 0x00, 0x00, 0x04]));
    assert_eq!(data_header(1500), Some([0x10, 0x00, 0x05, 0xE0]));
    assert_eq!(data_header(MAX_FRAME), Some([0x10, 0x00, 0x0F, 0xFF]));
    assert_eq!(data_header(MAX_FRAME + 1), None);
    assert_eq!(data_header(usize::MAX), None);
}

#[test]
fn a_packet_is_split_off_when_its_last_byte_is_there() {
    let bytes = [0x10, 0x00, 0x00, 0x06, 0xFF, 0x03, 0x10];
    for length in 0..6 {
        assert_eq!(Packet::split(&bytes[..length]), Ok(None), "{length}");
    }
    assert_eq!(Packet::split(&bytes), Ok(Some((6, Packet::Data(&[0xFF, 0x03])))));
}

#[test]
fn lengths_at_both_ends() {
    assert_eq!(Packet::split(&[0x10, 0x00, 0x00, 0x00]), Err(Error::Length { expected: 4, got: 0 }));
    assert_eq!(Packet::split(&[0x10, 0x00, 0x00, 0x03]), Err(Error::Length { expected: 4, got: 3 }));
    assert_eq!(Packet::split(&[0x10, 0x00, 0x00, 0x04]), Ok(Some((4, Packet::Data(&[])))));
    assert_eq!(Packet::split(&[0x10, 0x01, 0x00, 0x07]), Err(Error::Length { expected: 8, got: 7 }));
    let mut longest = vec![0x10, 0x00, 0x0F, 0xFF];
    longest.resize(MAX_PACKET, 0);
    assert_eq!(Packet::split(&longest[..MAX_PACKET - 1]), Ok(None));
    assert!(matches!(Packet::split(&longest), Ok(Some((MAX_PACKET, Packet::Data(frame)))) if frame.len() == MAX_FRAME));
}

#[test]
fn reserved_bits_are_ignored() {
    assert_eq!(Packet::split(&[0x10, 0xFE, 0xF0, 0x05, 0x21]), Ok(Some((5, Packet::Data(&[0x21])))));
    //             version, reserved bits and C, R bits  type  count   reserved, id, R bits   value
    let request = [0x10, 0xFF, 0xF0, 0x0E, 0, 1, 0, 1, 0xFF, 1, 0xF0, 0x06, 0, 1];
    assert_eq!(Message::parse(control(&request)), Ok(Message::CallConnectRequest));
}

#[test]
fn another_version_is_refused_at_its_first_byte() {
    for version in [0x11, 0x20, 0x00, 0xFF] {
        assert_eq!(Packet::split(&[version]), Err(Error::Version { expected: 0x10, got: version }));
    }
}

#[test]
fn an_unknown_message_is_named_by_its_number() {
    for number in [0, 10, 0xFFFF_u16] {
        let [high, low] = number.to_be_bytes();
        let packet = [0x10, 0x01, 0x00, 0x08, high, low, 0, 0];
        assert_eq!(Message::parse(control(&packet)), Err(Fault::UnknownMessage { got: number }));
    }
}

#[test]
fn a_bad_call_connect_request_is_told_what_is_wrong() {
    let info = |attribute, status| StatusInfo::new(AttributeId(attribute), status);
    let long = [&[0x10, 0x01, 0x00, 0x54, 0, 1, 0, 1, 0, 1, 0x00, 0x4C][..], &[7; 72]].concat();
    for (request, expected) in [
        // Protocol 2.
        (
            &[0x10, 0x01, 0x00, 0x0E, 0, 1, 0, 1, 0, 1, 0x00, 0x06, 0, 2][..],
            info(1, Status::VALUE_NOT_SUPPORTED).echoing(&[0, 2]),
        ),
        // No attribute.
        (&[0x10, 0x01, 0x00, 0x08, 0, 1, 0, 0], info(2, Status::REQUIRED_ATTRIBUTE_MISSING)),
        // The protocol twice.
        (
            &[0x10, 0x01, 0x00, 0x14, 0, 1, 0, 2, 0, 1, 0x00, 0x06, 0, 1, 0, 1, 0x00, 0x06, 0, 1],
            info(1, Status::DUPLICATE_ATTRIBUTE),
        ),
        // An unknown attribute behind the protocol.
        (
            &[0x10, 0x01, 0x00, 0x12, 0, 1, 0, 2, 0, 1, 0x00, 0x06, 0, 1, 0, 9, 0x00, 0x04],
            info(9, Status::UNRECOGNIZED_ATTRIBUTE),
        ),
        // A protocol of one byte, and one of 72.
        (
            &[0x10, 0x01, 0x00, 0x0D, 0, 1, 0, 1, 0, 1, 0x00, 0x05, 1],
            info(1, Status::INVALID_ATTRIB_VALUE_LENGTH).echoing(&[1]),
        ),
        (&long, info(1, Status::INVALID_ATTRIB_VALUE_LENGTH).echoing(&[7; 64])),
        // Status Info with status 5.
        (
            &[0x10, 0x01, 0x00, 0x14, 0, 1, 0, 1, 0, 2, 0x00, 0x0C, 0, 0, 0, 0, 0, 0, 0, 5],
            info(2, Status::STATUS_INFO_NOT_SUPPORTED_IN_MSG),
        ),
        // An attribute of length 3; one that is longer than the packet; fewer and more of them than announced.
        (&[0x10, 0x01, 0x00, 0x0E, 0, 1, 0, 1, 0, 1, 0x00, 0x03, 0, 1], info(1, Status::INVALID_ATTRIB_VALUE_LENGTH)),
        (&[0x10, 0x01, 0x00, 0x0E, 0, 1, 0, 1, 0, 1, 0x00, 0x07, 0, 1], info(1, Status::INVALID_ATTRIB_VALUE_LENGTH)),
        (&[0x10, 0x01, 0x00, 0x0E, 0, 1, 0, 2, 0, 1, 0x00, 0x06, 0, 1], info(0, Status::INVALID_ATTRIB_VALUE_LENGTH)),
        (&[0x10, 0x01, 0x00, 0x0E, 0, 1, 0, 0, 0, 1, 0x00, 0x06, 0, 1], info(0, Status::INVALID_ATTRIB_VALUE_LENGTH)),
    ] {
        assert_eq!(complaint(request), expected, "{request:02x?}");
    }
}

#[test]
fn a_status_info_without_error_is_harmless_in_a_call_connect_request() {
    let request =
        [0x10, 0x01, 0x00, 0x1A, 0, 1, 0, 2, 0, 2, 0x00, 0x0C, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x00, 0x06, 0, 1];
    assert_eq!(Message::parse(control(&request)), Ok(Message::CallConnectRequest));
}

#[test]
fn a_call_connected_is_a_crypto_binding_and_nothing_else() {
    let status_9 = StatusInfo::new(AttributeId::STATUS_INFO, Status::ATTRIB_NOT_SUPPORTED_IN_MSG);
    let mut good = vec![0x10, 0x01, 0x00, 0x70, 0, 4, 0, 1, 0, 3, 0x00, 0x68];
    good.resize(CALL_CONNECTED, 0);
    assert!(matches!(Message::parse(control(&good)), Ok(Message::CallConnected(_))));

    let none = [0x10, 0x01, 0x00, 0x08, 0, 4, 0, 0];
    let mut short = good[..CALL_CONNECTED - 1].to_vec();
    (short[3], short[11]) = (0x6F, 0x67);
    let mut with_status = [&good[..], &[0, 2, 0x00, 0x0C, 0, 0, 0, 0, 0, 0, 0, 1]].concat();
    (with_status[3], with_status[7]) = (0x7C, 2);
    let mut trailing = [&good[..], &[0]].concat();
    trailing[3] = 0x71;
    let mut another = good.clone();
    another[9] = 9;
    for wrong in [&none[..], &short, &with_status, &trailing, &another] {
        assert_eq!(complaint(wrong), status_9, "{wrong:02x?}");
    }
}

#[test]
fn a_broken_attribute_list_is_an_invalid_frame() {
    for message in [2, 3, 5, 6, 7, 8, 9] {
        let broken = [0x10, 0x01, 0x00, 0x0C, 0, message, 0, 1, 0, 2, 0x00, 0x03];
        assert_eq!(complaint(&broken), StatusInfo::INVALID_FRAME, "{message}");
        let count = [0x10, 0x01, 0x00, 0x08, 0, message, 0xFF, 0xFF];
        assert_eq!(complaint(&count), StatusInfo::INVALID_FRAME, "{message}");
    }
}

#[test]
fn what_a_message_without_attributes_carries_is_ignored() {
    let echo = [0x10, 0x01, 0x00, 0x0C, 0, 8, 0, 1, 0, 9, 0x00, 0x04];
    assert_eq!(Message::parse(control(&echo)), Ok(Message::EchoRequest));
    let abort = [0x10, 0x01, 0x00, 0x0C, 0, 5, 0, 1, 0, 9, 0x00, 0x04];
    assert_eq!(Message::parse(control(&abort)), Ok(Message::CallAbort(None)));
}

#[test]
fn a_status_reads_as_its_name() {
    assert_eq!(Status::VALUE_NOT_SUPPORTED.to_string(), "status 0x4 (value not supported)");
    assert_eq!(
        Status::STATUS_INFO_NOT_SUPPORTED_IN_MSG.to_string(),
        "status 0xb (status info not supported in message)"
    );
    assert_eq!(Status(0xFFFF_FFFF).to_string(), "status 0xffffffff (unknown)");
}

/// Everything that a message is made of; a message borrows the value of a Status Info.
type Parts = (u8, u8, [u8; 32], [u8; 32], [u8; 32], u8, u32, Vec<u8>);

fn parts() -> impl Strategy<Value = Parts> {
    let value = proptest::collection::vec(any::<u8>(), 0..=2 * MAX_ECHOED_VALUE);
    (0..11_u8, any::<u8>(), any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u8>(), any::<u32>(), value)
}

fn message((kind, hash, nonce, certificate_hash, compound_mac, attribute, status, value): &Parts) -> Message<'_> {
    let status = StatusInfo::new(AttributeId(*attribute), Status(*status)).echoing(value);
    match kind {
        0 => Message::CallConnectRequest,
        1 => Message::CallConnectAck(CryptoBindingRequest { hash_bitmask: *hash, nonce: *nonce }),
        2 => Message::CallConnectNak(status),
        3 => Message::CallConnected(CryptoBinding {
            hash_protocol: *hash,
            nonce: *nonce,
            certificate_hash: *certificate_hash,
            compound_mac: *compound_mac,
        }),
        4 => Message::CallAbort(None),
        5 => Message::CallAbort(Some(status)),
        6 => Message::CallDisconnect(None),
        7 => Message::CallDisconnect(Some(status)),
        8 => Message::CallDisconnectAck,
        9 => Message::EchoRequest,
        _ => Message::EchoResponse,
    }
}

proptest! {
    #[test]
    fn what_was_emitted_is_parsed_as_the_same(parts in parts()) {
        let message = message(&parts);
        let bytes = emitted(message);
        prop_assert_eq!(Message::parse(control(&bytes)), Ok(message));
    }

    #[test]
    fn what_can_be_parsed_is_emitted_in_at_most_its_length(
        kind in 0..12_u8, count in 0..3_u8, list in proptest::collection::vec(any::<u8>(), 0..40)
    ) {
        let mut bytes = vec![0x10, 0x01, 0x00, 8 + list.len() as u8, 0, kind, 0, count];
        bytes.extend(&list);
        if let Ok(message) = Message::parse(control(&bytes)) {
            let again = emitted(message);
            prop_assert!(again.len() <= bytes.len());
            prop_assert_eq!(Message::parse(control(&again)), Ok(message));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(Some((length, packet))) = Packet::split(&bytes) {
            prop_assert!(length <= bytes.len());
            if let Packet::Control(control) = packet {
                let _ = Message::parse(control);
                prop_assert!(control.attributes().count() <= bytes.len());
            }
        }
    }
}
