//! The head of the one HTTP request that opens a tunnel, and its answers.
//!
//! Goes in: the bytes that came first on the TLS stream. Comes out: what they ask for, and how long the head is; bytes
//! behind it are SSTP already. The length of a request with a tunnel's Content-Length is one that HTTP libraries
//! refuse, so the head is read by hand, and strictly: a head that could be read in two ways is malformed.
//! Ruled by [MS-SSTP] 3.2.4.1 and 3.3.5.1, and [RFC 9112].

/// The longest head. A real one has about 200 bytes, with cookies of a bypassed login a few thousand.
pub const MAX_HEAD: usize = 8 * 1024;

/// The longest correlation identifier that is kept: a GUID in braces has 38 characters.
const MAX_CORRELATION_ID: usize = 64;

/// The longest Host: a DNS name of 253 characters, a colon and a port.
const MAX_HOST: usize = 253 + 6;

const SSTP_METHOD: &str = "SSTP_DUPLEX_POST";
const SSTP_PATH: &str = "/sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/";

/// The Content-Length with which both sides of a tunnel say "no end". [MS-SSTP] 3.2.4.1.
const ENDLESS: u64 = u64::MAX;

/// What the first bytes on a connection ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A tunnel.
    Tunnel {
        /// Up to 64 printable ASCII characters for the log: some clients send what is not a GUID.
        correlation_id: Option<Box<str>>,
        /// The name that was dialled, as the client wrote it.
        host: Option<Box<str>>,
    },
    /// GET or HEAD of the SSTP path: 401 is the answer that load balancers know as "alive".
    HealthCheck,
    /// Any other request that is well-formed: 404.
    NotFound,
    /// 400, and what is wrong with it.
    Malformed(&'static str),
}

/// The head does not end within [`MAX_HEAD`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the head of the HTTP request is longer than {limit} bytes")]
pub struct TooLong {
    pub limit: usize,
}

/// Reads a head that arrives in pieces. Each byte is looked at once, however small the pieces are.
#[derive(Debug)]
pub struct HeadReader {
    scanned: usize,
    line_is_empty: bool,
    after_cr: bool,
}

impl Default for HeadReader {
    fn default() -> Self {
        Self { scanned: 0, line_is_empty: true, after_cr: false }
    }
}

impl HeadReader {
    /// Reads a head off the front of `bytes`: all that has arrived, the bytes of earlier calls among them.
    ///
    /// `Ok(None)`: more bytes are needed. Otherwise the head, and its length including the blank line. The answer does
    /// not depend on how the bytes were cut into pieces.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<(Head, usize)>, TooLong> {
        let window = bytes.get(..MAX_HEAD).unwrap_or(bytes);
        match self.scan(window) {
            Scan::Whole => {
                let text = window.get(..self.scanned).and_then(|head| str::from_utf8(head).ok());
                let head = text.map_or(Err("not ASCII"), parse).unwrap_or_else(Head::Malformed);
                Ok(Some((head, self.scanned)))
            }
            Scan::Offence(reason) => Ok(Some((Head::Malformed(reason), self.scanned))),
            Scan::Unfinished if bytes.len() >= MAX_HEAD => Err(TooLong { limit: MAX_HEAD }),
            Scan::Unfinished => Ok(None),
        }
    }

    /// Finds the blank line, or the first byte before it that no head may contain, and stops behind it.
    fn scan(&mut self, bytes: &[u8]) -> Scan {
        for byte in bytes.get(self.scanned..).unwrap_or_default() {
            self.scanned += 1;
            match (self.after_cr, byte) {
                (true, b'\n') if self.line_is_empty => return Scan::Whole,
                (true, b'\n') => (self.after_cr, self.line_is_empty) = (false, true),
                (true, _) => return Scan::Offence("CR without LF"),
                (false, b'\n') => return Scan::Offence("LF without CR"),
                (false, b'\r') => self.after_cr = true,
                (false, 0x80..) => return Scan::Offence("not ASCII"),
                (false, b'\t' | b' '..=b'~') => self.line_is_empty = false,
                (false, _) => return Scan::Offence("control character"),
            }
        }
        Scan::Unfinished
    }
}

