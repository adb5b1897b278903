//! A client that sends any bytes and reads HTTP/1.1 answers.

use std::fmt;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::backend::PATIENCE;
use super::bench::ORDERS;

/// A client's end of a stream.
pub(super) struct Door<S> {
    stream: S,
    read: Vec<u8>,
}

/// An answer.
#[derive(Clone, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    /// Without chunk sizes.
    pub(super) body: Vec<u8>,
    /// The statuses of 1xx before it.
    pub(super) interim: Vec<u16>,
    /// The stream ended before the answer did.
    pub(super) cut: bool,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, headers, body, interim, cut } = self;
        write!(f, "{status}, cut: {cut}, interim: {interim:?}, {headers:?}, {}", body.escape_ascii())
    }
}

impl Answer {
    /// The value of the only line with this name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = found.next();
        assert!(found.next().is_none(), "{name} stands twice in {self:?}");
        value
    }

    /// The members of problem+json.
    pub(super) fn problem(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no problem+json: {self:?}"))
    }

    pub(super) fn reason(&self) -> String {
        self.problem()["reason"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn decision(&self) -> String {
        let decision = self.problem()["decision_id"].as_str().unwrap_or_default().to_owned();
        assert!(decision.starts_with("d-"), "{self:?}");
        decision
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request without a body.
pub(super) fn get(target: &str) -> String {
    request("GET", target, "")
}

/// A request to the orders; `lines` are its further lines, with their ends.
pub(super) fn request(method: &str, target: &str, lines: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: {ORDERS}\r\n{lines}\r\n")
}

/// A POST with a body.
pub(super) fn post(target: &str, body: &str) -> String {
    request("POST", target, &format!("Content-Length: {}\r\n", body.len())) + body
}

impl<S: AsyncRead + AsyncWrite + Unpin> Door<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// GET of a path of the orders.
    pub(super) async fn get(&mut self, target: &str) -> Answer {
        self.send(get(target)).await
    }

    /// Sends bytes and reads one whole answer, which may come before the last byte went.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        let bytes = bytes.as_ref();
        let bodiless = bytes.starts_with(b"HEAD ");
        let Self { stream, read } = self;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let writing = async {
            // A server that refuses early may close while this is written; its answer counts.
            let _ = writer.write_all(bytes).await;
            std::future::pending::<()>().await;
        };
        let mut wire = Reading { reader: &mut reader, read };
        tokio::select! {
            answer = timeout(PATIENCE, wire.answer(bodiless)) => answer.expect("an answer in time"),
            () = writing => unreachable!("it waits for the answer"),
        }
    }

    /// Sends bytes and does not wait.
    pub(super) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("room in time").expect("an open stream");
    }

    /// As [`Door::write`]; tells whether the stream took it.
    pub(super) async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        matches!(timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await, Ok(Ok(())))
    }

    /// Says that nothing more will be sent.
    pub(super) async fn finish(&mut self) {
        self.stream.shutdown().await.expect("an open stream");
    }

    /// Reads one whole answer.
    pub(super) async fn answer(&mut self) -> Answer {
        self.send(b"").await
    }

    /// Reads until this text has come, and gives back everything up to its end.
    pub(super) async fn read_through(&mut self, text: &str) -> String {
        let Self { stream, read } = self;
        let mut wire = Reading { reader: stream, read };
        let taken = timeout(PATIENCE, wire.take_through(text.as_bytes())).await.expect("the text in time");
        String::from_utf8_lossy(&taken.expect("the text before the end")).into_owned()
    }

    /// Waits for the end of the stream and gives back what came before it.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let Self { stream, read } = self;
        // An end without close_notify is an end.
        let _ = timeout(PATIENCE, stream.read_to_end(read)).await.expect("the end in time");
        std::mem::take(read)
    }

    /// Checks that the stream ends here.
    pub(super) async fn check_closed(&mut self) {
        let rest = self.rest().await;
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
    }
}

/// The half that reads.
struct Reading<'a, R> {
    reader: &'a mut R,
    read: &'a mut Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reading<'_, R> {
    async fn more(&mut self) -> Option<()> {
        (self.reader.read_buf(self.read).await.ok()? > 0).then_some(())
    }

    async fn take_through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return Some(self.read.drain(..at + end.len()).collect());
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, count: usize, body: &mut Vec<u8>) -> Option<()> {
        while self.read.len() < count {
            if self.more().await.is_none() {
                body.append(self.read);
                return None;
            }
        }
        body.extend(self.read.drain(..count));
        Some(())
    }

    async fn answer(&mut self, bodiless: bool) -> Answer {
        let mut answer = Answer::default();
        loop {
            let Some(head) = self.take_through(b"\r\n\r\n").await else { return Answer { cut: true, ..answer } };
            let head = String::from_utf8_lossy(&head).into_owned();
            let mut lines = head.lines();
            let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
            answer.status = status.unwrap_or_else(|| panic!("a status line: {head}"));
            if answer.status >= 200 {
                let fields = lines.filter_map(|line| line.split_once(':'));
                answer.headers =
                    fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
                break;
            }
            answer.interim.push(answer.status);
        }
        if !bodiless && !matches!(answer.status, 204 | 304) {
            answer.cut = self.body(&mut answer).await.is_none();
        }
        answer
    }

    /// `None` when the stream ends first.
    async fn body(&mut self, answer: &mut Answer) -> Option<()> {
        if answer.header("transfer-encoding").is_some() {
            loop {
                let line = self.take_through(b"\r\n").await?;
                let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).expect("a chunk's size");
                self.take(size, &mut answer.body).await?;
                self.take_through(b"\r\n").await?;
                if size == 0 {
                    return Some(());
                }
            }
        }
        let length = answer.header("content-length").map(|length| length.parse().expect("a length"));
        match length {
            Some(length) => self.take(length, &mut answer.body).await,
            None => {
                while self.more().await.is_some() {}
                answer.body.append(self.read);
                Some(())
            }
        }
    }
}
