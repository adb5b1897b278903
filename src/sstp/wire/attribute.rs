//! The attributes of control messages. [MS-SSTP] 2.2.3 to 2.2.8.

use std::fmt;

const ATTRIBUTE_HEADER: usize = 4;
const LENGTH_MASK: u16 = 0x0FFF;
/// Of the client's value, a Nak carries at most this much back. [MS-SSTP] 2.2.8.
pub const MAX_ECHOED_VALUE: usize = 64;

/// The lengths of the attributes with their header.
const ENCAPSULATED_PROTOCOL_ID: u16 = 6;
const STATUS_INFO: u16 = 12;
const CRYPTO_BINDING: u16 = 104;
const CRYPTO_BINDING_REQUEST: u16 = 40;

/// [MS-SSTP] 2.2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributeId(pub u8);

impl AttributeId {
    /// No attribute at all, in a Status Info.
    pub const NO_ERROR: Self = Self(0);
    pub const ENCAPSULATED_PROTOCOL_ID: Self = Self(1);
    pub const STATUS_INFO: Self = Self(2);
    pub const CRYPTO_BINDING: Self = Self(3);
    pub const CRYPTO_BINDING_REQUEST: Self = Self(4);
}

/// [MS-SSTP] 2.2.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    pub const NO_ERROR: Self = Self(0x0);
    pub const DUPLICATE_ATTRIBUTE: Self = Self(0x1);
    pub const UNRECOGNIZED_ATTRIBUTE: Self = Self(0x2);
    pub const INVALID_ATTRIB_VALUE_LENGTH: Self = Self(0x3);
    pub const VALUE_NOT_SUPPORTED: Self = Self(0x4);
    pub const UNACCEPTED_FRAME_RECEIVED: Self = Self(0x5);
    pub const RETRY_COUNT_EXCEEDED: Self = Self(0x6);
    pub const INVALID_FRAME_RECEIVED: Self = Self(0x7);
    pub const NEGOTIATION_TIMEOUT: Self = Self(0x8);
    pub const ATTRIB_NOT_SUPPORTED_IN_MSG: Self = Self(0x9);
    pub const REQUIRED_ATTRIBUTE_MISSING: Self = Self(0xA);
    pub const STATUS_INFO_NOT_SUPPORTED_IN_MSG: Self = Self(0xB);

    const NAMES: [&str; 12] = [
        "no error",
        "duplicate attribute",
        "unrecognized attribute",
        "invalid length of an attribute's value",
        "value not supported",
        "unaccepted frame received",
        "retry count exceeded",
        "invalid frame received",
        "negotiation timeout",
        "attribute not supported in message",
        "required attribute missing",
        "status info not supported in message",
    ];
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = usize::try_from(self.0).ok().and_then(|number| Self::NAMES.get(number));
        write!(f, "status {:#x} ({})", self.0, name.unwrap_or(&"unknown"))
    }
}

/// Why a Nak, Abort or Disconnect was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusInfo<'a> {
    /// The attribute that the status is about.
    pub attribute: AttributeId,
    pub status: Status,
    value: &'a [u8],
}

impl<'a> StatusInfo<'a> {
    pub const NO_ERROR: Self = Self::new(AttributeId::NO_ERROR, Status::NO_ERROR);
    pub const INVALID_FRAME: Self = Self::new(AttributeId::STATUS_INFO, Status::INVALID_FRAME_RECEIVED);

    pub const fn new(attribute: AttributeId, status: Status) -> Self {
        Self { attribute, status, value: &[] }
    }

    /// With the beginning of the value that was refused: only a Nak has it.
    pub fn echoing(self, value: &'a [u8]) -> Self {
        Self { value: value.get(..MAX_ECHOED_VALUE).unwrap_or(value), ..self }
    }

    /// At most [`MAX_ECHOED_VALUE`] bytes.
    pub fn value(&self) -> &'a [u8] {
        self.value
    }
}

/// What the client proves in Call Connected, as received: nothing is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CryptoBinding {
    /// 1 is SHA-1, 2 is SHA-256.
    pub hash_protocol: u8,
    pub nonce: [u8; 32],
    /// A SHA-1 hash fills the first 20 bytes.
    pub certificate_hash: [u8; 32],
    /// A SHA-1 MAC fills the first 20 bytes.
    pub compound_mac: [u8; 32],
}

/// What the server asks the client to prove, in Call Connect Ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CryptoBindingRequest {
    /// Bit 0 is SHA-1, bit 1 is SHA-256.
    pub hash_bitmask: u8,
    pub nonce: [u8; 32],
}

/// One attribute as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    pub id: AttributeId,
    pub value: &'a [u8],
}

/// The attribute list does not agree with its lengths, or with the number of attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokenList {
    /// The attribute whose length is wrong; [`AttributeId::NO_ERROR`] when it is the list as a whole.
    pub id: AttributeId,
}

