//! Passwords: asked for without echo on a terminal, else one line of standard input.

use std::io::{self, BufRead, IsTerminal as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// The longest line that is read as a password: MS-CHAPv2's has at most 256 characters (RFC 2759 4), here in UTF-8.
const MAX_PASSWORD: u64 = 1024;

/// Where passwords come from.
pub(crate) trait Passwords {
    /// A new password for `name`.
    fn new_password(&mut self, name: &str) -> io::Result<Zeroizing<String>>;
}

/// Standard input.
pub(crate) struct Stdin;

impl Passwords for Stdin {
    fn new_password(&mut self, name: &str) -> io::Result<Zeroizing<String>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return line(&mut stdin.lock());
        }
        let _silence = Silence::begin()?;
        let first = prompt(&format!("Password for {}: ", name.escape_debug()))?;
        let again = prompt("Once more: ")?;
        if *first == *again { Ok(first) } else { Err(io::Error::other("the two passwords differ")) }
    }
}

fn prompt(text: &str) -> io::Result<Zeroizing<String>> {
    let mut err = io::stderr().lock();
    write!(err, "{text}")?;
    err.flush()?;
    let answer = line(&mut io::stdin().lock());
    writeln!(err)?;
    answer
}

/// One line without its end; not empty.
fn line(input: &mut dyn BufRead) -> io::Result<Zeroizing<String>> {
    let capacity = usize::try_from(MAX_PASSWORD).expect("1024 fits") + 1;
    // With its capacity given, the buffer does not grow and leaves no unwiped copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    io::Read::take(input, MAX_PASSWORD + 1).read_until(b'\n', &mut bytes)?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(io::Error::other("an empty password is not taken"));
    }
    if bytes.len() as u64 > MAX_PASSWORD {
        return Err(io::Error::other("the password is too long"));
    }
    let text = std::str::from_utf8(line).map_err(|_| io::Error::other("the password is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// While this lives, the terminal shows nothing that is typed. When the process is interrupted, the shell restores it.
struct Silence {
    before: Termios,
}

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ICANON | LocalModes::ISIG);
        // Flush: what was typed before the prompt is not meant as a password.
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // Nothing better can be done when this fails: the terminal is gone.
        let _restored = tcsetattr(io::stdin(), OptionalActions::Now, &self.before).is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Result<String, String> {
        line(&mut &*input).map(|text| text.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_line_without_its_end_is_the_password() {
        assert_eq!(read(b"s e\xC3\xA9cret \nnext").as_deref(), Ok("s e\u{e9}cret "));
        assert_eq!(read(b"secret\r\n").as_deref(), Ok("secret"));
        assert_eq!(read(b"secret").as_deref(), Ok("secret"));
    }

    #[test]
    fn what_cannot_be_a_password_is_refused() {
        assert!(read(b"").is_err() && read(b"\n").is_err() && read(b"\r\n").is_err());
        assert!(read(b"\xFF\n").is_err());
        assert!(read(&[b'x'; 1025]).is_err());
        assert!(read(&[b'x'; 5000]).is_err());
        assert!(read(&[b'x'; 1024]).is_ok());
    }
}