/// Reads a head off the front of `bytes`, as [`HeadReader::read`] does at its first call.
pub fn read_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, TooLong> {
    HeadReader::default().read(bytes)
}

/// The response that opens the tunnel. `date` is an IMF-fixdate ([RFC 9110] 5.6.7).
///
/// It has to leave in one write: a client was seen to stop reading at a piece that ends with a line.
pub fn accepted(date: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {ENDLESS}\r\nDate: {date}\r\n\r\n").into_bytes()
}

/// The response that refuses, for 400, 401, 404 and 503; any other number is answered as 400. The connection is to be
/// closed behind it.
pub fn refusal(status: u16) -> &'static [u8] {
    match status {
        401 => b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        404 => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        503 => b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        _ => b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    }
}

enum Scan {
    Whole,
    /// What is wrong with the last byte that was looked at.
    Offence(&'static str),
    Unfinished,
}

/// `text` is a whole head of ASCII, its lines ended by CR LF, with the blank line.
fn parse(text: &str) -> Result<Head, &'static str> {
    let mut lines = text.split("\r\n");
    let request_line = RequestLine::parse(lines.next().unwrap_or_default())?;
    let fields = Fields::parse(lines.take_while(|line| !line.is_empty()))?;
    let sstp_path = request_line.path.eq_ignore_ascii_case(SSTP_PATH);
    let is = |method: &str| request_line.method.eq_ignore_ascii_case(method);
    if sstp_path && (is("GET") || is("HEAD")) {
        return Ok(Head::HealthCheck);
    }
    if !(sstp_path && is(SSTP_METHOD)) {
        return Ok(Head::NotFound);
    }
    if request_line.version != Version::Http11 {
        return Err("a tunnel needs HTTP/1.1");
    }
    if fields.content_length.is_some_and(|length| length != ENDLESS) {
        return Err("Content-Length of a tunnel is not 18446744073709551615");
    }
    if fields.transfer_encoding {
        return Err("Transfer-Encoding in a tunnel");
    }
    Ok(Head::Tunnel { correlation_id: fields.correlation_id, host: fields.host })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

struct RequestLine<'a> {
    method: &'a str,
    /// The target without its query, which may name a tenant ([MS-SSTP] 3.2.4.1) and means nothing here.
    path: &'a str,
    version: Version,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a str) -> Result<Self, &'static str> {
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("request line is not method, target, version");
        };
        if !is_token(method) {
            return Err("method is not a token");
        }
        if target.is_empty() || target.contains('\t') {
            return Err("request target");
        }
        let version = match version {
            "HTTP/1.1" => Version::Http11,
            "HTTP/1.0" => Version::Http10,
            _ => return Err("HTTP version"),
        };
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        Ok(Self { method, path, version })
    }
}

/// The header fields that mean something here; all others are only checked for their form.
#[derive(Default)]
struct Fields {
    content_length: Option<u64>,
    transfer_encoding: bool,
    host: Option<Box<str>>,
    correlation_id: Option<Box<str>>,
}

impl Fields {
    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Self, &'static str> {
        let mut fields = Self::default();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or("header line without a colon")?;
            if !is_token(name) {
                return Err("header name is not a token");
            }
            fields.take(name, value.trim_matches([' ', '\t']))?;
        }
        Ok(fields)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        let is = |field: &str| name.eq_ignore_ascii_case(field);
        if is("Content-Length") {
            if self.content_length.replace(content_length(value)?).is_some() {
                return Err("Content-Length twice");
            }
        } else if is("Transfer-Encoding") {
            self.transfer_encoding = true;
        } else if is("Host") {
            if value.len() > MAX_HOST {
                return Err("Host too long");
            }
            if self.host.replace(value.into()).is_some() {
                return Err("Host twice");
            }
        } else if is("SSTPCORRELATIONID") && self.correlation_id.is_none() {
            let printable = value.chars().filter(|character| *character != '\t');
            self.correlation_id = Some(printable.take(MAX_CORRELATION_ID).collect::<String>().into());
        }
        Ok(())
    }
}

fn content_length(value: &str) -> Result<u64, &'static str> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten().ok_or("Content-Length is not a number")
}

/// [RFC 9110] 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests;