/// Walks the attribute list. After a [`BrokenList`] there is nothing more.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
    left: u16,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(list: &'a [u8], count: u16) -> Self {
        Self { rest: list, left: count }
    }

    fn broken(&mut self, id: AttributeId) -> Option<Result<RawAttribute<'a>, BrokenList>> {
        *self = Self { rest: &[], left: 0 };
        Some(Err(BrokenList { id }))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<RawAttribute<'a>, BrokenList>;

    fn next(&mut self) -> Option<Self::Item> {
        match (self.left.checked_sub(1), self.rest) {
            (None, []) => None,
            (Some(left), [_, id, high, low, ..]) => {
                let id = AttributeId(*id);
                let length = usize::from(u16::from_be_bytes([*high, *low]) & LENGTH_MASK);
                let Some((attribute, rest)) = self.rest.split_at_checked(length) else { return self.broken(id) };
                let Some(value) = attribute.get(ATTRIBUTE_HEADER..) else { return self.broken(id) };
                *self = Self { rest, left };
                Some(Ok(RawAttribute { id, value }))
            }
            (None, [_, ..]) | (Some(_), _) => self.broken(AttributeId::NO_ERROR),
        }
    }
}

/// What an attribute means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute<'a> {
    EncapsulatedProtocolId(u16),
    StatusInfo(StatusInfo<'a>),
    CryptoBinding(CryptoBinding),
    CryptoBindingRequest(CryptoBindingRequest),
}

/// Why an attribute means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaningless {
    UnknownId,
    /// The value has not the length that the identifier demands.
    Length,
}

impl<'a> Attribute<'a> {
    pub fn parse(RawAttribute { id, value }: RawAttribute<'a>) -> Result<Self, Meaningless> {
        let parsed = match id {
            AttributeId::ENCAPSULATED_PROTOCOL_ID => parse_protocol(value),
            AttributeId::STATUS_INFO => parse_status_info(value),
            AttributeId::CRYPTO_BINDING => parse_crypto_binding(value),
            AttributeId::CRYPTO_BINDING_REQUEST => parse_crypto_binding_request(value),
            AttributeId(_) => return Err(Meaningless::UnknownId),
        };
        parsed.ok_or(Meaningless::Length)
    }

    /// The length with the header.
    pub(super) fn length(&self) -> u16 {
        match self {
            Self::EncapsulatedProtocolId(_) => ENCAPSULATED_PROTOCOL_ID,
            Self::StatusInfo(status) => STATUS_INFO + status.value.len() as u16,
            Self::CryptoBinding(_) => CRYPTO_BINDING,
            Self::CryptoBindingRequest(_) => CRYPTO_BINDING_REQUEST,
        }
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let AttributeId(id) = self.id();
        out.extend([0, id]);
        out.extend(self.length().to_be_bytes());
        match self {
            Self::EncapsulatedProtocolId(protocol) => out.extend(protocol.to_be_bytes()),
            Self::StatusInfo(status) => {
                out.extend([0, 0, 0, status.attribute.0]);
                out.extend(status.status.0.to_be_bytes());
                out.extend(status.value);
            }
            Self::CryptoBinding(binding) => {
                out.extend([0, 0, 0, binding.hash_protocol]);
                out.extend(binding.nonce);
                out.extend(binding.certificate_hash);
                out.extend(binding.compound_mac);
            }
            Self::CryptoBindingRequest(request) => {
                out.extend([0, 0, 0, request.hash_bitmask]);
                out.extend(request.nonce);
            }
        }
    }

    fn id(&self) -> AttributeId {
        match self {
            Self::EncapsulatedProtocolId(_) => AttributeId::ENCAPSULATED_PROTOCOL_ID,
            Self::StatusInfo(_) => AttributeId::STATUS_INFO,
            Self::CryptoBinding(_) => AttributeId::CRYPTO_BINDING,
            Self::CryptoBindingRequest(_) => AttributeId::CRYPTO_BINDING_REQUEST,
        }
    }
}

fn parse_protocol(value: &[u8]) -> Option<Attribute<'_>> {
    let protocol = value.try_into().ok()?;
    Some(Attribute::EncapsulatedProtocolId(u16::from_be_bytes(protocol)))
}

fn parse_status_info(value: &[u8]) -> Option<Attribute<'_>> {
    let ([_, _, _, attribute, status @ ..], value) = value.split_first_chunk::<8>()?;
    let (attribute, status) = (AttributeId(*attribute), Status(u32::from_be_bytes(*status)));
    (value.len() <= MAX_ECHOED_VALUE).then_some(Attribute::StatusInfo(StatusInfo { attribute, status, value }))
}

fn parse_crypto_binding(value: &[u8]) -> Option<Attribute<'_>> {
    let ([_, _, _, hash_protocol], value) = value.split_first_chunk::<4>()?;
    let (nonce, value) = value.split_first_chunk::<32>()?;
    let (certificate_hash, compound_mac) = value.split_first_chunk::<32>()?;
    Some(Attribute::CryptoBinding(CryptoBinding {
        hash_protocol: *hash_protocol,
        nonce: *nonce,
        certificate_hash: *certificate_hash,
        compound_mac: compound_mac.try_into().ok()?,
    }))
}

fn parse_crypto_binding_request(value: &[u8]) -> Option<Attribute<'_>> {
    let ([_, _, _, hash_bitmask], nonce) = value.split_first_chunk::<4>()?;
    let (hash_bitmask, nonce) = (*hash_bitmask, nonce.try_into().ok()?);
    Some(Attribute::CryptoBindingRequest(CryptoBindingRequest { hash_bitmask, nonce }))
}
