//! A socket to a TLS stream, and the first bytes on it.
//!
//! [`Acceptor`] accepts and hands each socket to the shard with the fewest connections; a [`shard`] is a thread with a
//! runtime of its own, where the connection then lives to its end; [`establish`] does there what is common to all
//! connections: TLS, the first HTTP head, and static answers to what is not SSTP.

mod admission;
mod ceiling;
pub mod establish;
pub mod shard;
pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

pub use admission::{Admission, Admissions};
pub use ceiling::Ceiling;
use establish::{Refused, report};
use shard::Shard;

use crate::clock;

/// How long the acceptor rests when the process has no file descriptor left.
const REST: Duration = Duration::from_millis(100);

/// The limits of `[listen]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Connections that have not logged in.
    pub max_unauthenticated: usize,
    /// The same, from one address (IPv6: from one /64, and eight times as many from one /48).
    pub max_unauthenticated_per_source: usize,
}

/// An accepted socket, on its way to a shard.
pub struct Accepted {
    /// The socket, non-blocking.
    pub socket: std::net::TcpStream,
    /// The outer peer.
    pub peer: SocketAddr,
    /// Its place among the connections that have not logged in.
    pub admission: Admission,
}

/// Accepts connections and spreads them over the shards.
pub struct Acceptor {
    listener: TcpListener,
    admissions: Arc<Admissions>,
    shards: Vec<Shard>,
}

impl Acceptor {
    /// Accepts on a bound listener.
    pub fn new(listener: TcpListener, config: Config, shards: Vec<Shard>) -> Self {
        Self { listener, admissions: Arc::new(Admissions::new(config)), shards }
    }

    /// Runs until it is dropped. A place is taken before a connection is accepted, so overload waits in the kernel's
    /// backlog.
    pub async fn run(&self) {
        let mut lines = Ceiling::new(clock::now());
        loop {
            let place = match self.admissions.free_place() {
                Some(place) => place,
                None => {
                    if lines.admit(clock::now()) {
                        let cure = "raise [listen] max_unauthenticated, or find who does not log in";
                        tracing::warn!(layer = "accept", cure, "new connections wait: all places are taken");
                    }
                    self.admissions.place().await
                }
            };
            match self.listener.accept().await {
                Ok((socket, peer)) => {
                    let admitted = self.admissions.admit(place, peer.ip()).ok_or(Refused::TooManyOfSource);
                    if let Err(refused) = admitted.and_then(|admission| self.hand_over(socket, peer, admission)) {
                        report(peer, &refused, lines.admit(clock::now()));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn hand_over(&self, socket: tokio::net::TcpStream, peer: SocketAddr, admission: Admission) -> Result<(), Refused> {
        socket.set_nodelay(true).map_err(Refused::NotHandedOver)?;
        let socket = socket.into_std().map_err(Refused::NotHandedOver)?;
        // One whose thread is gone has no connections, and would attract all.
        let alive = self.shards.iter().filter(|shard| shard.is_alive());
        let none = || Refused::NotHandedOver(io::Error::other("no shard is left"));
        let shard = alive.min_by_key(|shard| shard.connections()).ok_or_else(none)?;
        shard.hand_over(Accepted { socket, peer, admission }).map_err(Refused::NotHandedOver)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    struct Served(mpsc::Sender<SocketAddr>);

    impl shard::Serve for Served {
        async fn serve(self: Arc<Self>, accepted: Accepted) {
            self.0.send(accepted.peer).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_shard_whose_thread_is_gone_gets_no_connections() {
        let (sender, mut served) = mpsc::channel(2);
        let (gone, thread) = Shard::start(0, || -> Served { panic!("a bug") }).unwrap();
        thread.join();
        let (alive, _thread) = Shard::start(1, || Served(sender)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config { max_unauthenticated: 2, max_unauthenticated_per_source: 2 };
        let acceptor = Acceptor::new(listener, config, vec![gone, alive]);
        let client = async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let peer = tokio::time::timeout(Duration::from_secs(10), served.recv()).await.expect("it is served");
            assert_eq!(peer, Some(stream.local_addr().unwrap()));
        };
        tokio::select! {
            () = acceptor.run() => {}
            () = client => {}
        }
    }
}
