//! A chunked body (RFC 9112 section 7.1), with sizes in one spelling and without extensions.

use bytes::{Buf as _, Bytes, BytesMut};

use super::fault::Broken;
use super::take;

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

    /// Takes bytes until there is data, the trailer section begins, or no byte is left.
    pub(super) fn poll(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Broken> {
        while !self.is_at_trailers()
            && let Some(&byte) = buffer.first()
        {
            if let Self::Content { left } = self {
                let data = take(left, buffer);
                if *left == 0 {
                    *self = Self::ContentCr;
                }
                return Ok(data);
            }
            *self = self.next(byte)?;
            buffer.advance(1);
        }
        Ok(None)
    }

    fn next(&self, byte: u8) -> Result<Self, Broken> {
        match (self, byte) {
            (Self::Size { size, digits }, b'\r') if *digits > 0 => Ok(Self::SizeEnd { size: *size }),
            (Self::Size { size, digits }, _) if *digits < MAX_SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16).ok_or(Broken::ChunkSize)?;
                Ok(Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Ok(Self::Trailers),
            (Self::SizeEnd { size }, b'\n') => Ok(Self::Content { left: *size }),
            (Self::ContentCr, b'\r') => Ok(Self::ContentLf),
            (Self::ContentLf, b'\n') => Ok(Self::default()),
            (Self::Size { .. } | Self::SizeEnd { .. }, _) => Err(Broken::ChunkSize),
            (Self::ContentCr | Self::ContentLf | Self::Content { .. } | Self::Trailers, _) => Err(Broken::ChunkEnd),
        }
    }
}
