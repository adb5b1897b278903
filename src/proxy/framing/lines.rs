//! Sections of lines that end with an empty one, heads and trailers: collected over as many reads as it takes.

/// What is known of a section. It depends on the bytes alone, not on how they were split.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Window<'a> {
    /// More is needed.
    Incomplete,
    /// All lines, with the empty one that ends them.
    Complete(&'a [u8]),
    /// A line feed without its carriage return, and the bytes up to it.
    BareLineFeed(&'a [u8]),
    /// The first line does not end within its limit; that many bytes.
    FirstLineTooLong(&'a [u8]),
    /// The section does not end within its limit; that many bytes.
    TooLong(&'a [u8]),
}

/// A section that is being collected.
#[derive(Debug, Default)]
pub(super) struct Section {
    held: Vec<u8>,
    search: Search,
}

impl Section {
    /// How many bytes are held back.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Takes bytes of the section, none beyond it. Returns how many, and what is known; after anything else than
    /// [`Window::Incomplete`] the section is to be thrown away.
    pub(super) fn collect<'a>(
        &'a mut self,
        bytes: &'a [u8],
        limit: usize,
        first_line_limit: usize,
    ) -> (usize, Window<'a>) {
        let Self { held, search } = self;
        let before = held.len();
        let offered = bytes.get(..limit.saturating_sub(before)).unwrap_or(bytes);
        // A section that comes in one read is judged where it lies.
        let found = if before == 0 {
            search.advance(offered, limit, first_line_limit)
        } else {
            held.extend_from_slice(offered);
            search.advance(held, limit, first_line_limit)
        };
        let Some((end, found)) = found else {
            if before == 0 {
                held.extend_from_slice(offered);
            }
            return (offered.len(), Window::Incomplete);
        };
        let whole = if before == 0 { offered } else { held.as_slice() };
        let seen = whole.get(..end).unwrap_or(whole);
        let window = match found {
            Found::End => Window::Complete(seen),
            Found::BareLineFeed => Window::BareLineFeed(seen),
            Found::FirstLineLimit => Window::FirstLineTooLong(seen),
            Found::Limit => Window::TooLong(seen),
        };
        (end.saturating_sub(before), window)
    }
}

#[derive(Debug)]
enum Found {
    End,
    BareLineFeed,
    FirstLineLimit,
    Limit,
}

/// How far the search for line feeds has come.
#[derive(Debug, Default)]
struct Search {
    /// Where the line begins that is not complete.
    line: usize,
    /// How many bytes have been searched.
    searched: usize,
}

impl Search {
    /// Searches the bytes that were added; returns what was found, and the end of the bytes that show it.
    fn advance(&mut self, bytes: &[u8], limit: usize, first_line_limit: usize) -> Option<(usize, Found)> {
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
