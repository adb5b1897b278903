//! A message on its way out: a request's head, and the framing of any body (RFC 9112 section 6).

use std::io::Write as _;

use http_body::SizeHint;

use crate::field::Section;

/// Why a body cannot go on: it is not the one that its head announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// There is more of it.
    #[error("longer than its Content-Length")]
    TooLong,
    /// So many bytes are missing.
    #[error("{0} bytes shorter than its Content-Length")]
    TooShort(u64),
}

/// What is still to be written of a body.
#[derive(Debug)]
pub enum Writer {
    /// RFC 9112 section 6.2.
    Length {
        /// In bytes.
        left: u64,
    },
    /// RFC 9112 section 7.1.
    Chunked,
    /// Nothing.
    Over,
}

impl Writer {
    /// Writes the head of a request, and says how its body is framed. `body` is `None` where there is none. Lines that
    /// frame a body are left out: where one ends, the next message begins, so whoever writes the body says it.
    pub fn begin(method: &str, target: &str, headers: &[&Section], body: Option<SizeHint>, out: &mut Vec<u8>) -> Self {
        for part in [method, " ", target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        headers.iter().for_each(|lines| write_headers(lines, out));
        match body {
            Some(hint) => Self::frame(hint.exact(), out),
            // A client that says that there is nothing of it is told apart from one that says nothing.
            None if headers.iter().any(|lines| lines.contains("content-length")) => Self::frame(Some(0), out),
            None => {
                out.extend_from_slice(b"\r\n");
                Self::Over
            }
        }
    }

    /// Writes the header that frames a body of this length, which may be unknown, and the end of the head.
    pub fn frame(length: Option<u64>, out: &mut Vec<u8>) -> Self {
        match length {
            Some(left) => {
                out.extend_from_slice(b"content-length: ");
                out.extend_from_slice(itoa::Buffer::new().format(left).as_bytes());
                out.extend_from_slice(b"\r\n\r\n");
                if left == 0 { Self::Over } else { Self::Length { left } }
            }
            None => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                Self::Chunked
            }
        }
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// Writes a piece of the body.
    ///
    /// # Errors
    ///
    /// As [`Writer::begin_piece`].
    pub fn piece(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unwritable> {
        // An empty chunk would be the last one.
        if piece.is_empty() {
            return Ok(());
        }
        self.begin_piece(piece.len(), out)?;
        out.extend_from_slice(piece);
        self.end_piece(out);
        Ok(())
    }

    /// Writes what stands before a piece of so many bytes, at least one.
    ///
    /// # Errors
    ///
    /// More came than was announced; what is written so far must not be followed by anything.
    pub fn begin_piece(&mut self, length: usize, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        match self {
            Self::Length { left } => {
                *left = left.checked_sub(length as u64).ok_or(Unwritable::TooLong)?;
                if *left == 0 {
                    *self = Self::Over;
                }
            }
            // Writing to a vector cannot fail.
            Self::Chunked => drop(write!(out, "{length:x}\r\n")),
            Self::Over => return Err(Unwritable::TooLong),
        }
        Ok(())
    }

    /// Writes what stands after a piece.
    pub fn end_piece(&self, out: &mut Vec<u8>) {
        if matches!(self, Self::Chunked) {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes the end of the body.
    ///
    /// # Errors
    ///
    /// Less came than was announced.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        match std::mem::replace(self, Self::Over) {
            Self::Length { left } => return Err(Unwritable::TooShort(left)),
            Self::Chunked => out.extend_from_slice(b"0\r\n\r\n"),
            Self::Over => {}
        }
        Ok(())
    }
}

/// Writes header lines, without those that frame the body.
pub fn write_headers(headers: &Section, out: &mut Vec<u8>) {
    const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];
    if FRAMING.iter().any(|name| headers.contains(name)) {
        headers.write(|line| !FRAMING.iter().any(|name| line.is(name)), out);
    } else {
        headers.write(|_| true, out);
    }
}
