//! The host that a request names: in goes a Host value or an authority, out comes a DNS name (RFC 9110 section 4.2).

use super::Malformed;

/// The longest name and the longest label (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Reads `name[:port]`: the name in lower case, without its trailing dot; a port must be the one that was dialled.
pub(super) fn read(value: &[u8], port: u16) -> Result<Box<str>, Malformed> {
    let name = if is_plain(value) { value } else { strip_port(value, port)? };
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.len() > MAX_NAME || !name.split(|&byte| byte == b'.').all(is_label) {
        return Err(Malformed::HostSyntax);
    }
    if name.rsplit(|&byte| byte == b'.').next().is_some_and(ends_in_number) {
        return Err(Malformed::IpLiteral);
    }
    // Only letters, digits, hyphens and dots are left.
    let mut name: Box<str> = std::str::from_utf8(name).map_err(|_| Malformed::HostSyntax)?.into();
    name.make_ascii_lowercase();
    Ok(name)
}

/// Whether there is nothing but what a name consists of.
fn is_plain(value: &[u8]) -> bool {
    value.iter().fold(true, |all, &byte| all & (byte.is_ascii_alphanumeric() | (byte == b'-') | (byte == b'.')))
}

/// The name before a port, which is the one that was dialled.
fn strip_port(value: &[u8], port: u16) -> Result<&[u8], Malformed> {
    if value.contains(&b'@') {
        return Err(Malformed::UserInfo);
    }
    if value.first() == Some(&b'[') {
        return Err(Malformed::IpLiteral);
    }
    let colon = value.iter().position(|&byte| byte == b':').ok_or(Malformed::HostSyntax)?;
    let got = read_port(&value[colon + 1..]).ok_or(Malformed::HostSyntax)?;
    if got != port {
        return Err(Malformed::PortDiffers { expected: port, got });
    }
    let name = &value[..colon];
    if is_plain(name) { Ok(name) } else { Err(Malformed::HostSyntax) }
}

/// Whether a part of what is plain is a label, with hyphens only between other characters: the A-label syntax of RFC 5890
/// section 2.3.1.
fn is_label(part: &[u8]) -> bool {
    (1..=MAX_LABEL).contains(&part.len()) && part.first() != Some(&b'-') && part.last() != Some(&b'-')
}

/// Whether a name with this last label is an IPv4 address in one of its many spellings.
fn ends_in_number(last: &[u8]) -> bool {
    match last {
        [b'0', b'x' | b'X', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        digits => digits.iter().all(u8::is_ascii_digit),
    }
}

/// A port without sign and leading zero, so that it has one spelling.
fn read_port(digits: &[u8]) -> Option<u16> {
    if digits.first() == Some(&b'0') || digits.is_empty() || digits.len() > 5 {
        return None;
    }
    digits.iter().try_fold(0u16, |port, &byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    })
}
