//! SSTP packets (MS-SSTP 2.2) as a client sends and hears them.
//!
//! Bytes go in, messages come out, and the other way round. Reading is strict on purpose: what some real client would
//! trip over (a reserved bit, an unmasked length) is an error here.

pub mod ppp;

/// Where the HTTP request goes.
pub const PATH: &str = "/sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/";
/// The body length that both HTTP heads name: 2^64 − 1.
pub const CONTENT_LENGTH: &str = "18446744073709551615";
/// The Length field has 12 bits.
pub const MAX_PACKET: usize = 4095;
/// Length of Call Connected; the MAC is its last 32 bytes.
pub const CALL_CONNECTED: usize = 112;
/// Where the compound MAC begins in Call Connected.
pub const COMPOUND_MAC: usize = 80;

/// What a server may not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("SSTP version {got:#04x}")]
    Version { got: u8 },
    #[error("reserved bits are set in the SSTP header")]
    Reserved,
    #[error("SSTP length {got}")]
    Length { got: usize },
    #[error("the attributes do not fill message type {message}")]
    Attributes { message: u16 },
    #[error("message type {message} is not for clients")]
    Message { message: u16 },
    #[error("attribute {attribute} in message type {message}")]
    Attribute { message: u16, attribute: u8 },
}

/// One SSTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// From the message type on.
    Control(&'a [u8]),
    /// A PPP frame.
    Data(&'a [u8]),
}

/// The length of the packet that begins here, once its header is complete.
pub fn packet_length(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    let [version, control, high, low, ..] = *bytes else { return Ok(None) };
    if version != 0x10 {
        return Err(Broken::Version { got: version });
    }
    if control > 1 || high & 0xF0 != 0 {
        return Err(Broken::Reserved);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < 4 + 4 * usize::from(control) {
        return Err(Broken::Length { got: length });
    }
    Ok(Some(length))
}

/// Takes the first packet off `bytes` when it is complete.
pub fn split(bytes: &[u8]) -> Result<Option<(Packet<'_>, &[u8])>, Broken> {
    let Some(length) = packet_length(bytes)? else { return Ok(None) };
    let Some((packet, rest)) = bytes.split_at_checked(length) else { return Ok(None) };
    Ok(match packet {
        [_, 0, _, _, frame @ ..] => Some((Packet::Data(frame), rest)),
        [_, _, _, _, message @ ..] => Some((Packet::Control(message), rest)),
        _ => None,
    })
}

/// Status Info (MS-SSTP 2.2.7) without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub attribute: u8,
    pub status: u32,
}

/// A control message as a server sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    CallConnectAck { hashes: u8, nonce: [u8; 32] },
    CallConnectNak(Vec<Status>),
    CallAbort(Option<Status>),
    CallDisconnect(Option<Status>),
    CallDisconnectAck,
    EchoRequest,
    EchoResponse,
}

impl Message {
    /// `message` is what [`Packet::Control`] holds.
    pub fn parse(message: &[u8]) -> Result<Self, Broken> {
        let [t1, t2, n1, n2, ref list @ ..] = *message else { return Err(Broken::Length { got: message.len() + 4 }) };
        let kind = u16::from_be_bytes([t1, t2]);
        let attributes = attributes(kind, u16::from_be_bytes([n1, n2]), list)?;
        match (kind, attributes.as_slice()) {
            (2, [(4, [0, 0, 0, hashes, nonce @ ..])]) => {
                let nonce = nonce.try_into().map_err(|_| Broken::Attribute { message: 2, attribute: 4 })?;
                Ok(Self::CallConnectAck { hashes: *hashes, nonce })
            }
            (3, [_, ..]) => Ok(Self::CallConnectNak(statuses(kind, &attributes)?)),
            (5, [] | [_]) => Ok(Self::CallAbort(statuses(kind, &attributes)?.pop())),
            (6, [] | [_]) => Ok(Self::CallDisconnect(statuses(kind, &attributes)?.pop())),
            (7, []) => Ok(Self::CallDisconnectAck),
            (8, []) => Ok(Self::EchoRequest),
            (9, []) => Ok(Self::EchoResponse),
            (2 | 3 | 5..=9, _) => Err(Broken::Attributes { message: kind }),
            (message, _) => Err(Broken::Message { message }),
        }
    }
}

