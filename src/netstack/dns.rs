//! The resolver of one session: it knows the hosts that are visible to this person, and nothing else.
//!
//! In comes a DNS message (RFC 1035), out goes the answer, or nothing if the message cannot be answered. What is hidden
//! and what does not exist take the same path and give the same bytes. At or below the suffix that is NXDOMAIN; for
//! other names it is REFUSED, so that the laptop asks its next resolver. Negative answers carry no SOA record, hence no
//! resolver keeps them (RFC 2308, section 5), and a grant is seen at once.

use std::net::Ipv4Addr;

use super::Host;

/// Longest query that is read over TCP: a name of 255 bytes with room for the options of EDNS.
pub(super) const LARGEST_QUERY: usize = 512;
/// Header (12), question (259), one address (16) and OPT (11) are 298 bytes; every resolver takes 512 (RFC 1035,
/// section 4.2.1), so that nothing is ever truncated.
pub(super) const LARGEST_ANSWER: usize = 512;

/// Seconds that an answer may be kept: what a revoked host may linger on a laptop.
const TTL: u32 = 30;
/// The label below the suffix that is kept for the portal.
const PORTAL: &[u8] = b"access";
/// What we can receive in one datagram (RFC 6891, section 6.2.3): the size that resolvers agreed on.
const UDP_PAYLOAD: u16 = 1232;
/// The longest name on the wire (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 255;
/// The longest label; the two bits above mark a compression pointer (RFC 1035, section 4.1.4).
const LONGEST_LABEL: u8 = 63;

const TYPE_A: u16 = 1;
const TYPE_OPT: u16 = 41;
const TYPE_IXFR: u16 = 251;
const TYPE_AXFR: u16 = 252;
const CLASS_IN: u16 = 1;

/// The names of one session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zone<'a> {
    pub(super) suffix: &'a str,
    pub(super) hosts: &'a [Host],
}

/// What a question comes to. The numbers are those of RFC 1035, section 4.1.1, and RFC 6891, section 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Address(Ipv4Addr),
    /// The name exists, with nothing of this type.
    NoData,
    FormErr,
    NxDomain,
    NotImp,
    Refused,
    BadVers,
}

impl Outcome {
    fn rcode(self) -> u8 {
        match self {
            Self::Address(_) | Self::NoData => 0,
            Self::FormErr => 1,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::BadVers => 16,
        }
    }

    /// AA: these names are ours to know.
    fn is_authoritative(self) -> bool {
        match self {
            Self::Address(_) | Self::NoData | Self::NxDomain => true,
            Self::FormErr | Self::NotImp | Self::Refused | Self::BadVers => false,
        }
    }
}

/// Answers `message` into `out`; the length of the answer, or `None` for what is no query at all.
pub(super) fn answer(message: &[u8], zone: Zone<'_>, out: &mut [u8; LARGEST_ANSWER]) -> Option<usize> {
    let (header, rest) = Header::parse(message)?;
    if header.opcode() != 0 {
        return header.write(Outcome::NotImp, None, out);
    }
    let Some(query) = Query::parse(&header, rest) else {
        return header.write(Outcome::FormErr, None, out);
    };
    let outcome = match query.edns {
        Some(Edns { version: 1.., .. }) => Outcome::BadVers,
        Some(_) | None => zone.resolve(&query),
    };
    header.write(outcome, Some(&query), out)
}

