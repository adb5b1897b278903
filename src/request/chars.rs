//! The character classes of RFC 3986, one table lookup a byte.

/// A character that a path may hold as it is: `pchar` without `;`, and `/` (RFC 3986 section 3.3).
const PATH: u8 = 1;
/// A character that a query may hold as it is: `pchar`, `/`, `?`, and what browsers leave unencoded there.
const QUERY: u8 = 2;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 128 {
        let byte = at as u8;
        let alphanumeric = byte.is_ascii_alphanumeric();
        if alphanumeric || is_one_of(byte, b"-._~!$&'()*+,=:@/") {
            table[at] |= PATH;
        }
        if alphanumeric || is_one_of(byte, b"-._~!$&'()*+,;=:@/?[]{}|^`") {
            table[at] |= QUERY;
        }
        at += 1;
    }
    table
}

const fn is_one_of(byte: u8, set: &[u8]) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Whether every byte is of the class. The loop has no early exit: what is long is seldom wrong.
fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().fold(class, |common, &byte| common & CLASSES[usize::from(byte)]) != 0
}

pub(super) fn is_path(byte: u8) -> bool {
    is(byte, PATH)
}

pub(super) fn is_query(byte: u8) -> bool {
    is(byte, QUERY)
}

/// Whether a path or a query needs no second look at its bytes.
pub(super) fn is_plain_path(bytes: &[u8]) -> bool {
    all(bytes, PATH)
}

pub(super) fn is_plain_query(bytes: &[u8]) -> bool {
    all(bytes, QUERY)
}

/// A control character, which no encoding makes acceptable in a path.
pub(super) fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The byte which the triplet at the beginning of `bytes` stands for.
pub(super) fn triplet(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// A triplet in its canonical spelling: upper-case hexadecimal.
pub(super) fn push_triplet(text: &mut String, byte: u8) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    text.push('%');
    text.push(DIGITS[usize::from(byte >> 4)]);
    text.push(DIGITS[usize::from(byte & 15)]);
}
