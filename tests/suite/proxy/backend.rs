//! An API on loopback: it keeps every byte that it was sent, and answers what a test told it to.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How long a test waits for what must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The answer where a test said nothing.
pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// What to do once a request has come.
pub(super) enum Reply {
    /// These bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, and the end of the connection.
    Last(Vec<u8>),
    /// These bytes when the head is there, without a look at the body; then the body is read.
    Early(Vec<u8>),
    /// What comes out of the pipe, when it comes; the end of the connection when its other end is dropped.
    Piped(mpsc::Receiver<Vec<u8>>),
    /// Nothing, as long as the client waits.
    Silence,
    /// Neither an answer nor a look at the body.
    Deaf,
}

impl Reply {
    pub(super) fn text(head_and_body: &str) -> Self {
        Self::Bytes(head_and_body.as_bytes().to_vec())
    }

    pub(super) fn pipe() -> (mpsc::Sender<Vec<u8>>, Self) {
        let (sender, receiver) = mpsc::channel(16);
        (sender, Self::Piped(receiver))
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Counts the connections from 1.
    pub(super) connection: usize,
    /// Request line and header lines, with their ends.
    pub(super) head: String,
    /// The body as on the wire: chunks with their sizes.
    pub(super) body: Vec<u8>,
    /// Whether it came to its end.
    pub(super) whole: bool,
    /// The certificate that the client showed.
    pub(super) certificate: Option<Vec<u8>>,
}

impl Request {
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(super) fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    /// The values of all lines with this name.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// The value of the only line with this name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        match self.all(name).as_slice() {
            [] => None,
            [value] => Some(value),
            several => panic!("{name} stands {} times in {}", several.len(), self.head),
        }
    }
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    replies: VecDeque<Reply>,
    connections: usize,
    ended: usize,
}

/// A running API.
#[derive(Clone)]
pub(super) struct Backend {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
    _tasks: Arc<JoinSet<()>>,
    pub(super) url: String,
}

impl Backend {
    /// On TCP.
    pub(super) async fn start() -> Self {
        Self::on_tcp(None).await
    }

    /// On TCP with TLS.
    pub(super) async fn tls(config: ServerConfig) -> Self {
        Self::on_tcp(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    /// On all addresses of this machine; gives its port too.
    pub(super) async fn everywhere() -> (Self, u16) {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        (Self::listening(listener, None), port)
    }

    async fn on_tcp(tls: Option<TlsAcceptor>) -> Self {
        Self::listening(TcpListener::bind("127.0.0.1:0").await.expect("a free port"), tls)
    }

    fn listening(listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let port = listener.local_addr().expect("an address").port();
        let url = if tls.is_some() { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") };
        Self::with(url, |shared| async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (shared, tls) = (shared.clone(), tls.clone());
                connections.spawn(async move {
                    let Some(tls) = tls else { return shared.serve(tcp, None).await };
                    let Ok(stream) = tls.accept(tcp).await else { return };
                    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    let shown = shown.map(|leaf| leaf.to_vec());
                    shared.serve(stream, shown).await;
                });
            }
        })
    }

    /// On a socket of this machine.
    pub(super) fn unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a new socket");
        Self::with(format!("unix:{}", path.display()), |shared| async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                connections.spawn(async move { shared.serve(stream, None).await });
            }
        })
    }

    fn with<F: Future<Output = ()> + Send + 'static>(url: String, accept: impl FnOnce(Shared) -> F) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let changes = watch::Sender::new(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(Shared { state: Arc::clone(&state), changes: changes.clone() }));
        Self { state, changes, _tasks: Arc::new(tasks), url }
    }

    /// Answers the next request that nothing was said about yet.
    pub(super) fn answer(&self, reply: Reply) {
        self.state().replies.push_back(reply);
    }

    /// Everything that came so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// The only request that came.
    pub(super) fn only(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.into_iter().next().expect("one request")
    }

    /// The newest request.
    pub(super) fn last(&self) -> Request {
        self.requests().pop().expect("a request")
    }

    /// Connections so far.
    pub(super) fn connections(&self) -> usize {
        self.state().connections
    }

    /// Waits until so many connections have ended.
    pub(super) async fn ended(&self, count: usize) {
        self.until("the end of a connection", |state| state.ended >= count).await;
    }

    /// Waits until so many requests have come, at least their heads.
    pub(super) async fn came(&self, count: usize) {
        self.until("a request", |state| state.requests.len() >= count).await;
    }

    /// Waits until so many requests have come with all of their bodies.
    pub(super) async fn read_whole(&self, count: usize) {
        let whole = |state: &State| state.requests.iter().filter(|request| request.whole).count();
        self.until("the end of a request", |state| whole(state) >= count).await;
    }

    async fn until(&self, what: &str, done: impl Fn(&State) -> bool) {
        let mut changes = self.changes.subscribe();
        let waiting = async {
            while !done(&self.state()) {
                changes.changed().await.expect("the backend runs");
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("the backend waits for {what}"));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics in here")
    }
}

