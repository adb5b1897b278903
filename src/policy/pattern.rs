//! Path patterns: which paths a rule speaks about.
//!
//! In goes the text of `paths`; out come a matcher of canonical paths and the two questions that the loader asks of a
//! pair of patterns: do they meet ([`Pattern::intersects`]), does one contain the other ([`Pattern::covers`]).
//! Matching is per segment. `*` and `{name}` take exactly one segment that is not empty; `**` stands last and takes
//! one or more segments of which the first is not empty. So `/**` and `/` together are all paths, and `/v1/orders/**`
//! is neither `/v1/orders` nor `/v1/orders/`. A deny rule and a limit take more than that: see [`Pattern::with_slash`]. There are no
//! regular expressions.

use std::borrow::Cow;
use std::fmt;

use super::syntax::value::{Flaw, is_pchar};
use crate::request::segments_equal;

/// Most bytes of a pattern: longer than any path that people write by hand.
const MAX_TEXT: usize = 1024;

/// Most segments of a pattern, so that the work for one request stays small.
const MAX_SEGMENTS: usize = 64;

/// The pattern of a path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Box<str>,
    segments: Box<[Segment]>,
    /// Whether `**` follows the segments.
    rest: bool,
    /// How every path of the pattern begins that has nothing encoded: most other paths are told by it.
    begin: Box<str>,
    /// So many of the segments stand in `begin`.
    begun: usize,
}

/// What one segment of a pattern takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    /// Exactly this text; only as the last segment it may be empty.
    Literal(Box<str>),
    /// Any segment that is not empty, of a type and with a name if they are given.
    One { name: Option<Box<str>>, kind: Option<SegmentType> },
}

/// The type of a path parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum SegmentType {
    /// One or more digits.
    Int,
    /// Five groups of hexadecimal digits (RFC 9562, section 4), in either case.
    Uuid,
    /// Words of lower-case letters and digits, joined by single hyphens.
    Slug,
    /// One or more hexadecimal digits, in either case.
    Hex,
    /// A calendar day, `2026-02-28`.
    Date,
}

impl SegmentType {
    const NAMES: [(&'static str, Self); 5] =
        [("int", Self::Int), ("uuid", Self::Uuid), ("slug", Self::Slug), ("hex", Self::Hex), ("date", Self::Date)];

    fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|&(_, kind)| kind)
    }

    fn accepts(self, segment: &str) -> bool {
        let bytes = segment.as_bytes();
        match self {
            Self::Int => !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit),
            Self::Hex => !bytes.is_empty() && bytes.iter().all(u8::is_ascii_hexdigit),
            Self::Uuid => {
                bytes.len() == 36
                    && bytes.iter().enumerate().all(|(at, byte)| match at {
                        8 | 13 | 18 | 23 => *byte == b'-',
                        _ => byte.is_ascii_hexdigit(),
                    })
            }
            Self::Slug => segment.split('-').all(|word| {
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            }),
            Self::Date => is_date(bytes),
        }
    }

    /// Whether some segment is of both types.
    fn intersects(self, other: Self) -> bool {
        match (self, other) {
            (Self::Int, Self::Uuid | Self::Date) | (Self::Uuid | Self::Date, Self::Int) => false,
            (Self::Hex, Self::Uuid | Self::Date) | (Self::Uuid | Self::Date, Self::Hex) => false,
            (Self::Uuid, Self::Date) | (Self::Date, Self::Uuid) => false,
            (Self::Int, Self::Int | Self::Slug | Self::Hex)
            | (Self::Slug, Self::Int | Self::Uuid | Self::Slug | Self::Hex | Self::Date)
            | (Self::Hex, Self::Int | Self::Slug | Self::Hex)
            | (Self::Uuid, Self::Uuid | Self::Slug)
            | (Self::Date, Self::Date | Self::Slug) => true,
        }
    }

    /// Whether every segment of the type `other` is of this type.
    fn covers(self, other: Self) -> bool {
        match self {
            Self::Int | Self::Uuid | Self::Date => self == other,
            Self::Slug => matches!(other, Self::Slug | Self::Int | Self::Date),
            Self::Hex => matches!(other, Self::Hex | Self::Int),
        }
    }
}

fn is_date(bytes: &[u8]) -> bool {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = bytes else { return false };
    let digits = [y1, y2, y3, y4, m1, m2, d1, d2];
    if !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let number = |digits: &[u8]| digits.iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let (year, month, day) = (number(&digits[..4]), number(&digits[4..6]), number(&digits[6..]));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    (1..=last).contains(&day)
}

