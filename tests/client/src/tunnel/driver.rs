//! The task of a tunnel: reads what the socket has, lets the machines work on all of it, writes one batch.

use std::future::pending;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

use super::{Ended, Settings, Shared};
use crate::{Error, clock};

/// TLS bytes taken from the socket at once.
const READ: usize = 256 << 10;
/// Sealed bytes that may wait for the socket: a batch of the stack.
const SEALED: usize = 512 << 10;
/// The last bytes and close_notify must leave within this.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// The TLS handshake; also gives the DER of the server's certificate.
pub(super) async fn handshake(
    tcp: &TcpStream,
    roots: RootCertStore,
    server_name: &str,
    settings: &Settings,
) -> Result<(ClientConnection, Vec<u8>), Error> {
    let name = ServerName::try_from(server_name.to_owned()).map_err(|_| Error::ServerName(server_name.to_owned()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions: &[_] = if settings.tls12_only { &[&TLS12] } else { &[&TLS12, &TLS13] };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_sni = settings.sni;
    config.alpn_protocols.clone_from(&settings.alpn);
    let mut tls = ClientConnection::new(Arc::new(config), name)?;
    tls.set_buffer_limit(Some(SEALED));
    let mut buffer = vec![0; 16 << 10];
    while tls.is_handshaking() || tls.wants_write() {
        if tls.wants_write() {
            match tls.write_tls(&mut Socket(tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.writable().await?,
                Err(error) => return Err(error.into()),
            }
            continue;
        }
        tcp.readable().await?;
        match tcp.try_read(&mut buffer) {
            Ok(0) => return Err(Error::Tcp(io::ErrorKind::UnexpectedEof)),
            Ok(count) => {
                let mut rest = buffer.get(..count).unwrap_or_default();
                while !rest.is_empty() {
                    tls.read_tls(&mut rest)?;
                    if let Err(error) = tls.process_new_packets() {
                        // The alert tells the server why.
                        let _ = tls.write_tls(&mut Socket(tcp));
                        return Err(error.into());
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    let certificate = tls.peer_certificates().and_then(<[_]>::first).map(|der| der.to_vec()).unwrap_or_default();
    Ok((tls, certificate))
}

/// Non-blocking writes.
struct Socket<'a>(&'a TcpStream);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Driver {
    tcp: TcpStream,
    tls: ClientConnection,
    shared: Arc<Shared>,
    /// TLS bytes as read.
    sealed: Vec<u8>,
    /// Plaintext on its way out, from `written` on.
    out: Vec<u8>,
    written: usize,
}

/// Runs until the call has ended and the last bytes are out.
pub(super) async fn run(tcp: TcpStream, tls: ClientConnection, shared: Arc<Shared>) {
    let mut driver = Driver { tcp, tls, shared, sealed: vec![0; READ], out: Vec::new(), written: 0 };
    // What came in the same flight as the end of the handshake.
    driver.deliver();
    driver.work().await;
    let _ = timeout(FAREWELL, driver.farewell()).await;
}

impl Driver {
    async fn work(&mut self) {
        loop {
            let Ok(blocked) = self.flush() else { return self.lost() };
            let (deadline, paused, ended) = {
                let mut core = self.shared.lock();
                let deadline = core.turn(clock::now(), !blocked, &mut self.out);
                (deadline, core.paused, core.ended.is_some())
            };
            if ended {
                return;
            }
            let Ok(blocked) = self.flush() else { return self.lost() };
            tokio::select! {
                ready = self.tcp.readable(), if !paused => match ready.and_then(|()| self.read()) {
                    Ok(true) => tokio::task::yield_now().await,
                    Ok(false) => {}
                    Err(_) => return self.lost(),
                },
                ready = self.tcp.writable(), if blocked => if ready.is_err() {
                    return self.lost();
                },
                () = self.shared.kick.notified() => {}
                () = sleep(deadline) => {}
            }
        }
    }

    /// Takes what the socket has; `false` when it had nothing.
    fn read(&mut self) -> io::Result<bool> {
        let count = match self.tcp.try_read(&mut self.sealed) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let sealed = std::mem::take(&mut self.sealed);
        let result = self.open(sealed.get(..count).unwrap_or_default());
        self.sealed = sealed;
        result.map(|()| true)
    }

    /// rustls takes 4 KiB at a time, and no more while plaintext waits.
    fn open(&mut self, mut sealed: &[u8]) -> io::Result<()> {
        while !sealed.is_empty() {
            if self.tls.read_tls(&mut sealed as &mut dyn Read)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 {
                self.deliver();
            }
            if state.peer_has_closed() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    fn deliver(&mut self) {
        let now = clock::now();
        let mut core = self.shared.lock();
        let mut reader = self.tls.reader();
        while let Ok(chunk) = reader.fill_buf() {
            let count = chunk.len();
            if count == 0 {
                return;
            }
            core.handle_input(chunk, now);
            reader.consume(count);
        }
    }

    /// Seals and writes; `true` when something could not leave.
    fn flush(&mut self) -> io::Result<bool> {
        loop {
            let waiting = self.out.get(self.written..).unwrap_or_default();
            if waiting.is_empty() {
                self.out.clear();
                self.written = 0;
            } else {
                self.written += self.tls.writer().write(waiting)?;
            }
            if !self.tls.wants_write() {
                return Ok(false);
            }
            match self.tls.write_tls(&mut Socket(&self.tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    fn lost(&self) {
        let mut core = self.shared.lock();
        core.sim.handle_closed();
        core.drain_events(clock::now());
        core.end(Ended::Lost);
    }

    /// The last plaintext, close_notify, FIN.
    async fn farewell(&mut self) -> io::Result<()> {
        self.shared.lock().sim.poll_transmit(&mut self.out);
        while self.flush()? {
            self.tcp.writable().await?;
        }
        self.tls.send_close_notify();
        while self.flush()? {
            self.tcp.writable().await?;
        }
        tokio::io::AsyncWriteExt::shutdown(&mut self.tcp).await
    }
}

async fn sleep(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}
