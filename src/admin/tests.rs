use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

#[derive(Default)]
struct Server {
    reasons: Vec<String>,
    ended: Mutex<Vec<SessionId>>,
}

impl Operations for Server {
    fn ready(&self) -> Result<(), Vec<String>> {
        if self.reasons.is_empty() { Ok(()) } else { Err(self.reasons.clone()) }
    }

    fn metrics(&self) -> String {
        "wicketgate_tunnels 1\n".to_owned()
    }

    fn sessions(&self) -> Vec<SessionRow> {
        vec![row()]
    }

    fn end_session(&self, id: SessionId) -> bool {
        self.ended.lock().unwrap().push(id);
        id == SessionId::from_random(7)
    }
}

fn row() -> SessionRow {
    SessionRow {
        id: SessionId::from_random(7).to_string(),
        user: "alice".to_owned(),
        source: "192.0.2.7".parse().unwrap(),
        method: "mschapv2".to_owned(),
        binding: "keys".to_owned(),
        since: "2026-11-23T22:06:00.123Z".to_owned(),
        age: 61,
        streams: 2,
        requests: 9,
    }
}

/// A served admin with both its doors.
struct Admin {
    address: std::net::SocketAddr,
    socket: PathBuf,
    stop: oneshot::Sender<()>,
    tasks: JoinSet<()>,
    _directory: tempfile::TempDir,
}

async fn admin(server: Arc<Server>) -> Admin {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let mut tasks = JoinSet::new();
    let bound = AdminSocket::bind(&socket).unwrap();
    tasks.spawn(serve(listener, bound, server, async {
        stopped.await.unwrap();
    }));
    Admin { address, socket, stop, tasks, _directory: directory }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    let head = format!("{request} HTTP/1.1\r\nHost: admin\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

impl Admin {
    async fn tcp(&self, request: &str) -> String {
        ask(TcpStream::connect(self.address).await.unwrap(), request).await
    }

    async fn unix(&self, request: &str) -> String {
        ask(UnixStream::connect(&self.socket).await.unwrap(), request).await
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn health_readiness_and_metrics_answer_on_the_address() {
    run(async {
        let admin = admin(Arc::default()).await;
        assert!(admin.tcp("GET /healthz").await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(admin.tcp("HEAD /healthz").await.ends_with("\r\n\r\n"));
        assert!(admin.tcp("GET /readyz").await.ends_with("\r\n\r\nready\n"));
        let metrics = admin.tcp("GET /metrics").await;
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
        assert!(metrics.ends_with("wicketgate_tunnels 1\n"), "{metrics}");
    });
}

#[test]
fn a_server_that_is_not_ready_says_why() {
    run(async {
        let reasons = vec!["no policy bundle".to_owned(), "draining".to_owned()];
        let admin = admin(Arc::new(Server { reasons, ..Server::default() })).await;
        let answer = admin.tcp("GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("not ready\nno policy bundle\ndraining\n"), "{answer}");
        assert!(admin.tcp("GET /healthz").await.starts_with("HTTP/1.1 200 "), "alive all the same");
    });
}

#[test]
fn sessions_do_not_exist_on_the_address_nor_health_on_the_socket() {
    run(async {
        let server = Arc::new(Server::default());
        let admin = admin(Arc::clone(&server)).await;
        assert!(admin.tcp("GET /sessions").await.starts_with("HTTP/1.1 404 "));
        assert!(admin.tcp("DELETE /sessions/s-0000000000000007").await.starts_with("HTTP/1.1 404 "));
        assert!(server.ended.lock().unwrap().is_empty());
        assert!(admin.unix("GET /metrics").await.starts_with("HTTP/1.1 404 "));
    });
}

#[test]
fn sessions_are_listed_and_ended_on_the_socket() {
    run(async {
        let server = Arc::new(Server::default());
        let admin = admin(Arc::clone(&server)).await;
        let answer = admin.unix("GET /sessions").await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(serde_json::from_str::<Vec<SessionRow>>(body).unwrap(), [row()]);
        assert!(admin.unix("DELETE /sessions/s-0000000000000007").await.starts_with("HTTP/1.1 204 "));
        assert!(admin.unix("DELETE /sessions/s-0000000000000008").await.starts_with("HTTP/1.1 404 "));
        assert!(admin.unix("DELETE /sessions/7").await.starts_with("HTTP/1.1 400 "));
        assert_eq!(*server.ended.lock().unwrap(), [SessionId::from_random(7), SessionId::from_random(8)]);
    });
}

#[test]
fn other_methods_are_told_which_ones_there_are() {
    run(async {
        let admin = admin(Arc::default()).await;
        let answer = admin.tcp("POST /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD"), "{answer}");
        let answer = admin.unix("GET /sessions/s-0000000000000007").await;
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: DELETE"), "{answer}");
    });
}

#[test]
fn a_connection_carries_one_request() {
    run(async {
        let admin = admin(Arc::default()).await;
        let answer = admin.tcp("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz").await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    });
}

#[test]
fn shutdown_ends_the_listeners_and_removes_the_socket() {
    run(async {
        let mut admin = admin(Arc::default()).await;
        admin.unix("GET /sessions").await;
        admin.stop.send(()).unwrap();
        admin.tasks.join_next().await.unwrap().unwrap();
        assert!(!admin.socket.exists());
        assert!(TcpStream::connect(admin.address).await.is_err());
    });
}

#[test]
fn a_silent_connection_does_not_keep_others_out() {
    run(async {
        let admin = admin(Arc::default()).await;
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS - 1 {
            silent.push(TcpStream::connect(admin.address).await.unwrap());
        }
        assert!(admin.tcp("GET /healthz").await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn a_probe_waits_for_silent_connections_no_longer_than_a_head_may_take() {
    run(async {
        let admin = admin(Arc::default()).await;
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(admin.address).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
            silent.push(stream);
        }
        let probe = tokio::time::timeout(Duration::from_secs(3), admin.tcp("GET /healthz")).await;
        assert!(probe.expect("a place").starts_with("HTTP/1.1 200 "));
    });
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_socket_is_for_its_owner_only() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let _socket = AdminSocket::bind(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
    });
}

#[test]
fn the_socket_of_a_dead_server_is_replaced_and_that_of_a_living_one_is_not() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead server leaves its file");
        let living = AdminSocket::bind(&path).unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::InUse { .. })));
        drop(living);
        assert!(!path.exists());
    });
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    });
}
