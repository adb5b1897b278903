//! SSTP packets, control messages and attributes as bytes. [MS-SSTP] 2.2.
//!
//! Two levels. [`Packet`] and [`Control`] are checked views: they borrow the bytes as received, which are whole.
//! [`Message`] is what a control packet means; it is made from the view by `parse` and made into bytes by `emit`.
//! All integers are big-endian. Reserved bits are sent as zero and ignored on receipt.

use std::fmt;

mod attribute;

pub use attribute::{
    Attribute, AttributeId, Attributes, BrokenList, CryptoBinding, CryptoBindingRequest, MAX_ECHOED_VALUE, Meaningless,
    RawAttribute, Status, StatusInfo,
};

/// The header of every packet, and all that a data packet adds to its frame. [MS-SSTP] 2.2.1.
pub const DATA_HEADER: usize = 4;
/// The header of a control packet: message type and number of attributes follow the common one.
pub const CONTROL_HEADER: usize = 8;
/// The longest packet: its length has 12 bits.
pub const MAX_PACKET: usize = 4095;
/// The longest PPP frame that a packet can carry.
pub const MAX_FRAME: usize = MAX_PACKET - DATA_HEADER;
/// A Call Connected has exactly this length; its compound MAC is the last 32 bytes.
pub const CALL_CONNECTED: usize = 112;

/// Major version 1, minor version 0.
const VERSION: u8 = 0x10;
const DATA: u8 = 0x00;
const CONTROL: u8 = 0x01;
/// The upper 4 bits of a length are reserved.
const LENGTH_MASK: u16 = 0x0FFF;
/// The encapsulated protocol that we know: PPP.
const PPP: u16 = 1;

/// The header to put in front of a PPP frame of `payload` bytes. `None`: no packet can carry so long a frame.
pub fn data_header(payload: usize) -> Option<[u8; DATA_HEADER]> {
    let length = u16::try_from(payload).ok().filter(|_| payload <= MAX_FRAME)? + DATA_HEADER as u16;
    let [high, low] = length.to_be_bytes();
    Some([VERSION, DATA, high, low])
}

/// The stream cannot be cut into packets any more. [MS-SSTP] 3.1.5.1: close it without a Call Abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("SSTP version {got:#04x}, expected {expected:#04x}")]
    Version { expected: u8, got: u8 },
    #[error("length {got} of an SSTP packet, expected at least {expected}")]
    Length { expected: usize, got: usize },
}

/// One packet as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    Control(Control<'a>),
    /// One PPP frame; it may be empty.
    Data(&'a [u8]),
}

impl<'a> Packet<'a> {
    /// Takes one packet off the front. `Ok(None)`: it is not complete. Otherwise its length, and the packet.
    pub fn split(input: &'a [u8]) -> Result<Option<(usize, Self)>, Error> {
        if let [version, ..] = *input
            && version != VERSION
        {
            return Err(Error::Version { expected: VERSION, got: version });
        }
        let [_, kind, high, low, ..] = *input else { return Ok(None) };
        let is_control = kind & CONTROL == CONTROL;
        let expected = if is_control { CONTROL_HEADER } else { DATA_HEADER };
        let length = usize::from(u16::from_be_bytes([high, low]) & LENGTH_MASK);
        if length < expected {
            return Err(Error::Length { expected, got: length });
        }
        let Some(bytes) = input.get(..length) else { return Ok(None) };
        let packet =
            if is_control { Control::new(bytes).map(Self::Control) } else { bytes.get(DATA_HEADER..).map(Self::Data) };
        Ok(packet.map(|packet| (length, packet)))
    }
}

/// A control packet as received: the header is whole, the attributes are not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control<'a> {
    bytes: &'a [u8],
    message_type: u16,
    attribute_count: u16,
}

impl<'a> Control<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let [_, _, _, _, type_high, type_low, count_high, count_low, ..] = *bytes else { return None };
        Some(Self {
            bytes,
            message_type: u16::from_be_bytes([type_high, type_low]),
            attribute_count: u16::from_be_bytes([count_high, count_low]),
        })
    }

    /// The whole packet, as received.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// `Err`: the number of a message that is not known.
    pub fn message_type(&self) -> Result<MessageType, u16> {
        MessageType::try_from(self.message_type)
    }

    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.bytes.get(CONTROL_HEADER..).unwrap_or_default(), self.attribute_count)
    }
}

/// [MS-SSTP] 2.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    CallConnectRequest = 1,
    CallConnectAck = 2,
    CallConnectNak = 3,
    CallConnected = 4,
    CallAbort = 5,
    CallDisconnect = 6,
    CallDisconnectAck = 7,
    EchoRequest = 8,
    EchoResponse = 9,
}

