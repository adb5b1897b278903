//! How people are named: by a folded name, or by an address that a token states.

/// The name by which a person is known here: `DOMAIN\` removed, ASCII letters in lower case.
///
/// `None` for what cannot be a user's name: empty, longer than [`MAX_NAME`], or with anything but graphic ASCII. As no
/// user has such a name, no folding of other scripts (where two letters may fold to one) can make two people equal.
pub fn fold(name: &[u8]) -> Option<String> {
    let bare = name.rsplit(|&byte| byte == b'\\').next()?;
    let fits = (1..=MAX_NAME).contains(&bare.len()) && bare.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(bare).ok().filter(|_| fits)?;
    Some(text.to_ascii_lowercase())
}

/// The longest name of a user: PAP and EAP can carry 255 bytes, Windows' UPNs stay far below this.
pub const MAX_NAME: usize = 128;

/// Whether an e-mail address has one reading: ASCII, one `@`, no internationalised label, and nothing that folding would
/// take for a domain, or a mail server for a quoted name.
pub fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let plain = |label: &str| {
        let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !label.is_empty() && letters && !label.to_ascii_lowercase().starts_with("xn--")
    };
    let graphic = !local.is_empty() && local.bytes().all(|byte| byte.is_ascii_graphic());
    graphic && !local.contains(['\\', '"']) && domain.split('.').all(plain)
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn names_lose_their_domain_and_their_case() {
        for (written, folded) in [
            (&b"alice"[..], Some("alice")),
            (b"Alice", Some("alice")),
            (b"CORP\\Alice", Some("alice")),
            (b"A\\B\\Alice", Some("alice")),
            (b"Alice@Corp.Example", Some("alice@corp.example")),
            (b"", None),
            (b"CORP\\", None),
            (b"al ice", None),
            (b"alice\0", None),
            ("al\u{131}ce".as_bytes(), None),
            ("\u{212a}elvin".as_bytes(), None),
            (b"\xff\xfe", None),
            (&[b'a'; 129], None),
        ] {
            assert_eq!(fold(written).as_deref(), folded, "{}", written.escape_ascii());
        }
    }
}