impl Segment {
    fn accepts(&self, segment: &str) -> bool {
        match self {
            // An author may have to write `%24` for `$`, and a server that decodes reads `a%3Bb` as `a;b`: a deny rule on
            // one must not miss the other.
            Self::Literal(text) => segments_equal(text, segment),
            Self::One { kind: None, .. } => !segment.is_empty(),
            Self::One { kind: Some(kind), .. } => kind.accepts(segment),
        }
    }

    fn may_be_empty(&self) -> bool {
        matches!(self, Self::Literal(text) if text.is_empty())
    }

    fn intersects(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Literal(text), segment) | (segment, Self::Literal(text)) => segment.accepts(text),
            (Self::One { kind: Some(one), .. }, Self::One { kind: Some(two), .. }) => one.intersects(*two),
            (Self::One { .. }, Self::One { .. }) => true,
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (segment, Self::Literal(text)) => segment.accepts(text),
            (Self::Literal(_), Self::One { .. }) => false,
            (Self::One { kind: None, .. }, Self::One { .. }) => true,
            (Self::One { kind: Some(_), .. }, Self::One { kind: None, .. }) => false,
            (Self::One { kind: Some(one), .. }, Self::One { kind: Some(two), .. }) => one.covers(*two),
        }
    }
}

impl Pattern {
    /// Reads a pattern as an author writes it.
    pub(crate) fn parse(text: &str) -> Result<Self, Flaw> {
        let flaw = |message: String, hint: &str| Flaw::new("bad-path", message, hint);
        if let Some(sign) = regular_expression(text) {
            return Err(Flaw::new(
                "regex-in-path",
                format!("`{sign}` looks like a regular expression, and paths have none"),
                "write segments: a literal, `*` or `{name}` for one, `**` at the end for all that follow",
            ));
        }
        if text.len() > MAX_TEXT {
            return Err(flaw(format!("a path has at most {MAX_TEXT} bytes"), "use `*`, `{name}` or `**`"));
        }
        let Some(body) = text.strip_prefix('/') else {
            return Err(flaw(format!("the path `{text}` does not begin with `/`"), "write the path from its root"));
        };
        if let Some(sign) = text.chars().find(|sign| matches!(sign, '?' | '#')) {
            return Err(flaw(
                format!("a path has no `{sign}`"),
                "rules look at the path only; leave out what follows it",
            ));
        }
        let written: Vec<&str> = body.split('/').collect();
        if written.len() > MAX_SEGMENTS {
            return Err(flaw(format!("a path has at most {MAX_SEGMENTS} segments"), "use `**`"));
        }
        let mut segments = Vec::with_capacity(written.len());
        let mut rest = false;
        for (at, segment) in written.iter().enumerate() {
            let last = at + 1 == written.len();
            if *segment == "**" {
                if !last {
                    return Err(flaw(
                        "`**` may only be the last segment".into(),
                        "use `*` for one segment in the middle",
                    ));
                }
                rest = true;
            } else if segment.is_empty() && !last {
                return Err(flaw(format!("the path `{text}` has an empty segment"), "requests with `//` are refused"));
            } else {
                let segment = parse_segment(segment)?;
                if let Segment::One { name: Some(name), .. } = &segment
                    && segments.iter().any(|other| names(other, name))
                {
                    return Err(flaw(
                        format!("`{{{name}}}` stands twice in one path"),
                        "give each parameter its own name",
                    ));
                }
                segments.push(segment);
            }
        }
        Ok(Self::new(text.into(), segments, rest))
    }

    fn new(text: Box<str>, segments: Vec<Segment>, rest: bool) -> Self {
        let (mut begin, mut begun) = (String::from("/"), 0);
        let followed = if rest { segments.len() } else { segments.len().saturating_sub(1) };
        for segment in &segments[..followed] {
            let Segment::Literal(literal) = segment else { break };
            if literal.contains('%') {
                break;
            }
            begin += literal;
            begin.push('/');
            begun += 1;
        }
        Self { text, segments: segments.into(), rest, begin: begin.into(), begun }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this canonical path is one of the pattern's.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let same = self.begin.bytes().zip(path.bytes()).take_while(|(own, other)| own == other).count();
        if same == self.begin.len() {
            return self.holds(self.begun, Some(&path[same..]));
        }
        // What is encoded may mean the same in another spelling.
        path.as_bytes().get(same) == Some(&b'%') && self.holds(0, path.strip_prefix('/'))
    }