impl TryFrom<u16> for MessageType {
    type Error = u16;

    fn try_from(number: u16) -> Result<Self, u16> {
        Ok(match number {
            1 => Self::CallConnectRequest,
            2 => Self::CallConnectAck,
            3 => Self::CallConnectNak,
            4 => Self::CallConnected,
            5 => Self::CallAbort,
            6 => Self::CallDisconnect,
            7 => Self::CallDisconnectAck,
            8 => Self::EchoRequest,
            9 => Self::EchoResponse,
            unknown => return Err(unknown),
        })
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CallConnectRequest => "Call Connect Request",
            Self::CallConnectAck => "Call Connect Ack",
            Self::CallConnectNak => "Call Connect Nak",
            Self::CallConnected => "Call Connected",
            Self::CallAbort => "Call Abort",
            Self::CallDisconnect => "Call Disconnect",
            Self::CallDisconnectAck => "Call Disconnect Ack",
            Self::EchoRequest => "Echo Request",
            Self::EchoResponse => "Echo Response",
        })
    }
}

/// What a control packet means. No message has more than one attribute that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// The encapsulated protocol is PPP: there is no other.
    CallConnectRequest,
    CallConnectAck(CryptoBindingRequest),
    CallConnectNak(StatusInfo<'a>),
    CallConnected(CryptoBinding),
    CallAbort(Option<StatusInfo<'a>>),
    CallDisconnect(Option<StatusInfo<'a>>),
    CallDisconnectAck,
    EchoRequest,
    EchoResponse,
}

/// Why a control packet has no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault<'a> {
    UnknownMessage {
        got: u16,
    },
    /// The message is known; `complaint` is what a Nak or an Abort says about its attributes.
    Attributes {
        message: MessageType,
        complaint: StatusInfo<'a>,
    },
}

impl<'a> Message<'a> {
    pub fn parse(control: Control<'a>) -> Result<Self, Fault<'a>> {
        let message = control.message_type().map_err(|got| Fault::UnknownMessage { got })?;
        let parsed = match message {
            MessageType::CallConnectRequest => parse_call_connect_request(control),
            MessageType::CallConnectAck => parse_call_connect_ack(control),
            MessageType::CallConnectNak => first_status(control)
                .and_then(|status| status.ok_or(StatusInfo::INVALID_FRAME))
                .map(Self::CallConnectNak),
            MessageType::CallConnected => parse_call_connected(control),
            MessageType::CallAbort => first_status(control).map(Self::CallAbort),
            MessageType::CallDisconnect => first_status(control).map(Self::CallDisconnect),
            MessageType::CallDisconnectAck => readable(control).map(|()| Self::CallDisconnectAck),
            MessageType::EchoRequest => readable(control).map(|()| Self::EchoRequest),
            MessageType::EchoResponse => readable(control).map(|()| Self::EchoResponse),
        };
        parsed.map_err(|complaint| Fault::Attributes { message, complaint })
    }

    /// Appends the packet to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let attribute = self.attribute();
        let attributes_length = attribute.map_or(0, |attribute| attribute.length());
        out.extend([VERSION, CONTROL]);
        out.extend((CONTROL_HEADER as u16 + attributes_length).to_be_bytes());
        out.extend((self.message_type() as u16).to_be_bytes());
        out.extend(u16::from(attribute.is_some()).to_be_bytes());
        if let Some(attribute) = attribute {
            attribute.emit(out);
        }
    }

    pub fn message_type(&self) -> MessageType {
        match self {
            Self::CallConnectRequest => MessageType::CallConnectRequest,
            Self::CallConnectAck(_) => MessageType::CallConnectAck,
            Self::CallConnectNak(_) => MessageType::CallConnectNak,
            Self::CallConnected(_) => MessageType::CallConnected,
            Self::CallAbort(_) => MessageType::CallAbort,
            Self::CallDisconnect(_) => MessageType::CallDisconnect,
            Self::CallDisconnectAck => MessageType::CallDisconnectAck,
            Self::EchoRequest => MessageType::EchoRequest,
            Self::EchoResponse => MessageType::EchoResponse,
        }
    }

    fn attribute(&self) -> Option<Attribute<'a>> {
        match self {
            Self::CallConnectRequest => Some(Attribute::EncapsulatedProtocolId(PPP)),
            Self::CallConnectAck(request) => Some(Attribute::CryptoBindingRequest(*request)),
            Self::CallConnectNak(status) => Some(Attribute::StatusInfo(*status)),
            Self::CallConnected(binding) => Some(Attribute::CryptoBinding(*binding)),
            Self::CallAbort(status) | Self::CallDisconnect(status) => status.map(Attribute::StatusInfo),
            Self::CallDisconnectAck | Self::EchoRequest | Self::EchoResponse => None,
        }
    }
}

