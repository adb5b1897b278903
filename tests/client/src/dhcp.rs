//! DHCPINFORM as Windows sends it after IPCP (RFC 2131, MS-DHCPE 2.2), and the options of the answer.

use std::net::Ipv4Addr;

const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
/// BOOTP's fixed fields with the cookie.
const FIXED: usize = 240;

/// The UDP payload: 300 bytes, message type INFORM, the options that Windows asks for.
pub fn inform(address: Ipv4Addr, xid: u32) -> Vec<u8> {
    // op BOOTREQUEST, htype 8 hlen 6 as the RAS adapter, hops.
    let mut message = vec![1, 8, 6, 0];
    message.extend(xid.to_be_bytes());
    message.extend([0; 4]);
    message.extend(address.octets());
    message.extend([0; 12]);
    message.extend([0x00, 0x53, 0x45, 0x00, 0x00, 0x00]);
    message.resize(FIXED - COOKIE.len(), 0);
    message.extend(COOKIE);
    message.extend([53, 1, 8]);
    message.extend([61, 7, 8, 0x00, 0x53, 0x45, 0x00, 0x00, 0x00]);
    message.extend([60, 8]);
    message.extend(b"MSFT 5.0");
    message.extend([77, 14]);
    message.extend(b"RRAS.Microsoft");
    message.extend([55, 7, 6, 44, 43, 1, 249, 121, 15, 255]);
    message.resize(300, 0);
    message
}

/// Whether this is a DHCPACK with that transaction.
pub fn is_ack(message: &[u8], xid: u32) -> bool {
    message.first() == Some(&2) && message.get(4..8) == Some(&xid.to_be_bytes()) && option(message, 53) == Some(&[5])
}

/// The value of an option.
pub fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    if message.get(FIXED - COOKIE.len()..FIXED) != Some(&COOKIE) {
        return None;
    }
    let mut options = message.get(FIXED..)?;
    loop {
        options = match *options {
            [0, ref rest @ ..] => rest,
            [255, ..] | [_] | [] => return None,
            [code, length, ref rest @ ..] => {
                let (value, after) = rest.split_at_checked(usize::from(length))?;
                if code == wanted {
                    return Some(value);
                }
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_inform_is_that_of_windows() {
        let message = inform(Ipv4Addr::new(10, 99, 0, 42), 0x1234_5678);
        assert_eq!(message.len(), 300);
        assert_eq!(message[12..16], [10, 99, 0, 42]);
        assert_eq!(option(&message, 53), Some(&[8][..]));
        assert_eq!(option(&message, 60), Some(&b"MSFT 5.0"[..]));
        assert_eq!(option(&message, 77), Some(&b"RRAS.Microsoft"[..]));
        assert!(!is_ack(&message, 0x1234_5678));
    }

    #[test]
    fn an_answer_is_known_by_its_transaction() {
        let mut message = inform(Ipv4Addr::new(10, 99, 0, 42), 7);
        message[0] = 2;
        message[242] = 5;
        assert!(is_ack(&message, 7));
        assert!(!is_ack(&message, 8));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = option(&[vec![0; 236], COOKIE.to_vec(), bytes].concat(), 121);
        }
    }
}
