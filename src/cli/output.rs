//! Where a command prints, and how tables look.

use std::io::{self, Write};

use super::password::Passwords;

/// What a command sees of the outside.
pub(crate) struct Terminal<'a> {
    /// Answers.
    pub(crate) out: &'a mut dyn Write,
    /// Complaints and failures.
    pub(crate) err: &'a mut dyn Write,
    /// Where passwords come from.
    pub(crate) passwords: &'a mut dyn Passwords,
}

/// Swallows what nobody reads any more: `wicketgate session list | head` is not a failure.
pub(crate) struct IgnoreBrokenPipe<W>(pub(crate) W);

impl<W: Write> Write for IgnoreBrokenPipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

/// A table with a head, columns two spaces apart. Control characters are escaped: a name in it may come from a stranger.
pub(super) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let head = head.map(str::to_owned);
    let rows: Vec<[String; N]> = std::iter::once(head).chain(rows.into_iter().map(|row| row.map(printable))).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn printable(text: String) -> String {
    if text.chars().any(char::is_control) { text.escape_debug().to_string() } else { text }
}

/// `1 error`, `2 errors`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["alice".to_owned(), "a".to_owned()], ["ö".to_owned(), "b\u{1b}[0m".to_owned()]];
        assert_eq!(table(["USER", "X"], rows), "USER   X\nalice  a\nö      b\\u{1b}[0m\n");
    }

    #[test]
    fn a_closed_pipe_swallows() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut pipe = IgnoreBrokenPipe(Closed);
        assert!(pipe.write_all(b"text").is_ok() && pipe.flush().is_ok());
    }
}