/// [MS-SSTP] 3.3.5.2.2. Of several things that are wrong the first is answered.
fn parse_call_connect_request(control: Control<'_>) -> Result<Message<'_>, StatusInfo<'_>> {
    let mut has_protocol = false;
    for attribute in control.attributes() {
        let RawAttribute { id, value } =
            attribute.map_err(|broken| StatusInfo::new(broken.id, Status::INVALID_ATTRIB_VALUE_LENGTH))?;
        match Attribute::parse(RawAttribute { id, value }) {
            Ok(Attribute::EncapsulatedProtocolId(_)) if has_protocol => {
                return Err(StatusInfo::new(id, Status::DUPLICATE_ATTRIBUTE));
            }
            Ok(Attribute::EncapsulatedProtocolId(PPP)) => has_protocol = true,
            Ok(Attribute::EncapsulatedProtocolId(_)) => {
                return Err(StatusInfo::new(id, Status::VALUE_NOT_SUPPORTED).echoing(value));
            }
            Ok(Attribute::StatusInfo(status)) if status.status == Status::NO_ERROR => {}
            Ok(Attribute::StatusInfo(_)) => {
                return Err(StatusInfo::new(id, Status::STATUS_INFO_NOT_SUPPORTED_IN_MSG));
            }
            Ok(Attribute::CryptoBinding(_) | Attribute::CryptoBindingRequest(_)) | Err(Meaningless::UnknownId) => {
                return Err(StatusInfo::new(id, Status::UNRECOGNIZED_ATTRIBUTE));
            }
            Err(Meaningless::Length) => {
                return Err(StatusInfo::new(id, Status::INVALID_ATTRIB_VALUE_LENGTH).echoing(value));
            }
        }
    }
    // 3.3.5.2.2 wants the identifier of Status Info here, although nothing is wrong with one.
    let missing = StatusInfo::new(AttributeId::STATUS_INFO, Status::REQUIRED_ATTRIBUTE_MISSING);
    has_protocol.then_some(Message::CallConnectRequest).ok_or(missing)
}

fn parse_call_connect_ack(control: Control<'_>) -> Result<Message<'_>, StatusInfo<'_>> {
    let Some(Attribute::CryptoBindingRequest(request)) = only_attribute(control) else {
        return Err(StatusInfo::INVALID_FRAME);
    };
    Ok(Message::CallConnectAck(request))
}

/// [MS-SSTP] 3.3.5.2.3: exactly a crypto binding, or status 9.
fn parse_call_connected(control: Control<'_>) -> Result<Message<'_>, StatusInfo<'_>> {
    let Some(Attribute::CryptoBinding(binding)) = only_attribute(control) else {
        return Err(StatusInfo::new(AttributeId::STATUS_INFO, Status::ATTRIB_NOT_SUPPORTED_IN_MSG));
    };
    Ok(Message::CallConnected(binding))
}

/// `None`: there is none, there are several, or it means nothing.
fn only_attribute(control: Control<'_>) -> Option<Attribute<'_>> {
    let mut attributes = control.attributes();
    let only = attributes.next()?.ok()?;
    if attributes.next().is_some() {
        return None;
    }
    Attribute::parse(only).ok()
}

/// The first Status Info, if there is one. Unknown attributes are ignored.
fn first_status(control: Control<'_>) -> Result<Option<StatusInfo<'_>>, StatusInfo<'_>> {
    let mut first = None;
    for attribute in control.attributes() {
        match attribute.map(Attribute::parse) {
            Ok(Ok(Attribute::StatusInfo(status))) => first = first.or(Some(status)),
            Ok(
                Ok(
                    Attribute::EncapsulatedProtocolId(_)
                    | Attribute::CryptoBinding(_)
                    | Attribute::CryptoBindingRequest(_),
                )
                | Err(Meaningless::UnknownId),
            ) => {}
            Ok(Err(Meaningless::Length)) | Err(BrokenList { .. }) => return Err(StatusInfo::INVALID_FRAME),
        }
    }
    Ok(first)
}

/// A message without attributes: what is there may be anything that has the form of a list.
fn readable(control: Control<'_>) -> Result<(), StatusInfo<'_>> {
    if control.attributes().all(|attribute| attribute.is_ok()) { Ok(()) } else { Err(StatusInfo::INVALID_FRAME) }
}

#[cfg(test)]
mod tests;
