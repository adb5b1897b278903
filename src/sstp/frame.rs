//! What a PPP frame is for, as far as SSTP must know: control or network traffic.
//!
//! Goes in: one PPP frame. Comes out: its kind. Ruled by [RFC 1661] section 2 (protocol field, and its compression,
//! section 6.5) and [RFC 1662] section 3.1 (address and control fields).

/// Address (all stations) and Control (unnumbered information). [RFC 1662] 3.1.
const ADDRESS_AND_CONTROL: [u8; 2] = [0xFF, 0x03];

/// The first protocol number that belongs to a control protocol: 0x8000 to 0xBFFF are network control protocols, 0xC000
/// to 0xFFFF link control protocols. [RFC 1661] 2.
const FIRST_CONTROL_PROTOCOL: u16 = 0x8000;

/// What a PPP frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A link or network control protocol.
    Control,
    /// Traffic of the network, which has to wait for a Call Connected that holds.
    Network,
}

impl FrameKind {
    /// `None`: no protocol number can be read, the frame is to be dropped.
    ///
    /// A compressed protocol field is below 0x0100 and therefore always network traffic.
    pub fn of(frame: &[u8]) -> Option<Self> {
        match frame.strip_prefix(&ADDRESS_AND_CONTROL).unwrap_or(frame) {
            [compressed, ..] if compressed & 1 == 1 => Some(Self::Network),
            [high, low, ..] if low & 1 == 1 => {
                let protocol = u16::from_be_bytes([*high, *low]);
                Some(if protocol >= FIRST_CONTROL_PROTOCOL { Self::Control } else { Self::Network })
            }
            [] | [_, ..] => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_and_network_control_protocols_are_control() {
        for protocol in [[0xC0, 0x21], [0xC0, 0x23], [0xC2, 0x23], [0xC2, 0x27], [0x80, 0x21], [0x80, 0x57]] {
            assert_eq!(FrameKind::of(&[0xFF, 0x03, protocol[0], protocol[1], 0x01]), Some(FrameKind::Control));
            assert_eq!(FrameKind::of(&[protocol[0], protocol[1], 0x01]), Some(FrameKind::Control));
        }
    }

    #[test]
    fn ip_is_network_traffic_however_its_header_is_compressed() {
        for frame in
            [&[0xFF, 0x03, 0x00, 0x21, 0x45][..], &[0xFF, 0x03, 0x21, 0x45], &[0x00, 0x21, 0x45], &[0x21, 0x45]]
        {
            assert_eq!(FrameKind::of(frame), Some(FrameKind::Network), "{frame:02x?}");
        }
    }

    #[test]
    fn protocols_between_network_and_control_are_not_let_in_early() {
        assert_eq!(FrameKind::of(&[0xFF, 0x03, 0x40, 0x21]), Some(FrameKind::Network));
        assert_eq!(FrameKind::of(&[0xFF, 0x03, 0x7E, 0xFF]), Some(FrameKind::Network));
    }

    #[test]
    fn a_frame_without_a_readable_protocol_has_no_kind() {
        for frame in [&[][..], &[0xFF, 0x03], &[0xFF, 0x03, 0xC0], &[0xC0], &[0xC0, 0x20], &[0x00, 0x20, 0x45]] {
            assert_eq!(FrameKind::of(frame), None, "{frame:02x?}");
        }
    }

    #[test]
    fn address_and_control_are_skipped_once() {
        assert_eq!(FrameKind::of(&[0xFF, 0x03, 0xFF, 0x03, 0xC0, 0x21]), Some(FrameKind::Network));
    }
}
