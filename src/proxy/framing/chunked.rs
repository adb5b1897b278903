//! A chunked body (RFC 9112 section 7.1): in go its bytes, out come the same chunks with sizes in their one spelling.

use std::io::Write as _;

use super::fault::Broken;
use super::take_counted;

/// Sixteen hexadecimal digits are the sizes of 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;

/// Where in a chunk the next byte is.
#[derive(Debug)]
pub(super) enum Chunked {
    /// The size: digits so far.
    Size { size: u64, digits: u8 },
    /// The line feed after the size.
    SizeEnd { size: u64 },
    /// The data: bytes that are left.
    Content { left: u64 },
    /// The carriage return after the data.
    ContentCr,
    /// The line feed after the data.
    ContentLf,
    /// The last chunk is over; the trailer section follows.
    Trailers,
}

impl Default for Chunked {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunked {
    pub(super) fn is_at_trailers(&self) -> bool {
        matches!(self, Self::Trailers)
    }

    /// Takes bytes until they are used up or the trailer section begins. Returns how many.
    pub(super) fn handle_input(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Broken> {
        let mut rest = bytes;
        while !self.is_at_trailers()
            && let Some((&byte, tail)) = rest.split_first()
        {
            match self {
                Self::Content { left } => {
                    let taken = take_counted(left, rest, out);
                    if *left == 0 {
                        *self = Self::ContentCr;
                    }
                    rest = rest.get(taken..).unwrap_or_default();
                }
                Self::Size { .. } | Self::SizeEnd { .. } | Self::ContentCr | Self::ContentLf | Self::Trailers => {
                    *self = self.next(byte, out)?;
                    rest = tail;
                }
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn next(&self, byte: u8, out: &mut Vec<u8>) -> Result<Self, Broken> {
        match (self, byte) {
            (Self::Size { size, digits }, b'\r') if *digits > 0 => Ok(Self::SizeEnd { size: *size }),
            (Self::Size { size, digits }, _) if *digits < MAX_SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16).ok_or(Broken::ChunkSize)?;
                Ok(Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Ok(Self::Trailers),
            (Self::SizeEnd { size }, b'\n') => {
                write!(out, "{size:x}\r\n").map_err(|_| Broken::ChunkSize)?;
                Ok(Self::Content { left: *size })
            }
            (Self::ContentCr, b'\r') => {
                out.push(byte);
                Ok(Self::ContentLf)
            }
            (Self::ContentLf, b'\n') => {
                out.push(byte);
                Ok(Self::default())
            }
            (Self::Size { .. } | Self::SizeEnd { .. }, _) => Err(Broken::ChunkSize),
            (Self::ContentCr | Self::ContentLf | Self::Content { .. } | Self::Trailers, _) => Err(Broken::ChunkEnd),
        }
    }
}