fn attributes(message: u16, count: u16, mut list: &[u8]) -> Result<Vec<(u8, &[u8])>, Broken> {
    let broken = Broken::Attributes { message };
    let mut found = Vec::new();
    while let [reserved, id, high, low, ..] = *list {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (attribute, rest) = list.split_at_checked(length).ok_or(broken)?;
        let value = attribute.get(4..).ok_or(broken)?;
        if reserved != 0 || high & 0xF0 != 0 {
            return Err(broken);
        }
        found.push((id, value));
        list = rest;
    }
    if !list.is_empty() || found.len() != usize::from(count) {
        return Err(broken);
    }
    Ok(found)
}

fn statuses(message: u16, attributes: &[(u8, &[u8])]) -> Result<Vec<Status>, Broken> {
    attributes
        .iter()
        .map(|(id, value)| match (id, value) {
            (2, [0, 0, 0, attribute, a, b, c, d, rest @ ..])
                if rest.is_empty() || (message == 3 && rest.len() <= 64) =>
            {
                Ok(Status { attribute: *attribute, status: u32::from_be_bytes([*a, *b, *c, *d]) })
            }
            (attribute, _) => Err(Broken::Attribute { message, attribute: *attribute }),
        })
        .collect()
}

/// The head of the HTTP request, in the order of headers that each client has.
pub fn http_request(client: crate::ClientKind, host: &str, correlation: &[u8; 16]) -> String {
    let hex: String = correlation.iter().map(|byte| format!("{byte:02X}")).collect();
    let guid = format!("{{{}-{}-{}-{}-{}}}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    let line = format!("SSTP_DUPLEX_POST {PATH} HTTP/1.1\r\n");
    match client {
        crate::ClientKind::Windows => {
            format!("{line}SSTPCORRELATIONID: {guid}\r\nContent-Length: {CONTENT_LENGTH}\r\nHost: {host}\r\n\r\n")
        }
        // sstpc's id is no GUID: four groups.
        crate::ClientKind::Pppd => format!(
            "{line}Host: {host}\r\nContent-Length: {CONTENT_LENGTH}\r\nSSTPCORRELATIONID: {{{}-{}-{}-{}}}\r\n\r\n",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..24]
        ),
        crate::ClientKind::OpenSstp => {
            format!("{line}Content-Length: {CONTENT_LENGTH}\r\nHost: {host}\r\nSSTPCORRELATIONID: {guid}\r\n\r\n")
        }
    }
}

/// Call Connect Request; PPP is protocol 1.
pub fn call_connect_request(protocol: u16) -> [u8; 14] {
    let [high, low] = protocol.to_be_bytes();
    [0x10, 0x01, 0x00, 0x0E, 0x00, 0x01, 0x00, 0x01, 0x00, 0x01, 0x00, 0x06, high, low]
}

/// Call Connected with the MAC field zero.
pub fn call_connected(hash_protocol: u8, nonce: &[u8; 32], certificate_hash: &[u8; 32]) -> [u8; CALL_CONNECTED] {
    let mut message = [0; CALL_CONNECTED];
    message[..12].copy_from_slice(&[0x10, 0x01, 0x00, 0x70, 0x00, 0x04, 0x00, 0x01, 0x00, 0x03, 0x00, 0x68]);
    message[15] = hash_protocol;
    message[16..48].copy_from_slice(nonce);
    message[48..COMPOUND_MAC].copy_from_slice(certificate_hash);
    message
}

/// Call Abort (5) or Call Disconnect (6), with Status Info when there is one.
pub fn ending(message: u8, status: Option<Status>) -> Vec<u8> {
    let Some(Status { attribute, status }) = status else {
        return vec![0x10, 0x01, 0x00, 0x08, 0x00, message, 0x00, 0x00];
    };
    let mut bytes = vec![0x10, 0x01, 0x00, 0x14, 0x00, message, 0x00, 0x01];
    bytes.extend([0x00, 0x02, 0x00, 0x0C, 0x00, 0x00, 0x00, attribute]);
    bytes.extend(status.to_be_bytes());
    bytes
}

/// Call Disconnect Ack.
pub const CALL_DISCONNECT_ACK: [u8; 8] = [0x10, 0x01, 0x00, 0x08, 0x00, 0x07, 0x00, 0x00];
/// Echo Request.
pub const ECHO_REQUEST: [u8; 8] = [0x10, 0x01, 0x00, 0x08, 0x00, 0x08, 0x00, 0x00];
/// Echo Response.
pub const ECHO_RESPONSE: [u8; 8] = [0x10, 0x01, 0x00, 0x08, 0x00, 0x09, 0x00, 0x00];