impl Zone<'_> {
    fn resolve(&self, query: &Query<'_>) -> Outcome {
        if query.class != CLASS_IN || matches!(query.kind, TYPE_IXFR | TYPE_AXFR) {
            return Outcome::Refused;
        }
        let name = Text::of(query.name);
        let name = name.as_bytes();
        // The labels in front of the suffix, when the name is at or below it.
        let ours = match name.strip_suffix(self.suffix.as_bytes()) {
            _ if self.suffix.is_empty() => None,
            Some([]) => Some(&[][..]),
            Some([above @ .., b'.']) => Some(above),
            Some(_) | None => None,
        };
        if ours == Some(PORTAL) {
            return Outcome::NxDomain;
        }
        match (self.find(name), ours) {
            (Some(address), _) if query.kind == TYPE_A => Outcome::Address(address),
            (Some(_), _) => Outcome::NoData,
            // The suffix is treated like every other name: it exists if something visible is below it.
            (None, Some(_)) if self.hosts.iter().any(|host| is_above(name, host.name.as_bytes())) => Outcome::NoData,
            (None, Some(_)) => Outcome::NxDomain,
            (None, None) => Outcome::Refused,
        }
    }

    /// A host of this very name, else a wildcard host one label above it.
    fn find(&self, name: &[u8]) -> Option<Ipv4Addr> {
        let exact = self.hosts.iter().find(|host| host.name.as_bytes() == name);
        let wildcard = || {
            let dot = name.iter().position(|byte| *byte == b'.')?;
            let parent = name.get(dot..)?;
            self.hosts.iter().find(|host| host.name.as_bytes().strip_prefix(b"*") == Some(parent))
        };
        exact.or_else(wildcard).map(|host| host.address)
    }
}

/// Whether `host` lies strictly below this name.
fn is_above(name: &[u8], host: &[u8]) -> bool {
    host.strip_suffix(name).is_some_and(|above| above.ends_with(b"."))
}

/// A name as hosts are written: labels with dots between them, in lower case. A person may see hundreds of hosts and ask
/// hundreds of times a second, so each query is brought to this form once, and each host costs one comparison, which
/// mostly ends at the length.
struct Text {
    bytes: [u8; LONGEST_NAME],
    len: usize,
}

impl Text {
    fn of(name: Name<'_>) -> Self {
        let mut text = Self { bytes: [0; LONGEST_NAME], len: 0 };
        for label in name.labels() {
            if text.len > 0 {
                text.put(b'.');
            }
            for byte in label {
                // A dot inside a label separates nothing; no host has a zero in its place.
                text.put(if *byte == b'.' { 0 } else { byte.to_ascii_lowercase() });
            }
        }
        text
    }