    /// Whether the rest of a path is what the segments from the place `at` on take.
    fn holds(&self, at: usize, mut rest: Option<&str>) -> bool {
        for segment in &self.segments[at..] {
            let Some(path) = rest else { return false };
            let (part, tail) = first_segment(path);
            if !segment.accepts(part) {
                return false;
            }
            rest = tail;
        }
        match rest {
            None => !self.rest,
            Some(rest) => self.rest && !rest.is_empty() && !rest.starts_with('/'),
        }
    }

    /// What the parameter `name` is in a matching path. Hexadecimal digits are in lower case, so that one resource has one
    /// spelling.
    pub(crate) fn bind<'p>(&self, name: &str, path: &'p str) -> Option<Cow<'p, str>> {
        let (at, segment) = self.segments.iter().enumerate().find(|(_, segment)| names(segment, name))?;
        let mut path = path.strip_prefix('/')?;
        for _ in 0..at {
            path = first_segment(path).1?;
        }
        let (text, _) = first_segment(path);
        let kind = if let Segment::One { kind, .. } = segment { *kind } else { None };
        Some(match kind {
            Some(SegmentType::Uuid | SegmentType::Hex) => text.to_ascii_lowercase().into(),
            Some(SegmentType::Int | SegmentType::Slug | SegmentType::Date) | None => text.into(),
        })
    }

    /// Whether the pattern has the parameter `name`.
    pub(crate) fn binds(&self, name: &str) -> bool {
        self.segments.iter().any(|segment| names(segment, name))
    }

    /// The names of the pattern's parameters.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::One { name, .. } => name.as_deref(),
            Segment::Literal(_) => None,
        })
    }

    /// The path that `**` leaves out: `/v1/orders` of `/v1/orders/**`.
    pub(crate) fn collection(&self) -> Option<Self> {
        let text = self.text.strip_suffix("/**")?;
        if text.is_empty() {
            return Self::parse("/").ok();
        }
        Some(Self::new(text.into(), self.segments.to_vec(), false))
    }

    /// The patterns that a deny rule or a limit stands for which names this one.
    ///
    /// Many servers answer `/v1/orders/` as `/v1/orders`, so a denial of `P` is one of `P/` too. One of `P/**` is as written:
    /// what lies below `P` may be denied while `P` itself is allowed.
    pub(crate) fn with_slash(self) -> Vec<Self> {
        if self.rest || self.segments.last().is_none_or(Segment::may_be_empty) {
            return vec![self];
        }
        let empty = Segment::Literal(Box::default());
        let segments = self.segments.iter().cloned().chain([empty]).collect();
        vec![Self::new(self.text.clone(), segments, false), self]
    }

    /// Whether some path is in both.
    pub(crate) fn intersects(&self, other: &Self) -> bool {
        let pairs = |long: &Self| {
            self.segments.iter().zip(&*other.segments).all(|(one, two)| one.intersects(two)) && {
                let shared = self.segments.len().min(other.segments.len());
                long.segments.get(shared).is_none_or(|next| !next.may_be_empty())
            }
        };
        let (mine, theirs) = (self.segments.len(), other.segments.len());
        match (self.rest, other.rest) {
            (false, false) => mine == theirs && pairs(self),
            (true, false) => theirs > mine && pairs(other),
            (false, true) => mine > theirs && pairs(self),
            (true, true) => pairs(if mine > theirs { self } else { other }),
        }
    }

    /// Whether every path of `other` is one of this pattern's.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.segments.len(), other.segments.len());
        let long_enough = match (self.rest, other.rest) {
            (false, false) => mine == theirs,
            (false, true) => false,
            (true, false) => other.segments.get(mine).is_some_and(|next| !next.may_be_empty()),
            (true, true) => theirs >= mine,
        };
        long_enough && self.segments.iter().zip(&*other.segments).all(|(one, two)| one.covers(two))
    }

    /// The same paths as seen from the root of a host: below `base`, which is empty or `/` and literal segments.
    ///
    /// The pattern `/` stands for the base with and without a trailing slash, hence up to two patterns.
    pub(crate) fn under(&self, base: &str) -> Vec<Self> {
        let prefix = || base.split('/').skip(1).map(|segment| Segment::Literal(segment.into()));
        let segments = prefix().chain(self.segments.iter().cloned()).collect();
        let joined = Self::new(format!("{base}{}", self.text).into(), segments, self.rest);
        if base.is_empty() || &*self.text != "/" {
            return vec![joined];
        }
        vec![Self::new(base.into(), prefix().collect(), false), joined]
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The first segment of a path without the slash before it, and what follows the slash behind it.
fn first_segment(path: &str) -> (&str, Option<&str>) {
    // Segments are short: a plain search is quicker than one that looks at many bytes at once.
    let end = path.bytes().position(|byte| byte == b'/');
    end.map_or((path, None), |end| (&path[..end], Some(&path[end + 1..])))
}

fn names(segment: &Segment, wanted: &str) -> bool {
    match segment {
        Segment::One { name, .. } => name.as_deref() == Some(wanted),
        Segment::Literal(_) => false,
    }
}

/// The first sign of a regular expression or a shell glob that has no meaning here.
fn regular_expression(text: &str) -> Option<&'static str> {
    const SIGNS: [&str; 10] = [".*", ".+", "^", "$", "\\", "(?", "|", "[", "]", "+)"];
    SIGNS.into_iter().find(|sign| text.contains(sign))
}

