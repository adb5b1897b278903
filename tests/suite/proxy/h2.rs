//! HTTP/2 frame by frame (RFC 9113), for what no library would send. Header blocks are literals without Huffman code
//! and without the dynamic table (RFC 7541 section 6.2.2). Of answers only the frames' kinds and bodies are read: what
//! the proxy says stands in the body too.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::time::timeout;

use super::backend::PATIENCE;
use super::bench::{Bench, ORDERS};

pub(super) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// What came for a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Got {
    pub(super) headers: bool,
    pub(super) body: Vec<u8>,
    pub(super) ended: bool,
    pub(super) reset: Option<u32>,
}

impl Got {
    pub(super) fn problem(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A client's end of an HTTP/2 connection on port 80.
pub(crate) struct Frames<S = DuplexStream> {
    stream: S,
    read: Vec<u8>,
    next: u32,
    streams: BTreeMap<u32, Got>,
    /// How much may be sent on a stream, and on all.
    pub(super) windows: (u32, u32),
    pub(crate) goaway: Option<u32>,
    pub(super) closed: bool,
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's length").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block.
pub(crate) fn block(lines: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in lines {
        block.push(0);
        for text in [name.as_bytes(), value] {
            push_length(&mut block, text.len());
            block.extend(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn push_length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(length as u8);
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The pseudo-header fields of a request for a path of the orders.
pub(super) fn pseudo<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a [u8])> {
    vec![
        (":method", method.as_bytes()),
        (":scheme", b"http"),
        (":authority", ORDERS.as_bytes()),
        (":path", path.as_bytes()),
    ]
}

/// So many requests, each taken back at once, on streams from this one on.
pub(crate) fn rapid_resets(block: &[u8], first: u32, count: u32) -> Vec<u8> {
    let mut burst = Vec::new();
    for number in (first..).step_by(2).take(count as usize) {
        burst.extend(frame(HEADERS, END_HEADERS | END_STREAM, number, block));
        burst.extend(frame(RST_STREAM, 0, number, &8u32.to_be_bytes()));
    }
    burst
}

impl Frames {
    /// Opens a connection to the orders with prior knowledge.
    pub(super) async fn open(bench: &Bench) -> Self {
        Self::over(bench.stream(&bench.alice(), ORDERS, 80)).await
    }

    /// Opens a connection whose client takes everything, as far as HTTP/2 is asked, and asks so often for the same.
    /// Nothing is read.
    pub(super) async fn greedy(bench: &Bench, requests: usize) -> Self {
        let mut frames = Self::open(bench).await;
        let most = 0x7fff_ffffu32;
        let mut bytes = frame(SETTINGS, 0, 0, &[&[0, 4][..], &most.to_be_bytes()].concat());
        bytes.extend(frame(WINDOW_UPDATE, 0, 0, &(most - 65_535).to_be_bytes()));
        for _ in 0..requests {
            let number = frames.number();
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, number, &block(&pseudo("GET", "/v1/orders"))));
        }
        timeout(PATIENCE, frames.stream.write_all(&bytes)).await.expect("room").expect("a connection");
        frames
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// Begins with prior knowledge on a stream that was opened.
    pub(crate) async fn over(stream: S) -> Self {
        let (streams, windows) = (BTreeMap::new(), (65_535, 65_535));
        let mut frames = Self { stream, read: Vec::new(), next: 1, streams, windows, goaway: None, closed: false };
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(frame(SETTINGS, 0, 0, &[]));
        assert!(frames.write(&hello).await);
        frames
    }

    /// The number of a new stream.
    pub(super) fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 2;
        number
    }

    /// Sends bytes, reading meanwhile; tells whether the connection took them; none that the server
    /// has closed does.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let read = &mut self.read;
        let reading = async { while matches!(reader.read_buf(read).await, Ok(1..)) {} };
        tokio::select! {
            written = timeout(PATIENCE, writer.write_all(bytes)) => matches!(written, Ok(Ok(()))),
            () = reading => false,
        }
    }

    /// A whole request; gives back its stream.
    pub(super) async fn request(&mut self, lines: &[(&str, &[u8])], body: Option<&[u8]>) -> u32 {
        let number = self.number();
        let end = if body.is_none() { END_STREAM } else { 0 };
        let mut bytes = frame(HEADERS, END_HEADERS | end, number, &block(lines));
        if let Some(body) = body {
            bytes.extend(frame(DATA, END_STREAM, number, body));
        }
        self.write(&bytes).await;
        number
    }

    /// What comes for this stream until it ends, or until the connection does.
    pub(super) async fn outcome(&mut self, stream: u32) -> Got {
        let waiting = async {
            loop {
                let got = self.streams.entry(stream).or_default();
                if got.ended || got.reset.is_some() || self.closed {
                    return got.clone();
                }
                self.step().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("an outcome in time")
    }

    /// Waits until this body has come, without its end.
    pub(super) async fn came(&mut self, stream: u32, body: &[u8]) {
        let waiting = async {
            while self.streams.get(&stream).is_none_or(|got| got.body != body) && !self.closed {
                self.step().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("the body in time");
    }

    /// A request and what comes of it.
    pub(super) async fn ask(&mut self, lines: &[(&str, &[u8])], body: Option<&[u8]>) -> Got {
        let number = self.request(lines, body).await;
        self.outcome(number).await
    }

    /// Reads until the connection ends.
    pub(crate) async fn until_closed(&mut self) {
        let waiting = async {
            while !self.closed {
                self.step().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("the end in time");
    }

    /// Waits until so many streams were reset, and gives back their codes.
    pub(super) async fn resets(&mut self, count: usize) -> Vec<u32> {
        let waiting = async {
            loop {
                let codes: Vec<u32> = self.streams.values().filter_map(|got| got.reset).collect();
                if codes.len() >= count || self.closed {
                    return codes;
                }
                self.step().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("resets in time")
    }

    /// One frame, or the end.
    async fn step(&mut self) {
        while self.read.len() < 9 {
            if !self.more().await {
                return;
            }
        }
        let length = u32::from_be_bytes([0, self.read[0], self.read[1], self.read[2]]) as usize;
        while self.read.len() < 9 + length {
            if !self.more().await {
                return;
            }
        }
        let frame: Vec<u8> = self.read.drain(..9 + length).collect();
        let (kind, flags) = (frame[3], frame[4]);
        let stream = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]);
        let payload = &frame[9..];
        let code = |at: usize| payload.get(at..at + 4).map(|code| u32::from_be_bytes(code.try_into().expect("four")));
        match kind {
            DATA => {
                let got = self.streams.entry(stream).or_default();
                got.body.extend(payload);
                got.ended |= flags & END_STREAM != 0;
            }
            HEADERS => {
                let got = self.streams.entry(stream).or_default();
                got.headers = true;
                got.ended |= flags & END_STREAM != 0;
            }
            RST_STREAM => self.streams.entry(stream).or_default().reset = code(0),
            GOAWAY => self.goaway = code(4),
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6).filter(|setting| setting.starts_with(&[0, 4])) {
                    self.windows.0 = u32::from_be_bytes(setting[2..].try_into().expect("four"));
                }
                self.write(&super::h2::frame(SETTINGS, ACK, 0, &[])).await;
            }
            WINDOW_UPDATE if stream == 0 => self.windows.1 += code(0).expect("an increment"),
            PING if flags & ACK == 0 => drop(self.write(&super::h2::frame(PING, ACK, 0, payload)).await),
            _ => {}
        }
    }

    async fn more(&mut self) -> bool {
        let more = matches!(self.stream.read_buf(&mut self.read).await, Ok(1..));
        self.closed |= !more;
        more
    }
}
