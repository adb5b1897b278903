//! PPP frames, control packets and Configuration Options.

use wicketgate::ppp::wire::{ConfigureOption, Frame, MAX_FRAME, PACKET_HEADER, Packet};

/// One frame, as an SSTP data packet carries it. What can be read is emitted as the same, in its one form.
pub(crate) fn frames(bytes: &[u8]) {
    let Ok(frame) = Frame::parse(bytes) else { return };
    assert!(bytes.len() <= MAX_FRAME && bytes.ends_with(frame.information));
    let emitted = frame.emit();
    assert_eq!(emitted.len(), 4 + frame.information.len());
    assert!(emitted.starts_with(&[0xFF, 0x03]));
    if emitted.len() <= MAX_FRAME {
        assert_eq!(Frame::parse(&emitted), Ok(frame));
    }
    let Ok(packet) = Packet::parse(frame.information) else { return };
    let emitted = packet.emit();
    assert!(emitted.len() <= frame.information.len().min(PACKET_HEADER + Packet::MAX_DATA));
    if packet.data.len() <= Packet::MAX_DATA {
        assert!(frame.information.starts_with(&emitted), "behind a packet is only padding");
        assert_eq!(Packet::parse(&emitted), Ok(packet));
        assert_eq!(Frame::parse(&packet.emit_frame(frame.protocol)), Ok(Frame { information: &emitted, ..frame }));
    }
    let Ok(options) = ConfigureOption::parse_all(packet.data) else { return };
    let mut emitted = Vec::new();
    for option in &options {
        assert!(option.value.len() <= ConfigureOption::MAX_VALUE);
        option.emit_to(&mut emitted);
    }
    assert_eq!(emitted, packet.data);
}