/// Appends a data packet with this PPP frame, given with its address and control fields; `false` when it is too long.
pub fn push_data(out: &mut Vec<u8>, frame: &[u8]) -> bool {
    let Some(length) = data_length(frame.len()) else { return false };
    out.extend([0x10, 0x00]);
    out.extend(length.to_be_bytes());
    out.extend_from_slice(frame);
    true
}

/// Appends a data packet with `FF 03`, the protocol and the information; `false` when it is too long.
pub fn push_frame(out: &mut Vec<u8>, protocol: u16, information: &[u8]) -> bool {
    let Some(length) = data_length(information.len() + 4) else { return false };
    let [l1, l2] = length.to_be_bytes();
    let [p1, p2] = protocol.to_be_bytes();
    out.extend([0x10, 0x00, l1, l2, 0xFF, 0x03, p1, p2]);
    out.extend_from_slice(information);
    true
}

fn data_length(frame: usize) -> Option<u16> {
    u16::try_from(frame + 4).ok().filter(|&length| usize::from(length) <= MAX_PACKET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ack_is_read() {
        let mut bytes = vec![0x10, 0x01, 0x00, 0x30, 0x00, 0x02, 0x00, 0x01];
        // crypto binding request, SHA-256 and SHA-1
        bytes.extend([0x00, 0x04, 0x00, 0x28, 0x00, 0x00, 0x00, 0x03]);
        bytes.extend([7; 32]);
        bytes.push(0x10);
        let (packet, rest) = split(&bytes).unwrap().unwrap();
        assert_eq!(rest, [0x10]);
        let Packet::Control(message) = packet else { panic!("{packet:?}") };
        assert_eq!(Message::parse(message), Ok(Message::CallConnectAck { hashes: 3, nonce: [7; 32] }));
    }

    #[test]
    fn endings_are_read_as_written() {
        for status in [None, Some(Status { attribute: 3, status: 4 })] {
            let bytes = ending(5, status);
            assert_eq!(Message::parse(&bytes[4..]), Ok(Message::CallAbort(status)));
            let bytes = ending(6, status);
            assert_eq!(Message::parse(&bytes[4..]), Ok(Message::CallDisconnect(status)));
        }
    }

    #[test]
    fn what_real_clients_trip_over_is_refused() {
        assert_eq!(packet_length(&[0x11, 0, 0, 8]), Err(Broken::Version { got: 0x11 }));
        assert_eq!(packet_length(&[0x10, 2, 0, 8]), Err(Broken::Reserved));
        assert_eq!(packet_length(&[0x10, 1, 0x10, 8]), Err(Broken::Reserved));
        assert_eq!(packet_length(&[0x10, 1, 0, 7]), Err(Broken::Length { got: 7 }));
        assert_eq!(packet_length(&[0x10, 0, 0, 3]), Err(Broken::Length { got: 3 }));
        // A value in the Status Info of an abort.
        let abort = [0, 5, 0, 1, 0, 2, 0, 14, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0];
        assert_eq!(Message::parse(&abort), Err(Broken::Attribute { message: 5, attribute: 2 }));
        assert_eq!(Message::parse(&[0, 4, 0, 0]), Err(Broken::Message { message: 4 }));
        assert_eq!(Message::parse(&[0, 8, 0, 1]), Err(Broken::Attributes { message: 8 }));
    }

    #[test]
    fn the_request_of_sstpc_has_no_guid() {
        let head = http_request(crate::ClientKind::Pppd, "vpn.example.test", &[0xAB; 16]);
        assert!(head.ends_with("SSTPCORRELATIONID: {ABABABAB-ABAB-ABAB-ABABABAB}\r\n\r\n"), "{head}");
        let head = http_request(crate::ClientKind::Windows, "vpn.example.test", &[0xAB; 16]);
        assert!(head.starts_with("SSTP_DUPLEX_POST /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/ HTTP/1.1\r\n"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((Packet::Control(message), _))) = split(&bytes) {
                let _ = Message::parse(message);
            }
            let _ = Message::parse(&bytes);
        }

        #[test]
        fn frames_come_out_as_they_went_in(frame in prop::collection::vec(any::<u8>(), 0..4095)) {
            let mut out = Vec::new();
            if push_data(&mut out, &frame) {
                prop_assert_eq!(split(&out), Ok(Some((Packet::Data(&frame), &[][..]))));
            } else {
                prop_assert!(frame.len() > 4091);
            }
        }
    }
}
