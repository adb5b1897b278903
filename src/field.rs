//! Header lines (RFC 9110 section 5), checked once: a [`Line`] can be written to any wire as it is, and a [`Section`]
//! holds its lines as HTTP/1.1 writes them.

use std::fmt;

use http::{HeaderName, HeaderValue};

/// What a name consists of: the characters of a token (RFC 9110 section 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 128 {
        table[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

/// Whether a token may have this byte.
pub const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Whether these bytes are a token.
pub fn is_token(bytes: &[u8]) -> bool {
    // No early exit: what is long is seldom wrong.
    !bytes.is_empty() && bytes.iter().fold(true, |all, &byte| all & is_token_byte(byte))
}

/// Whether a value holds a control character other than HTAB.
fn has_control(value: &[u8]) -> bool {
    // Nearly all values are printable ASCII, which the byte that is farthest from a space tells. The loop has no early
    // exit, so that it is compiled to vector instructions.
    let farthest = value.iter().fold(0, |farthest: u8, byte| farthest.max(byte.wrapping_sub(b' ')));
    farthest > b'~' - b' ' && value.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t')
}

/// The longest name, in bytes: what [`HeaderName`] takes, so that HTTP/2 can say every line.
const MAX_NAME: usize = (1 << 16) - 1;

/// Why a name and a value are no header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLine {
    /// The name is no token, or too long.
    Name,
    /// The value holds a control character.
    Value,
}

/// A header line that says what it says on every wire: its name is a token, and its value ends no line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

impl<'a> Line<'a> {
    /// # Errors
    ///
    /// What of it is wrong.
    pub fn new(name: &'a [u8], value: &'a [u8]) -> Result<Self, BadLine> {
        if !is_token(name) || name.len() > MAX_NAME {
            return Err(BadLine::Name);
        }
        if has_control(value) {
            return Err(BadLine::Value);
        }
        Ok(Self { name, value })
    }

    /// As it is spelled.
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// As it is.
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    /// Whether this is its name.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// A line of a known name.
    ///
    /// # Errors
    ///
    /// The value is none.
    pub fn of(name: &'a HeaderName, value: &'a [u8]) -> Result<Self, BadLine> {
        if has_control(value) { Err(BadLine::Value) } else { Ok(Self { name: name.as_str().as_bytes(), value }) }
    }
}

impl<'a> From<(&'a HeaderName, &'a HeaderValue)> for Line<'a> {
    fn from((name, value): (&'a HeaderName, &'a HeaderValue)) -> Self {
        Self { name: name.as_str().as_bytes(), value: value.as_bytes() }
    }
}

/// Values may be secrets.
impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ({} bytes)", self.name.escape_ascii(), self.value.len())
    }
}

/// Room for what the proxy adds to the lines of others.
const OUR_LINES: usize = 2;
const OUR_BYTES: usize = 128;

/// Header lines in their order.
#[derive(Clone, Default)]
pub struct Section {
    /// `name: value`, CR, LF, and the next.
    bytes: Vec<u8>,
    spots: Vec<Spot>,
    /// The lengths of all names that were ever here, a bit for each: most of what is looked for is not here.
    lengths: u64,
}

/// Where a line stands.
#[derive(Clone, Copy)]
struct Spot {
    begin: usize,
    colon: usize,
    end: usize,
}

impl Section {
    /// None, with room for so many lines of so many bytes together, and for what is said besides.
    pub fn with_room(lines: usize, bytes: usize) -> Self {
        let (bytes, spots) = (Vec::with_capacity(bytes + OUR_BYTES), Vec::with_capacity(lines + OUR_LINES));
        Self { bytes, spots, lengths: 0 }
    }

    /// Adds a line.
    pub fn push(&mut self, line: Line<'_>) {
        let Line { name, value } = line;
        let begin = self.bytes.len();
        self.bytes.reserve(name.len() + value.len() + 4);
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
        self.spots.push(Spot { begin, colon: begin + name.len(), end: self.bytes.len() });
        self.lengths |= length_bit(name.len());
    }