#[derive(Clone)]
struct Shared {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock().expect("no test panics in here"));
        self.changes.send_modify(|count| *count += 1);
        changed
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, certificate: Option<Vec<u8>>) {
        let connection = self.change(|state| {
            state.connections += 1;
            state.connections
        });
        let mut wire = Wire { stream, read: Vec::new() };
        while self.exchange(&mut wire, connection, certificate.clone()).await.is_some() {}
        self.change(|state| state.ended += 1);
    }

    /// One request and its answer; `None` when the connection is over.
    async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wire: &mut Wire<S>,
        connection: usize,
        certificate: Option<Vec<u8>>,
    ) -> Option<()> {
        let head = wire.take_through(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let request = Request { connection, head, body: Vec::new(), whole: false, certificate };
        let (chunked, length) = (request.header("transfer-encoding").is_some(), request.header("content-length"));
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        let (at, reply) = self.change(|state| {
            state.requests.push(request);
            (state.requests.len() - 1, state.replies.pop_front())
        });
        let reply = match reply {
            Some(Reply::Deaf) => {
                std::future::pending::<()>().await;
                return None;
            }
            Some(Reply::Early(bytes)) => {
                wire.stream.write_all(&bytes).await.ok()?;
                None
            }
            other => other.or_else(|| Some(Reply::Bytes(OK.to_vec()))),
        };
        if chunked {
            self.read_chunks(wire, at).await?;
        } else {
            self.read_body(wire, at, length).await?;
        }
        self.change(|state| state.requests[at].whole = true);
        match reply {
            None => Some(()),
            Some(Reply::Bytes(bytes)) => wire.stream.write_all(&bytes).await.ok(),
            Some(Reply::Last(bytes)) => {
                // A client that is gone already is what some tests are about.
                let _ = wire.stream.write_all(&bytes).await;
                let _ = wire.stream.shutdown().await;
                None
            }
            Some(Reply::Piped(pipe)) => {
                wire.pump(pipe).await;
                None
            }
            Some(Reply::Silence | Reply::Deaf | Reply::Early(_)) => {
                let mut rest = Vec::new();
                let _ = wire.stream.read_to_end(&mut rest).await;
                None
            }
        }
    }

    async fn read_body<S: AsyncRead + Unpin>(&self, wire: &mut Wire<S>, at: usize, length: usize) -> Option<()> {
        let mut left = length;
        while left > 0 {
            if wire.read.is_empty() {
                wire.more().await?;
            }
            let part: Vec<u8> = wire.read.drain(..left.min(wire.read.len())).collect();
            left -= part.len();
            self.change(|state| state.requests[at].body.extend(part));
        }
        Some(())
    }

    async fn read_chunks<S: AsyncRead + Unpin>(&self, wire: &mut Wire<S>, at: usize) -> Option<()> {
        loop {
            let line = wire.take_through(b"\r\n").await?;
            let digits = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(digits.trim(), 16).expect("a chunk's size and nothing else");
            self.change(|state| state.requests[at].body.extend(line));
            self.read_body(wire, at, size + 2).await?;
            if size == 0 {
                return Some(());
            }
        }
    }
}

struct Wire<S> {
    stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Wire<S> {
    async fn more(&mut self) -> Option<()> {
        (self.stream.read_buf(&mut self.read).await.ok()? > 0).then_some(())
    }

    async fn take_through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return Some(self.read.drain(..at + end.len()).collect());
            }
            self.more().await?;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Writes what comes out of the pipe, until either side is gone.
    async fn pump(&mut self, mut pipe: mpsc::Receiver<Vec<u8>>) {
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let mut byte = [0; 1];
        loop {
            tokio::select! {
                piece = pipe.recv() => match piece {
                    Some(piece) if writer.write_all(&piece).await.is_ok() => {}
                    Some(_) | None => break,
                },
                gone = reader.read(&mut byte) => if !matches!(gone, Ok(1..)) { break },
            }
        }
        let _ = writer.shutdown().await;
    }
}
