//! PPP frames, control packets and Configuration Options: bytes to values and back.
//!
//! In goes what one SSTP data packet carries: a raw PPP frame, without flags, byte stuffing or FCS. Out come borrowed
//! views that have been checked. [RFC 1661] sections 2 (frames), 5 (packets) and 6 (options) rule; RFC 1570 adds the
//! codes 12 and 13.
//!
//! Receiving is lenient (the address and control fields may be absent, the protocol may be compressed), sending is
//! strict (neither is ever compressed: some clients end the call on a frame without `FF 03`).

use thiserror::Error;

/// The largest PPP frame that fits an SSTP packet, whose length has 12 bits and whose header has four bytes.
pub const MAX_FRAME: usize = 4091;

/// The All-Stations address and the Unnumbered Information control field.
const ADDRESS_AND_CONTROL: [u8; 2] = [0xFF, 0x03];

/// `FF 03` and a protocol of two bytes.
const FRAME_HEADER: usize = 4;

/// Code, identifier and length.
pub const PACKET_HEADER: usize = 4;

/// Type and length.
const OPTION_HEADER: usize = 2;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// More than an SSTP packet can carry.
    #[error("a PPP frame of {got} bytes, the limit is {limit}")]
    FrameTooLong { got: usize, limit: usize },
    /// The frame ends before its protocol does.
    #[error("a PPP frame of {got} bytes has no protocol")]
    NoProtocol { got: usize },
    /// The low byte of a protocol of two bytes must be odd.
    #[error("{got:#06x} is not a PPP protocol")]
    BadProtocol { got: u16 },
    /// Fewer bytes than the format needs.
    #[error("{got} bytes, expected at least {expected}")]
    TooShort { expected: usize, got: usize },
    /// A length field that covers less than its own header, or more than there is.
    #[error("a length of {got}, expected {least} to {most}")]
    BadLength { least: usize, most: usize, got: usize },
    /// More options than any client sends.
    #[error("more than {limit} options")]
    TooManyOptions { limit: usize },
    /// A name longer than any account can have.
    #[error("a name of {got} bytes, the limit is {limit}")]
    NameTooLong { got: usize, limit: usize },
}

/// The PPP protocols that this station knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// 0x0021
    Ipv4,
    /// 0x8021
    Ipcp,
    /// 0xC021
    Lcp,
    /// 0xC023
    Pap,
    /// 0xC223
    Chap,
    /// 0xC227
    Eap,
    /// Any other number; nothing here speaks it.
    Other(u16),
}

impl From<u16> for Protocol {
    fn from(number: u16) -> Self {
        match number {
            0x0021 => Self::Ipv4,
            0x8021 => Self::Ipcp,
            0xC021 => Self::Lcp,
            0xC023 => Self::Pap,
            0xC223 => Self::Chap,
            0xC227 => Self::Eap,
            other => Self::Other(other),
        }
    }
}

impl Protocol {
    /// The assigned number.
    pub fn number(self) -> u16 {
        match self {
            Self::Ipv4 => 0x0021,
            Self::Ipcp => 0x8021,
            Self::Lcp => 0xC021,
            Self::Pap => 0xC023,
            Self::Chap => 0xC223,
            Self::Eap => 0xC227,
            Self::Other(number) => number,
        }
    }
}

/// One PPP frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Who the information is for.
    pub protocol: Protocol,
    /// Everything after the protocol, padding included.
    pub information: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a frame, with or without address and control, with or without a compressed protocol.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let got = bytes.len();
        if got > MAX_FRAME {
            return Err(Malformed::FrameTooLong { got, limit: MAX_FRAME });
        }
        match bytes.strip_prefix(&ADDRESS_AND_CONTROL).unwrap_or(bytes) {
            [compressed, information @ ..] if compressed & 1 == 1 => {
                Ok(Self { protocol: Protocol::from(u16::from(*compressed)), information })
            }
            [high, low, information @ ..] => {
                let number = u16::from_be_bytes([*high, *low]);
                if low & 1 == 0 {
                    return Err(Malformed::BadProtocol { got: number });
                }
                Ok(Self { protocol: Protocol::from(number), information })
            }
            [] | [_] => Err(Malformed::NoProtocol { got }),
        }
    }

    /// Writes the frame with `FF 03` and a protocol of two bytes.
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRAME_HEADER.saturating_add(self.information.len()));
        bytes.extend_from_slice(&ADDRESS_AND_CONTROL);
        bytes.extend_from_slice(&self.protocol.number().to_be_bytes());
        bytes.extend_from_slice(self.information);
        bytes
    }
}

