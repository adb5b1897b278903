//! A request on its way out: its head, then its body in pieces.

use std::io::Write as _;

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body::SizeHint;

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
    /// Writes the head, and says how its body is framed. `body` is `None` where there is none.
    pub fn begin(method: &str, target: &str, headers: &HeaderMap, body: Option<SizeHint>, out: &mut Vec<u8>) -> Self {
        for part in [method, " ", target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        let announced = headers.contains_key(CONTENT_LENGTH);
        for (name, value) in headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING) {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        // The framing is ours to say, whatever the headers do: where one ends, the next request begins.
        let length = match body {
            Some(hint) => hint.exact(),
            None => announced.then_some(0),
        };
        match (length, body) {
            (Some(length), _) => {
                out.extend_from_slice(b"content-length: ");
                out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                out.extend_from_slice(b"\r\n\r\n");
                if length == 0 { Self::Over } else { Self::Length { left: length } }
            }
            (None, Some(_)) => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                Self::Chunked
            }
            (None, None) => {
                out.extend_from_slice(b"\r\n");
                Self::Over
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
    /// More came than was announced; what is written so far must not be followed by anything.
    pub fn piece(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unwritable> {
        match self {
            // An empty chunk would be the last one.
            Self::Length { .. } | Self::Chunked | Self::Over if piece.is_empty() => {}
            Self::Length { left } => {
                *left = left.checked_sub(piece.len() as u64).ok_or(Unwritable::TooLong)?;
                out.extend_from_slice(piece);
                if *left == 0 {
                    *self = Self::Over;
                }
            }
            Self::Chunked => {
                // Writing to a vector cannot fail.
                let _ = write!(out, "{:x}\r\n", piece.len());
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
            Self::Over => return Err(Unwritable::TooLong),
        }
        Ok(())
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
