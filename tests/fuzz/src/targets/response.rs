//! What an upstream answers, read as a response to a request of ours.

use bytes::{BufMut as _, BytesMut};
use wicketgate::upstream::http1::{Event, Head, Reader, Unreadable};

const MAX_HEAD: usize = 1024;

/// The first byte says whether the request was HEAD, the second how the rest, what the upstream sends, is cut. Any cut
/// gives the same response, or the same reason why it is none.
pub(crate) fn bytes(bytes: &[u8]) {
    let [choice, cut, stream @ ..] = bytes else { return };
    let method = if choice & 1 == 0 { "GET" } else { "HEAD" };
    let whole = Outcome::of(method, [stream]);
    let cut = usize::from(*cut);
    let (first, second) = stream.split_at(cut.min(stream.len()));
    let head_is_long = |outcome: &Outcome| matches!(outcome.wrong, Some(Unreadable::HeadTooLong { .. }));
    for cut in [Outcome::of(method, [first, second]), Outcome::of(method, stream.chunks(1 + cut % 7))] {
        // A head that is wrong may be found too long before it is found wrong.
        if !head_is_long(&whole) && !head_is_long(&cut) {
            assert_eq!(cut, whole);
        }
    }
    assert!(whole.body.len() <= stream.len(), "more of a body than came");
    assert!(whole.body.is_empty() || (whole.head.is_some() && method == "GET"), "a body without a head");
}

/// What the reader made of some bytes and the end of the connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    head: Option<Head>,
    body: Vec<u8>,
    over: bool,
    wrong: Option<Unreadable>,
}

impl Outcome {
    fn of<'a>(method: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut reader = Reader::new(method, MAX_HEAD, BytesMut::new());
        let mut outcome = Self::default();
        let read = pieces.into_iter().try_for_each(|piece| {
            reader.buffer().put_slice(piece);
            outcome.take(&mut reader)
        });
        let read = read.and_then(|()| reader.handle_eof()).and_then(|()| outcome.take(&mut reader));
        outcome.wrong = read.err();
        outcome
    }

    fn take(&mut self, reader: &mut Reader) -> Result<(), Unreadable> {
        while let Some(event) = reader.poll()? {
            match event {
                Event::Head(head) => {
                    assert!(!head.status.is_informational());
                    let before = self.head.replace(head);
                    assert_eq!(before, None, "one head");
                }
                Event::Data(data) => {
                    assert!(!data.is_empty());
                    self.body.extend_from_slice(&data);
                }
                Event::Over => {
                    assert!(reader.is_over() && reader.left() == Some(0));
                    self.over = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