/// The codes of LCP; the codes 1 to 7 serve every NCP too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 1
    ConfigureRequest,
    /// 2
    ConfigureAck,
    /// 3
    ConfigureNak,
    /// 4
    ConfigureReject,
    /// 5
    TerminateRequest,
    /// 6
    TerminateAck,
    /// 7
    CodeReject,
    /// 8, only LCP
    ProtocolReject,
    /// 9, only LCP
    EchoRequest,
    /// 10, only LCP
    EchoReply,
    /// 11, only LCP
    DiscardRequest,
    /// 12, only LCP
    Identification,
    /// 13, only LCP
    TimeRemaining,
    /// Anything else.
    Other(u8),
}

impl From<u8> for Code {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::ConfigureRequest,
            2 => Self::ConfigureAck,
            3 => Self::ConfigureNak,
            4 => Self::ConfigureReject,
            5 => Self::TerminateRequest,
            6 => Self::TerminateAck,
            7 => Self::CodeReject,
            8 => Self::ProtocolReject,
            9 => Self::EchoRequest,
            10 => Self::EchoReply,
            11 => Self::DiscardRequest,
            12 => Self::Identification,
            13 => Self::TimeRemaining,
            other => Self::Other(other),
        }
    }
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::ConfigureRequest => 1,
            Self::ConfigureAck => 2,
            Self::ConfigureNak => 3,
            Self::ConfigureReject => 4,
            Self::TerminateRequest => 5,
            Self::TerminateAck => 6,
            Self::CodeReject => 7,
            Self::ProtocolReject => 8,
            Self::EchoRequest => 9,
            Self::EchoReply => 10,
            Self::DiscardRequest => 11,
            Self::Identification => 12,
            Self::TimeRemaining => 13,
            Self::Other(number) => number,
        }
    }
}

/// A control packet: LCP, the NCPs, PAP, CHAP and EAP share this header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is; each protocol has its own numbers.
    pub code: u8,
    /// Joins an answer to its request.
    pub id: u8,
    /// What the length covers after the header.
    pub data: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The most data that a packet can have in a frame.
    pub const MAX_DATA: usize = MAX_FRAME - FRAME_HEADER - PACKET_HEADER;

    /// Reads a packet; bytes after its length are padding and ignored.
    pub fn parse(information: &'a [u8]) -> Result<Self, Malformed> {
        let most = information.len();
        let [code, id, high, low, rest @ ..] = information else {
            return Err(Malformed::TooShort { expected: PACKET_HEADER, got: most });
        };
        let got = usize::from(u16::from_be_bytes([*high, *low]));
        got.checked_sub(PACKET_HEADER)
            .and_then(|length| rest.get(..length))
            .map(|data| Self { code: *code, id: *id, data })
            .ok_or(Malformed::BadLength { least: PACKET_HEADER, most, got })
    }

    /// Writes the packet alone. Data beyond [`Self::MAX_DATA`] is cut off.
    pub fn emit(&self) -> Vec<u8> {
        let data = self.data.get(..Self::MAX_DATA).unwrap_or(self.data);
        let length = u16::try_from(PACKET_HEADER + data.len()).expect("MAX_DATA and a header fit 16 bits");
        let mut bytes = Vec::with_capacity(usize::from(length));
        bytes.extend_from_slice(&[self.code, self.id]);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    /// Writes the packet in a frame of `protocol`.
    pub fn emit_frame(&self, protocol: Protocol) -> Vec<u8> {
        Frame { protocol, information: &self.emit() }.emit()
    }
}

