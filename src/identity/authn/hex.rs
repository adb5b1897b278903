//! Bytes as lower-case hexadecimal digits.

use zeroize::Zeroizing;

/// Two digits for each byte.
pub(super) fn encode(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS[usize::from(nibble & 0x0f)];
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte)]).collect()
}

/// Exactly `N` bytes.
pub(super) fn decode<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    if text.len() != N.checked_mul(2)? {
        return None;
    }
    let mut bytes = Zeroizing::new([0; N]);
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| pair.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        assert_eq!(encode(&[0x00, 0x9f, 0xff]), "009fff");
        assert_eq!(*decode::<3>("009FfF").unwrap(), [0x00, 0x9f, 0xff]);
        for text in ["", "009f", "009fff0", "009fff00", "009ff ", "+09fff", "009fg0", "\u{e9}\u{e9}\u{e9}"] {
            assert!(decode::<3>(text).is_none(), "{text:?}");
        }
    }
}
