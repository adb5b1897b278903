//! The first bytes of a stranger: the HTTP head that opens a tunnel.

use wicketgate::sstp::http::{Head, MAX_HEAD, read_head};

/// A head does not depend on how its bytes were cut, and what is kept of it is bounded and printable.
pub(crate) fn head(bytes: &[u8]) {
    let whole = read_head(bytes);
    let Ok(Some((head, length))) = &whole else {
        let too_long = whole.is_err();
        assert_eq!(too_long, bytes.len() >= MAX_HEAD, "{} bytes without an end", bytes.len());
        return;
    };
    assert!((1..=bytes.len().min(MAX_HEAD)).contains(length));
    assert_eq!(read_head(&bytes[..*length]), whole, "what follows a head means nothing to it");
    for cut in [0, length / 3, length / 2, length - 1] {
        assert_eq!(read_head(&bytes[..cut]), Ok(None), "{cut} of {length} bytes are not a head");
    }
    match head {
        Head::Tunnel { correlation_id, host } => {
            for text in [correlation_id, host].into_iter().flatten() {
                assert!(text.len() <= 253 + 6 && text.chars().all(|c| c == '\t' || (' '..='~').contains(&c)));
            }
            assert!(correlation_id.as_ref().is_none_or(|id| id.len() <= 64 && !id.contains('\t')));
        }
        Head::HealthCheck | Head::NotFound | Head::Malformed(_) => {}
    }
}