/// One Configuration Option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigureOption<'a> {
    /// The option's type.
    pub kind: u8,
    /// Its value, at most 253 bytes.
    pub value: &'a [u8],
}

impl<'a> ConfigureOption<'a> {
    /// What the length of one byte leaves for a value.
    pub const MAX_VALUE: usize = u8::MAX as usize - OPTION_HEADER;

    /// The most options of one packet. Clients send ten; what is done with each may look at all others.
    pub const MAX_OPTIONS: usize = 64;

    /// Reads the options of a whole Configure packet. One bad length spoils all of them.
    pub fn parse_all(mut data: &'a [u8]) -> Result<Vec<Self>, Malformed> {
        let mut options = Vec::new();
        while !data.is_empty() {
            let most = data.len();
            let [kind, length, rest @ ..] = data else {
                return Err(Malformed::TooShort { expected: OPTION_HEADER, got: most });
            };
            let got = usize::from(*length);
            let (value, after) = got
                .checked_sub(OPTION_HEADER)
                .and_then(|length| rest.split_at_checked(length))
                .ok_or(Malformed::BadLength { least: OPTION_HEADER, most, got })?;
            if options.len() == Self::MAX_OPTIONS {
                return Err(Malformed::TooManyOptions { limit: Self::MAX_OPTIONS });
            }
            options.push(Self { kind: *kind, value });
            data = after;
        }
        Ok(options)
    }

    /// Appends the option to `bytes`. A value beyond [`Self::MAX_VALUE`] is cut off.
    pub fn emit_to(&self, bytes: &mut Vec<u8>) {
        let value = self.value.get(..Self::MAX_VALUE).unwrap_or(self.value);
        let length = u8::try_from(OPTION_HEADER + value.len()).expect("MAX_VALUE and a header fit 8 bits");
        bytes.extend_from_slice(&[self.kind, length]);
        bytes.extend_from_slice(value);
    }
}

/// At most `limit` bytes as a line of text: as it is when all of it is printable ASCII, in hexadecimal otherwise.
pub(super) fn printable(bytes: &[u8], limit: usize) -> Box<str> {
    let bytes = bytes.get(..limit).unwrap_or(bytes);
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        bytes.iter().copied().map(char::from).collect()
    } else {
        hex(bytes).into()
    }
}

