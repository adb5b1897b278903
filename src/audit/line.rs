//! One JSON object on one line, written by hand into a buffer that is used again and again.
//!
//! Whatever bytes come in, the result is one line of valid JSON: strings are escaped by `serde_json`'s rules, bytes
//! that are not UTF-8 become U+FFFD, and texts longer than `longest` are cut, which the line then says by `"cut":true`.

use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;

/// A field's name as it stands in a line, with the comma before it: `,"name":`. Made by [`key!`].
#[derive(Clone, Copy)]
pub(super) struct Key(pub(super) &'static str);

/// The key of a field. Keys are our own words and need no escaping.
macro_rules! key {
    ($name:literal) => {
        $crate::audit::line::Key(concat!(",\"", $name, "\":"))
    };
}
pub(super) use key;

/// Writes the fields of one object.
pub(super) struct Line<'a> {
    buffer: &'a mut Vec<u8>,
    /// The longest text in bytes before escaping.
    longest: usize,
    /// Whether a text was cut.
    cut: bool,
}

/// Fields that were written before, to be said in many lines.
#[derive(Clone, Debug)]
pub(super) struct Fragment {
    bytes: Vec<u8>,
    cut: bool,
}

impl Fragment {
    /// The fields that `write` adds; an object that it leaves open is open.
    pub(super) fn of(longest: usize, write: impl FnOnce(&mut Line<'_>)) -> Self {
        let mut bytes = Vec::new();
        let mut line = Line { buffer: &mut bytes, longest, cut: false };
        write(&mut line);
        let cut = line.cut;
        Self { bytes, cut }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

const TAKES_ALL: &str = "a Vec takes everything";

impl<'a> Line<'a> {
    /// Begins the outermost object, behind what is in the buffer.
    pub(super) fn new(buffer: &'a mut Vec<u8>, longest: usize) -> Self {
        buffer.push(b'{');
        Self { buffer, longest, cut: false }
    }

    /// Ends the line.
    pub(super) fn end(mut self) {
        if self.cut {
            self.key(key!("cut"));
            self.buffer.extend_from_slice(b"true");
        }
        self.buffer.extend_from_slice(b"}\n");
    }

    /// Begins a field.
    fn key(&mut self, key: Key) {
        let Key(key) = key;
        let key = key.as_bytes();
        self.buffer.extend_from_slice(if self.is_first() { &key[1..] } else { key });
    }

    fn is_first(&self) -> bool {
        matches!(self.buffer.last(), None | Some(b'{' | b'['))
    }

    fn comma(&mut self) {
        if !self.is_first() {
            self.buffer.push(b',');
        }
    }

    fn string(&mut self, text: &str) {
        self.string_within(text, self.longest);
    }

    fn string_within(&mut self, text: &str, longest: usize) {
        let end = if text.len() > longest {
            self.cut = true;
            text.floor_char_boundary(longest)
        } else {
            text.len()
        };
        let text = &text[..end];
        // Nearly all texts need no escape, and to see that costs less than to look for one byte by byte.
        let plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
        if text.bytes().fold(true, |all, byte| all & plain(byte)) {
            self.quoted(text.as_bytes());
        } else {
            serde_json::to_writer(&mut *self.buffer, text).expect(TAKES_ALL);
        }
    }

    pub(super) fn text(&mut self, key: Key, text: &str) {
        self.key(key);
        self.string(text);
    }

    /// A text of which `least` bytes are kept at the least, however much is cut of others.
    pub(super) fn name(&mut self, key: Key, text: &str, least: usize) {
        self.key(key);
        self.string_within(text, self.longest.max(least));
    }

    /// Bytes that a stranger sent and that should be text.
    pub(super) fn bytes(&mut self, key: Key, bytes: &[u8]) {
        self.key(key);
        self.string(&String::from_utf8_lossy(bytes));
    }

    pub(super) fn number(&mut self, key: Key, number: u64) {
        self.key(key);
        self.buffer.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Our own word, of letters and marks that JSON does not escape.
    pub(super) fn own(&mut self, key: Key, word: &'static str) {
        self.word(key, word.as_bytes());
    }

    /// Letters, digits and marks that JSON does not escape: ids and times.
    pub(super) fn word(&mut self, key: Key, word: &[u8]) {
        self.key(key);
        self.quoted(word);
    }

    fn quoted(&mut self, text: &[u8]) {
        self.buffer.push(b'"');
        self.buffer.extend_from_slice(text);
        self.buffer.push(b'"');
    }

    /// The outer address of a client.
    pub(super) fn address(&mut self, key: Key, address: SocketAddr) {
        let SocketAddr::V4(address) = address else { return self.plain(key, address) };
        self.key(key);
        self.buffer.push(b'"');
        for (at, octet) in address.ip().octets().into_iter().enumerate() {
            if at > 0 {
                self.buffer.push(b'.');
            }
            self.buffer.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
        }
        self.buffer.push(b':');
        self.buffer.extend_from_slice(itoa::Buffer::new().format(address.port()).as_bytes());
        self.buffer.push(b'"');
    }

    /// What prints as letters, digits and marks that JSON does not escape: sessions and addresses.
    pub(super) fn plain(&mut self, key: Key, value: impl fmt::Display) {
        self.key(key);
        write!(self.buffer, "\"{value}\"").expect(TAKES_ALL);
    }

    /// The first `most` of a list of texts; more than that counts as a cut.
    pub(super) fn texts<'t>(&mut self, key: Key, texts: impl IntoIterator<Item = &'t str>, most: usize) {
        self.key(key);
        self.buffer.push(b'[');
        for (index, text) in texts.into_iter().enumerate() {
            if index == most {
                self.cut = true;
                break;
            }
            self.comma();
            self.string(text);
        }
        self.buffer.push(b']');
    }

    pub(super) fn object(&mut self, key: Key, fields: impl FnOnce(&mut Self)) {
        self.open(key);
        fields(self);
        self.close();
    }

    /// Begins an object.
    pub(super) fn open(&mut self, key: Key) {
        self.key(key);
        self.buffer.push(b'{');
    }

    /// Ends what was begun.
    pub(super) fn close(&mut self) {
        self.buffer.push(b'}');
    }

    /// Adds what was written before.
    pub(super) fn fields(&mut self, fragment: &Fragment) {
        self.comma();
        self.buffer.extend_from_slice(&fragment.bytes);
        self.cut |= fragment.cut;
    }

    /// The first `most` of a list of objects; more than that counts as a cut.
    pub(super) fn objects<T>(
        &mut self,
        key: Key,
        items: impl IntoIterator<Item = T>,
        most: usize,
        mut fields: impl FnMut(&mut Self, T),
    ) {
        self.key(key);
        self.buffer.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index == most {
                self.cut = true;
                break;
            }
            self.comma();
            self.buffer.push(b'{');
            fields(self, item);
            self.buffer.push(b'}');
        }
        self.buffer.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(longest: usize, fields: impl FnOnce(&mut Line<'_>)) -> serde_json::Value {
        let mut buffer = Vec::new();
        let mut line = Line::new(&mut buffer, longest);
        fields(&mut line);
        line.end();
        assert_eq!(buffer.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        assert_eq!(buffer.last(), Some(&b'\n'));
        serde_json::from_slice(&buffer).unwrap()
    }

    proptest! {
        #[test]
        fn any_strings_come_out_as_they_went_in(one: String, many: Vec<String>, number: u64) {
            let value = written(usize::MAX, |line| {
                line.text(key!("one"), &one);
                line.number(key!("number"), number);
                line.object(key!("inner"), |line| line.texts(key!("many"), many.iter().map(String::as_str), usize::MAX));
                line.objects(key!("each"), &many, usize::MAX, |line, text| line.text(key!("text"), text));
            });
            prop_assert_eq!(&value["one"], one.as_str());
            prop_assert_eq!(value["number"].as_u64(), Some(number));
            prop_assert_eq!(&value["inner"]["many"], &serde_json::json!(many));
            prop_assert_eq!(value["each"].as_array().map(Vec::len), Some(many.len()));
            prop_assert_eq!(&value["cut"], &serde_json::Value::Null);
        }

        #[test]
        fn any_bytes_come_out_as_text(bytes: Vec<u8>) {
            let value = written(usize::MAX, |line| line.bytes(key!("bytes"), &bytes));
            prop_assert_eq!(value["bytes"].as_str(), Some(&*String::from_utf8_lossy(&bytes)));
        }

        #[test]
        fn a_cut_text_is_a_beginning_and_is_marked(text in ".{0,40}", longest in 0_usize..40) {
            let value = written(longest, |line| line.text(key!("text"), &text));
            let kept = value["text"].as_str().unwrap();
            prop_assert!(text.starts_with(kept) && kept.len() <= longest.max(text.len().min(longest)));
            prop_assert_eq!(value["cut"].as_bool().unwrap_or(false), text.len() > longest);
        }
    }

    #[test]
    fn a_line_in_a_string_stays_one_line() {
        let value = written(99, |line| line.text(key!("text"), "a\n{\"event\":\"decision\"}\r\u{2028}\u{0}"));
        assert_eq!(value["text"], "a\n{\"event\":\"decision\"}\r\u{2028}\u{0}");
    }

    #[test]
    fn long_lists_are_cut_and_marked() {
        let value = written(99, |line| line.texts(key!("list"), ["a", "b", "c"], 2));
        assert_eq!(value, serde_json::json!({"list": ["a", "b"], "cut": true}));
        let value = written(99, |line| line.objects(key!("list"), [1, 2], 1, |line, n| line.number(key!("n"), n)));
        assert_eq!(value, serde_json::json!({"list": [{"n": 1}], "cut": true}));
    }

    #[test]
    fn fields_that_were_written_before_are_like_others() {
        let fragment = |longest| {
            Fragment::of(longest, |line| {
                line.text(key!("a"), "text");
                line.open(key!("b"));
                line.number(key!("c"), 1);
            })
        };
        let around = |fragment: &Fragment, before: bool| {
            written(99, |line| {
                if before {
                    line.number(key!("first"), 0);
                }
                line.fields(fragment);
                line.number(key!("d"), 2);
                line.close();
            })
        };
        let fields = serde_json::json!({"a": "text", "b": {"c": 1, "d": 2}});
        assert_eq!(around(&fragment(9), false), fields);
        assert_eq!(around(&fragment(9), true)["b"], fields["b"]);
        assert_eq!(around(&fragment(2), false)["cut"], true, "a cut is a cut of every line");
    }

    #[test]
    fn empty_objects_and_lists_are_valid() {
        let value = written(99, |line| {
            line.object(key!("a"), |_| {});
            line.texts(key!("b"), [], 9);
            line.plain(key!("c"), 7);
        });
        assert_eq!(value, serde_json::json!({"a": {}, "b": [], "c": "7"}));
    }
}