    /// A name on the wire is at most [`LONGEST_NAME`], two bytes longer than its text.
    fn put(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The header of the query (RFC 1035, section 4.1.1).
struct Header {
    id: [u8; 2],
    flags: u8,
    /// Questions, answers, authorities, additional records.
    counts: [u16; 4],
}

impl Header {
    /// `None` for what is too short, and for answers: an answer to an answer could go on for ever.
    fn parse(message: &[u8]) -> Option<(Self, &[u8])> {
        let (&[i0, i1, flags, _, q0, q1, n0, n1, a0, a1, d0, d1], rest) = message.split_first_chunk::<12>()?;
        let counts = [[q0, q1], [n0, n1], [a0, a1], [d0, d1]].map(u16::from_be_bytes);
        (flags & 0x80 == 0).then_some((Self { id: [i0, i1], flags, counts }, rest))
    }

    fn opcode(&self) -> u8 {
        (self.flags >> 3) & 0x0F
    }

    fn write(&self, outcome: Outcome, query: Option<&Query<'_>>, out: &mut [u8; LARGEST_ANSWER]) -> Option<usize> {
        let mut answer = Answer { bytes: out, len: 0 };
        let aa = if outcome.is_authoritative() { 0x04 } else { 0 };
        let address = match outcome {
            Outcome::Address(address) => Some(address),
            Outcome::NoData
            | Outcome::FormErr
            | Outcome::NxDomain
            | Outcome::NotImp
            | Outcome::Refused
            | Outcome::BadVers => None,
        };
        let edns = query.and_then(|query| query.edns.as_ref());
        answer.put(&self.id)?;
        // QR, opcode and RD as asked, AA; RA, for some stub resolvers turn away from a server that does not offer it.
        answer.put(&[0x80 | (self.flags & 0x79) | aa, 0x80 | (outcome.rcode() & 0x0F)])?;
        answer.count(query.is_some())?;
        answer.count(address.is_some())?;
        answer.count(false)?;
        answer.count(edns.is_some())?;
        if let Some(query) = query {
            // As it came, so that the case of the letters, which some resolvers use as a cookie, comes back.
            answer.put(query.question)?;
        }
        if let Some(address) = address {
            // The name at offset 12.
            answer.put(&[0xC0, 0x0C])?;
            answer.put(&TYPE_A.to_be_bytes())?;
            answer.put(&CLASS_IN.to_be_bytes())?;
            answer.put(&TTL.to_be_bytes())?;
            answer.put(&4_u16.to_be_bytes())?;
            answer.put(&address.octets())?;
        }
        if let Some(edns) = edns {
            answer.put(&[0])?;
            answer.put(&TYPE_OPT.to_be_bytes())?;
            answer.put(&UDP_PAYLOAD.to_be_bytes())?;
            // Upper bits of the rcode, version 0, DO as asked (RFC 3225, section 3), no options.
            answer.put(&[outcome.rcode() >> 4, 0, if edns.dnssec_ok { 0x80 } else { 0 }, 0, 0, 0])?;
        }
        Some(answer.len)
    }
}

/// The one question of a query.
struct Query<'a> {
    question: &'a [u8],
    name: Name<'a>,
    kind: u16,
    class: u16,
    edns: Option<Edns>,
}

/// What matters of the OPT record (RFC 6891, section 6.1.3).
struct Edns {
    version: u8,
    dnssec_ok: bool,
}

impl<'a> Query<'a> {
    fn parse(header: &Header, body: &'a [u8]) -> Option<Self> {
        let [1, 0, 0, additional] = header.counts else { return None };
        let (name, rest) = Name::parse(body)?;
        let (&[k0, k1, c0, c1], mut rest) = rest.split_first_chunk::<4>()?;
        let question = body.get(..name.0.len() + 4)?;
        let mut edns = None;
        for _ in 0..additional {
            let (record, after) = Record::parse(rest)?;
            if record.kind == TYPE_OPT {
                let [_, version, flags, _] = record.ttl;
                let opt = Edns { version, dnssec_ok: flags & 0x80 != 0 };
                if record.name.0 != [0] || edns.replace(opt).is_some() {
                    return None;
                }
            }
            rest = after;
        }
        Some(Self { question, name, kind: u16::from_be_bytes([k0, k1]), class: u16::from_be_bytes([c0, c1]), edns })
    }
}

/// A record of the additional section (RFC 1035, section 4.1.3); its data is not looked at.
struct Record<'a> {
    name: Name<'a>,
    kind: u16,
    ttl: [u8; 4],
}

impl<'a> Record<'a> {
    fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (name, rest) = Name::parse(bytes)?;
        let (&[k0, k1, _, _, t0, t1, t2, t3, l0, l1], rest) = rest.split_first_chunk::<10>()?;
        let (_, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        Some((Self { name, kind: u16::from_be_bytes([k0, k1]), ttl: [t0, t1, t2, t3] }, rest))
    }
}

/// A name on the wire, without compression, root label included.
#[derive(Clone, Copy, Debug)]
struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut end = 0_usize;
        loop {
            let len = *bytes.get(end)?;
            end += 1 + usize::from(len);
            if len > LONGEST_LABEL || end > LONGEST_NAME {
                return None;
            }
            if len == 0 {
                let (name, rest) = bytes.split_at_checked(end)?;
                return Some((Self(name), rest));
            }
        }
    }

    /// The labels from left to right, without the root.
    fn labels(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut rest = self.0;
        std::iter::from_fn({
            move || {
                let (&len, tail) = rest.split_first()?;
                let (label, tail) = tail.split_at_checked(usize::from(len))?;
                rest = tail;
                (len > 0).then_some(label)
            }
        })
    }
}

/// The answer while it is written.
struct Answer<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Answer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len())?;
        self.bytes.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    fn count(&mut self, present: bool) -> Option<()> {
        self.put(&u16::from(present).to_be_bytes())
    }
}

#[cfg(test)]
mod tests;