/// Hexadecimal digits in upper case, as MS-CHAPv2 wants them.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]).filter_map(|digit| DIGITS.get(usize::from(digit))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_may_come_in_four_forms_and_leaves_in_one() {
        let forms: [&[u8]; 4] = [
            &[0xFF, 0x03, 0x00, 0x21, 0x45], // address, control, protocol
            &[0xFF, 0x03, 0x21, 0x45],       // the protocol compressed
            &[0x00, 0x21, 0x45],             // address and control compressed
            &[0x21, 0x45],                   // both
        ];
        for form in forms {
            let frame = Frame::parse(form).unwrap();
            assert_eq!(frame, Frame { protocol: Protocol::Ipv4, information: &[0x45] });
            assert_eq!(frame.emit(), forms[0]);
        }
    }

    #[test]
    fn a_frame_without_a_protocol_is_refused() {
        assert_eq!(Frame::parse(&[]), Err(Malformed::NoProtocol { got: 0 }));
        assert_eq!(Frame::parse(&[0xFF, 0x03]), Err(Malformed::NoProtocol { got: 2 }));
        assert_eq!(Frame::parse(&[0xFF, 0x03, 0xC0]), Err(Malformed::NoProtocol { got: 3 }));
        assert_eq!(Frame::parse(&[0xC0, 0x20]), Err(Malformed::BadProtocol { got: 0xC020 }));
    }

    #[test]
    fn a_frame_longer_than_an_sstp_packet_is_refused() {
        let mut bytes = vec![0; MAX_FRAME + 1];
        bytes[..4].copy_from_slice(&[0xFF, 0x03, 0x00, 0x21]);
        assert_eq!(Frame::parse(&bytes), Err(Malformed::FrameTooLong { got: MAX_FRAME + 1, limit: MAX_FRAME }));
        assert!(Frame::parse(&bytes[..MAX_FRAME]).is_ok());
    }

    #[test]
    fn padding_after_a_packet_is_ignored_and_a_short_one_refused() {
        let padded = [0x05, 0x07, 0x00, 0x05, 0xAA, 0x00, 0x00]; // code, id, length, data, padding
        assert_eq!(Packet::parse(&padded), Ok(Packet { code: 5, id: 7, data: &[0xAA] }));
        assert_eq!(Packet::parse(&padded[..4]), Err(Malformed::BadLength { least: 4, most: 4, got: 5 }));
        assert_eq!(Packet::parse(&padded[..3]), Err(Malformed::TooShort { expected: 4, got: 3 }));
        assert_eq!(Packet::parse(&[1, 1, 0, 3, 0]), Err(Malformed::BadLength { least: 4, most: 5, got: 3 }));
    }

    #[test]
    fn one_bad_option_spoils_the_packet() {
        let too_short = Malformed::BadLength { least: 2, most: 2, got: 1 };
        assert_eq!(ConfigureOption::parse_all(&[0x07, 0x02, 0x08, 0x01]), Err(too_short));
        let overrun = Malformed::BadLength { least: 2, most: 3, got: 4 };
        assert_eq!(ConfigureOption::parse_all(&[0x01, 0x04, 0x05]), Err(overrun));
        assert_eq!(ConfigureOption::parse_all(&[0x01]), Err(Malformed::TooShort { expected: 2, got: 1 }));
    }

    #[test]
    fn a_packet_of_more_options_than_any_client_sends_is_malformed() {
        let options = |number: usize| [0x55, 0x02].repeat(number);
        assert_eq!(ConfigureOption::parse_all(&options(64)).unwrap().len(), 64);
        assert_eq!(ConfigureOption::parse_all(&options(65)), Err(Malformed::TooManyOptions { limit: 64 }));
    }

    #[test]
    fn text_is_printed_only_when_all_of_it_is_printable() {
        assert_eq!(&*printable(b"MSRASV5.20", 64), "MSRASV5.20");
        assert_eq!(&*printable(b"a\nb", 64), "610A62");
        assert_eq!(&*printable(&[b'x'; 65], 64), "x".repeat(64));
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_to_itself(
            number in any::<u16>(), code in any::<u8>(), id in any::<u8>(),
            options in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        ) {
            let mut data = Vec::new();
            for (kind, value) in &options {
                ConfigureOption { kind: *kind, value }.emit_to(&mut data);
            }
            // The low byte of a protocol is odd and its high byte even.
            let protocol = Protocol::from((number & 0xFEFF) | 1);
            let packet = Packet { code, id, data: &data };
            let bytes = packet.emit_frame(protocol);
            let frame = Frame::parse(&bytes).unwrap();
            prop_assert_eq!(frame.protocol, protocol);
            prop_assert_eq!(frame.emit(), &bytes[..]);
            let read = Packet::parse(frame.information).unwrap();
            prop_assert_eq!(read, packet);
            let read: Vec<_> = ConfigureOption::parse_all(read.data).unwrap();
            let read: Vec<_> = read.iter().map(|option| (option.kind, option.value.to_vec())).collect();
            prop_assert_eq!(read, options);
        }

        #[test]
        fn what_parses_is_emitted_within_the_received_length(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(bytes.starts_with(&packet.emit()));
            }
            if let Ok(options) = ConfigureOption::parse_all(&bytes) {
                let mut again = Vec::new();
                options.iter().for_each(|option| option.emit_to(&mut again));
                prop_assert_eq!(again, bytes);
            }
        }

        #[test]
        fn numbers_survive_their_names(number in any::<u16>(), code in any::<u8>()) {
            prop_assert_eq!(Protocol::from(number).number(), number);
            prop_assert_eq!(Code::from(code).number(), code);
        }
    }
}
