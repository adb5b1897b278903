//! SSTP packets, control messages and attributes.

use wicketgate::sstp::FrameKind;
use wicketgate::sstp::wire::{
    Control, Error, Fault, MAX_FRAME, MAX_PACKET, Message, Packet, RawAttribute, data_header,
};

/// Cuts a stream into packets.
pub(crate) fn packets(mut bytes: &[u8]) {
    loop {
        let split = Packet::split(bytes);
        match split {
            Ok(Some((length, packet))) => {
                assert!((4..=MAX_PACKET.min(bytes.len())).contains(&length));
                assert_eq!(Packet::split(&bytes[..length]), split, "what follows a packet means nothing to it");
                for cut in [0, 1, 3, length / 2, length - 1] {
                    assert_eq!(Packet::split(&bytes[..cut.min(length - 1)]), Ok(None));
                }
                match packet {
                    Packet::Control(message) => control(message),
                    Packet::Data(frame) => data(frame),
                }
                bytes = &bytes[length..];
            }
            Ok(None) => return assert!(bytes.len() < MAX_PACKET),
            Err(Error::Version { .. }) => return assert_eq!(Packet::split(&bytes[..1]), split),
            Err(Error::Length { .. }) => return assert_eq!(Packet::split(&bytes[..4]), split),
        }
    }
}

fn data(frame: &[u8]) {
    assert!(frame.len() <= MAX_FRAME);
    let Some(header) = data_header(frame.len()) else { panic!("a frame that was received fits a packet") };
    let packet = [&header[..], frame].concat();
    assert_eq!(Packet::split(&packet), Ok(Some((packet.len(), Packet::Data(frame)))));
    let _ = FrameKind::of(frame);
}

/// What has a meaning is emitted with the same meaning, in no more bytes; and so is every complaint about the rest.
fn control(control: Control<'_>) {
    let bytes = control.as_bytes();
    let mut lengths = 8;
    for attribute in control.attributes() {
        let Ok(RawAttribute { value, .. }) = attribute else { break };
        lengths += 4 + value.len();
    }
    assert!(lengths <= bytes.len());
    match Message::parse(control) {
        Ok(message) => {
            assert_eq!(control.message_type(), Ok(message.message_type()));
            assert!(emitted(message) <= bytes.len());
        }
        Err(Fault::UnknownMessage { got }) => assert_eq!(control.message_type(), Err(got)),
        Err(Fault::Attributes { message, complaint }) => {
            assert_eq!(control.message_type(), Ok(message));
            emitted(Message::CallConnectNak(complaint));
            emitted(Message::CallAbort(Some(complaint)));
        }
    }
}

/// The length of the message when it is emitted, after it was read back.
fn emitted(message: Message<'_>) -> usize {
    let mut out = Vec::new();
    message.emit(&mut out);
    let Ok(Some((length, Packet::Control(control)))) = Packet::split(&out) else {
        panic!("an emitted message is a control packet")
    };
    assert_eq!(length, out.len());
    assert_eq!(Message::parse(control), Ok(message));
    length
}
