//! DNS messages (RFC 1035 4) as a stub resolver needs them.

use std::net::Ipv4Addr;

/// Query types.
pub const A: u16 = 1;
pub const AAAA: u16 = 28;

/// The answer to one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    Addresses(Vec<Ipv4Addr>),
    /// The name exists, but has no address.
    NoData,
    NxDomain,
    Refused,
    /// Any other response code.
    Failed(u8),
}

/// A recursive query for one name. Labels longer than 63 bytes are cut.
pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    // Flags: RD; one question.
    message.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        let bytes = label.as_bytes();
        let length = bytes.len().min(63);
        message.push(length as u8);
        message.extend(bytes.iter().take(length));
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// Reads the response to `query`; `None` when it is none, is truncated, or is malformed.
pub fn parse(query: &[u8], response: &[u8]) -> Option<Resolved> {
    let &[i1, i2, f1, f2, 0, 1, a1, a2, _, _, _, _, ref rest @ ..] = response else { return None };
    let question = query.get(12..)?;
    let records = rest.strip_prefix(question)?;
    // QR set, opcode 0, not truncated, and the id and RD of the question.
    if query.get(..2)? != [i1, i2] || f1 & 0xFA != 0x80 || f1 & 1 != query.get(2)? & 1 {
        return None;
    }
    let addresses = answers(records, u16::from_be_bytes([a1, a2]))?;
    Some(match f2 & 0x0F {
        0 if addresses.is_empty() => Resolved::NoData,
        0 => Resolved::Addresses(addresses),
        3 => Resolved::NxDomain,
        5 => Resolved::Refused,
        code => Resolved::Failed(code),
    })
}

fn answers(mut records: &[u8], count: u16) -> Option<Vec<Ipv4Addr>> {
    let mut addresses = Vec::new();
    for _ in 0..count {
        let &[t1, t2, 0, 1, _, _, _, _, l1, l2, ref rest @ ..] = skip_name(records)? else { return None };
        let (data, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([l1, l2])))?;
        if u16::from_be_bytes([t1, t2]) == A {
            addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?));
        }
        records = after;
    }
    Some(addresses)
}

fn skip_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        bytes = match *bytes {
            [0, ref rest @ ..] | [0xC0..=0xFF, _, ref rest @ ..] => return Some(rest),
            [length @ 1..=63, ref rest @ ..] => rest.get(usize::from(length)..)?,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn response(code: u8, answers: &[[u8; 4]]) -> Vec<u8> {
        let mut message = query(7, "orders.api.corp.example", A);
        message[2..4].copy_from_slice(&[0x85, 0x80 | code]);
        message[7] = answers.len() as u8;
        for address in answers {
            // name by pointer, type A, class IN, TTL 30, 4 bytes
            message.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4]);
            message.extend(address);
        }
        message
    }

    #[test]
    fn each_kind_of_answer_is_told_apart() {
        let asked = query(7, "orders.api.corp.example.", A);
        let address = Ipv4Addr::new(198, 18, 7, 130);
        assert_eq!(parse(&asked, &response(0, &[address.octets()])), Some(Resolved::Addresses(vec![address])));
        assert_eq!(parse(&asked, &response(0, &[])), Some(Resolved::NoData));
        assert_eq!(parse(&asked, &response(3, &[])), Some(Resolved::NxDomain));
        assert_eq!(parse(&asked, &response(5, &[])), Some(Resolved::Refused));
        assert_eq!(parse(&asked, &response(2, &[])), Some(Resolved::Failed(2)));
    }

    #[test]
    fn the_answer_to_another_question_is_none() {
        let answer = response(0, &[[198, 18, 7, 130]]);
        assert_eq!(parse(&query(8, "orders.api.corp.example", A), &answer), None);
        assert_eq!(parse(&query(7, "other.api.corp.example", A), &answer), None);
        assert_eq!(parse(&query(7, "orders.api.corp.example", AAAA), &answer), None);
        assert_eq!(parse(&query(7, "orders.api.corp.example", A), &answer[..answer.len() - 1]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let asked = query(7, "a.example", A);
            let _ = parse(&asked, &bytes);
            let _ = parse(&asked, &[&asked[..], &bytes[..]].concat());
        }
    }
}