fn parse_segment(text: &str) -> Result<Segment, Flaw> {
    if text == "*" {
        return Ok(Segment::One { name: None, kind: None });
    }
    if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        return parse_parameter(inner);
    }
    let flaw = |message: String, hint: &str| Flaw::new("bad-path", message, hint);
    if text.contains(['*', '{', '}']) {
        return Err(flaw(
            format!("`{text}` mixes text with a placeholder"),
            "`*`, `**` and `{name}` stand for whole segments",
        ));
    }
    if matches!(text, "." | "..") {
        return Err(flaw(format!("`{text}` never matches"), "requests with dot segments are refused"));
    }
    if text.contains(';') {
        return Err(flaw("`;` may not stand in a path".into(), "matrix parameters have no rules"));
    }
    check_literal(text)?;
    Ok(Segment::Literal(text.into()))
}

fn parse_parameter(inner: &str) -> Result<Segment, Flaw> {
    let (name, kind) = match inner.split_once(':') {
        None => (inner, None),
        Some((name, kind)) => match SegmentType::parse(kind) {
            Some(kind) => (name, Some(kind)),
            None => {
                return Err(Flaw::new(
                    "bad-path",
                    format!("`{kind}` is not a type of a path parameter"),
                    "the types are int, uuid, slug, hex and date",
                ));
            }
        },
    };
    let well_formed = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !well_formed {
        return Err(Flaw::new(
            "bad-path",
            format!("`{name}` is not a name of a path parameter"),
            "use lower-case letters, digits and `_`, a letter first",
        ));
    }
    Ok(Segment::One { name: Some(name.into()), kind })
}

/// A literal must be written as the canonical request will have it, else it would silently never match.
fn check_literal(text: &str) -> Result<(), Flaw> {
    let flaw = |message: String, hint: &str| Flaw::new("bad-path", message, hint);
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            if !is_pchar(byte) {
                let hint = "percent-encode it in UTF-8 with upper-case digits";
                return Err(flaw(format!("`{text}` has a character that a path cannot have"), hint));
            }
            rest = after;
            continue;
        }
        let (Some(&high), Some(&low)) = (after.first(), after.get(1)) else {
            return Err(flaw(format!("`{text}` has a lone `%`"), "write `%25` for the sign itself"));
        };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (Some(high_digit), Some(low_digit)) = (digit(high), digit(low)) else {
            return Err(flaw(format!("`{text}` has a lone `%`"), "write `%25` for the sign itself"));
        };
        let decoded = high_digit * 16 + low_digit;
        if high.is_ascii_lowercase() || low.is_ascii_lowercase() {
            return Err(flaw(format!("`{text}` is not canonical"), "write percent-encoded digits in upper case"));
        }
        if decoded.is_ascii_alphanumeric() || matches!(decoded, b'-' | b'.' | b'_' | b'~') {
            let hint = format!("write `{}` for `%{decoded:02X}`", char::from(decoded));
            return Err(flaw(format!("`{text}` is not canonical"), &hint));
        }
        if matches!(decoded, b'/' | b'\\' | 0 | b'\r' | b'\n') {
            return Err(flaw(
                format!("`%{decoded:02X}` may not stand in a path"),
                "`*` takes a segment with an opaque encoded slash",
            ));
        }
        rest = after.get(2..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