    /// All lines.
    pub fn iter(&self) -> impl Iterator<Item = Line<'_>> {
        self.spots.iter().map(|&spot| line(&self.bytes, spot))
    }

    /// The values of all lines of a name.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let spots = if self.lengths & length_bit(name.len()) == 0 { &[][..] } else { &self.spots[..] };
        let spots = spots.iter().filter(move |spot| spot.colon - spot.begin == name.len());
        spots.map(|&spot| line(&self.bytes, spot)).filter(move |line| line.is(name)).map(|line| line.value)
    }

    /// The value of the first line of a name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// Whether there is a line of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Keeps the lines that are to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(Line<'_>) -> bool) {
        let Self { bytes, spots, .. } = self;
        spots.retain(|&spot| keep(line(bytes, spot)));
    }

    /// Writes the lines that are to be written.
    pub fn write(&self, mut writes: impl FnMut(Line<'_>) -> bool, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for &spot in self.spots.iter().filter(|spot| writes(line(&self.bytes, **spot))) {
            if run.end != spot.begin {
                out.extend_from_slice(&self.bytes[run]);
                run = spot.begin..spot.begin;
            }
            run.end = spot.end;
        }
        out.extend_from_slice(&self.bytes[run]);
    }
}

/// The bit of a name's length; all long names have one.
fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

fn line(bytes: &[u8], Spot { begin, colon, end }: Spot) -> Line<'_> {
    Line { name: &bytes[begin..colon], value: &bytes[colon + 2..end - 2] }
}

impl PartialEq for Section {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Section {}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(lines: &[(&str, &str)]) -> Section {
        let mut section = Section::default();
        for (name, value) in lines {
            section.push(Line::new(name.as_bytes(), value.as_bytes()).expect("a line"));
        }
        section
    }

    fn written(section: &Section, leave_out: &str) -> String {
        let mut out = b"> ".to_vec();
        section.write(|line| !line.is(leave_out), &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn what_would_end_a_line_is_in_none() {
        for name in ["", "a b", "a:", "a\r\n", "\u{e9}"] {
            assert_eq!(Line::new(name.as_bytes(), b""), Err(BadLine::Name), "{name:?}");
        }
        let longest = "x".repeat(MAX_NAME);
        assert!(Line::new(longest.as_bytes(), b"").is_ok() && HeaderName::from_bytes(longest.as_bytes()).is_ok());
        assert_eq!(Line::new((longest + "x").as_bytes(), b""), Err(BadLine::Name));
        for value in [&b"a\r\nb"[..], b"\n", b"\0", b"\x7f"] {
            assert_eq!(Line::new(b"a", value), Err(BadLine::Value), "{value:?}");
        }
        let taken = |byte: &u8| Line::new(b"a", &[b'x', *byte]).is_ok();
        let all: Vec<u8> = (0..=u8::MAX).filter(taken).collect();
        let expected: Vec<u8> = [b'\t'].into_iter().chain(b' '..=b'~').chain(0x80..=u8::MAX).collect();
        assert_eq!(all, expected);
        assert!(Line::new(b"A_!", b"a\tb \xff:").is_ok());
    }

    #[test]
    fn lines_are_written_as_they_were_taken() {
        let section = section(&[("Host", "a"), ("x-y", ""), ("Cookie", "b: c"), ("x-y", "2")]);
        assert_eq!(written(&section, ""), "> Host: a\r\nx-y: \r\nCookie: b: c\r\nx-y: 2\r\n");
        assert_eq!(written(&section, "X-Y"), "> Host: a\r\nCookie: b: c\r\n");
        assert_eq!(written(&section, "cookie"), "> Host: a\r\nx-y: \r\nx-y: 2\r\n");
        assert_eq!(written(&Section::default(), ""), "> ");
    }

    #[test]
    fn lines_are_found_by_name_in_any_case() {
        let section = section(&[("Host", "a"), ("x-y", ""), ("X-Y", "2")]);
        assert_eq!(section.get("host"), Some(&b"a"[..]));
        assert_eq!(section.get_all("x-Y").collect::<Vec<_>>(), [&b""[..], b"2"]);
        assert!(section.contains("HOST") && !section.contains("hos"));
        let long = "x".repeat(100);
        assert!(!section.contains(&long));
        assert!(self::section(&[(&long, "")]).contains(&long.to_uppercase()));
    }

    #[test]
    fn what_is_not_kept_is_gone() {
        let mut kept = section(&[("a", "1"), ("b", "2"), ("c", "3")]);
        kept.retain(|line| !line.is("b"));
        kept.push(Line::new(b"d", b"4").expect("a line"));
        assert_eq!(kept, section(&[("a", "1"), ("c", "3"), ("d", "4")]));
        assert_eq!(written(&kept, "a"), "> c: 3\r\nd: 4\r\n");
        assert!(!kept.contains("b"));
    }

    #[test]
    fn values_are_not_shown() {
        let section = section(&[("authorization", "Bearer secret")]);
        assert_eq!(format!("{section:?}"), "[authorization: (13 bytes)]");
    }
}
