//! PPP frames, control packets and options (RFC 1661 5 and 6) inside SSTP: no flags, no stuffing, no FCS.

/// Protocol numbers.
pub mod protocol {
    pub const IPV4: u16 = 0x0021;
    pub const IPV6: u16 = 0x0057;
    pub const IPCP: u16 = 0x8021;
    pub const IPV6CP: u16 = 0x8057;
    pub const CCP: u16 = 0x80FD;
    pub const LCP: u16 = 0xC021;
    pub const PAP: u16 = 0xC023;
    pub const CHAP: u16 = 0xC223;
    pub const EAP: u16 = 0xC227;
}

/// Codes of LCP and the NCPs.
pub mod code {
    pub const CONFIGURE_REQUEST: u8 = 1;
    pub const CONFIGURE_ACK: u8 = 2;
    pub const CONFIGURE_NAK: u8 = 3;
    pub const CONFIGURE_REJECT: u8 = 4;
    pub const TERMINATE_REQUEST: u8 = 5;
    pub const TERMINATE_ACK: u8 = 6;
    pub const CODE_REJECT: u8 = 7;
    pub const PROTOCOL_REJECT: u8 = 8;
    pub const ECHO_REQUEST: u8 = 9;
    pub const ECHO_REPLY: u8 = 10;
    pub const DISCARD_REQUEST: u8 = 11;
    pub const IDENTIFICATION: u8 = 12;
    pub const TIME_REMAINING: u8 = 13;
}

/// The protocol and information of a frame; `None` without `FF 03`, which one real client needs, or with a protocol
/// number that cannot be.
pub fn frame(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let [0xFF, 0x03, high, low, information @ ..] = bytes else { return None };
    (high & 1 == 0 && low & 1 == 1).then(|| (u16::from_be_bytes([*high, *low]), information))
}

/// `code | id | length | data`; also the form of CHAP, PAP and EAP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlPacket<'a> {
    pub code: u8,
    pub id: u8,
    pub data: &'a [u8],
}

impl<'a> ControlPacket<'a> {
    /// `None` when the length is wrong; bytes after it are padding.
    pub fn parse(information: &'a [u8]) -> Option<Self> {
        let [code, id, high, low, ..] = *information else { return None };
        let data = information.get(4..usize::from(u16::from_be_bytes([high, low])))?;
        Some(Self { code, id, data })
    }

    /// Data longer than a length field can tell is cut.
    pub fn emit(&self) -> Vec<u8> {
        let length = u16::try_from(self.data.len() + 4).unwrap_or(u16::MAX);
        let [high, low] = length.to_be_bytes();
        let mut bytes = vec![self.code, self.id, high, low];
        bytes.extend_from_slice(self.data.get(..usize::from(length) - 4).unwrap_or_default());
        bytes
    }
}

/// One configuration option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigOption {
    pub kind: u8,
    pub value: Vec<u8>,
}

impl ConfigOption {
    pub fn new(kind: u8, value: impl Into<Vec<u8>>) -> Self {
        Self { kind, value: value.into() }
    }

    /// `None` when the list is malformed.
    pub fn parse_all(mut bytes: &[u8]) -> Option<Vec<Self>> {
        let mut options = Vec::new();
        while let [kind, length, ..] = *bytes {
            let value = bytes.get(2..usize::from(length))?;
            options.push(Self::new(kind, value));
            bytes = bytes.get(usize::from(length)..)?;
        }
        bytes.is_empty().then_some(options)
    }

    pub fn emit_all(options: &[Self]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for option in options {
            let length = u8::try_from(option.value.len() + 2).unwrap_or(u8::MAX);
            bytes.extend([option.kind, length]);
            bytes.extend(option.value.iter().take(usize::from(length) - 2));
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_compressed_frame_is_refused() {
        assert_eq!(frame(&[0xFF, 0x03, 0x00, 0x21, 0x45]), Some((protocol::IPV4, &[0x45][..])));
        assert_eq!(frame(&[0x00, 0x21, 0x45]), None);
        assert_eq!(frame(&[0xFF, 0x03, 0x21, 0x45]), None);
    }

    #[test]
    fn padding_is_ignored_and_short_packets_are_refused() {
        assert_eq!(ControlPacket::parse(&[9, 1, 0, 4, 0xAA]), Some(ControlPacket { code: 9, id: 1, data: &[] }));
        assert_eq!(ControlPacket::parse(&[9, 1, 0, 5]), None);
        assert_eq!(ControlPacket::parse(&[9, 1, 0, 3]), None);
    }

    #[test]
    fn an_option_that_overruns_spoils_the_list() {
        assert_eq!(ConfigOption::parse_all(&[1, 4, 5, 0xDC]), Some(vec![ConfigOption::new(1, [5, 0xDC])]));
        assert_eq!(ConfigOption::parse_all(&[1, 5, 5, 0xDC]), None);
        assert_eq!(ConfigOption::parse_all(&[1, 1]), None);
        assert_eq!(ConfigOption::parse_all(&[1]), None);
    }

    proptest! {
        #[test]
        fn options_come_out_as_they_went_in(
            list in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..253)), 0..8)
        ) {
            let options: Vec<_> = list.into_iter().map(|(kind, value)| ConfigOption { kind, value }).collect();
            prop_assert_eq!(ConfigOption::parse_all(&ConfigOption::emit_all(&options)), Some(options));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (frame(&bytes), ControlPacket::parse(&bytes), ConfigOption::parse_all(&bytes));
        }
    }
}
