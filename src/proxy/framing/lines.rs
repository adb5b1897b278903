//! Sections of lines that end with an empty one, heads and trailers: their end is found over as many reads as it takes.

/// What ends the search in a section. It depends on the bytes alone, not on how they were split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The empty line.
    End,
    /// A line feed without its carriage return.
    BareLineFeed,
    /// The first line does not end within its limit.
    FirstLineLimit,
    /// The section does not end within its limit.
    Limit,
}

/// How far the search for line feeds has come.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Where the line begins that is not complete.
    line: usize,
    /// How many bytes have been searched.
    searched: usize,
}

impl Search {
    /// Searches the bytes that were added to the section at the begin of `bytes`; returns what was found, and the end of
    /// the bytes that show it.
    pub(super) fn advance(&mut self, bytes: &[u8], limit: usize, first_line_limit: usize) -> Option<(usize, Found)> {
        let bytes = bytes.get(..limit).unwrap_or(bytes);
        while let Some(ahead) = memchr::memchr(b'\n', bytes.get(self.searched..)?) {
            let at = self.searched + ahead;
            if self.line == 0 && at >= first_line_limit {
                return Some((first_line_limit, Found::FirstLineLimit));
            }
            match bytes.get(self.line..at)? {
                [b'\r'] => return Some((at + 1, Found::End)),
                [.., b'\r'] => {}
                [..] => return Some((at + 1, Found::BareLineFeed)),
            }
            self.line = at + 1;
            self.searched = at + 1;
        }
        self.searched = bytes.len();
        if self.line == 0 && bytes.len() >= first_line_limit {
            Some((first_line_limit, Found::FirstLineLimit))
        } else if bytes.len() >= limit {
            Some((limit, Found::Limit))
        } else {
            None
        }
    }
}

/// The lines of a complete section, without their ends and without the empty one.
pub(super) fn lines(section: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = section;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, tail) = rest.split_at_checked(end)?;
        rest = tail.get(1..).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (!line.is_empty()).then_some(line)
    })
}
