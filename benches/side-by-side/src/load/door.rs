//! Where requests enter: the plain proxy, or ports 80 and 443 inside tunnels.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use wicket_client::http::TlsStream;
use wicket_client::{Counters, Method, Profile, Resolved, Settings, Stream, TcpSettings, Tunnel};

use crate::world::{SERVER_NAME, World};

/// A server on the same machine is up within this, or not at all.
const CONNECT: Duration = Duration::from_secs(20);

/// The way to the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Door {
    /// HTTPS to the plain proxy.
    Plain,
    /// HTTP inside tunnels.
    Tunnel80,
    /// HTTPS inside tunnels.
    Tunnel443,
}

/// A connection to the API.
pub(crate) enum Line {
    Tls(Box<TlsStream<TcpStream>>),
    Inner(Stream),
    InnerTls(Box<TlsStream<Stream>>),
}

/// The tunnels of a client; none for the plain proxy.
pub(crate) struct Tunnels {
    door: Door,
    tcp: TcpSettings,
    tunnels: Vec<Tunnel>,
    /// The virtual address of the API.
    address: Ipv4Addr,
}

impl Door {
    /// Connects `count` tunnels, one after the other.
    pub(crate) async fn tunnels(self, world: &World, count: usize) -> Result<Tunnels> {
        self.tunnels_with(world, count, TcpSettings::default()).await
    }

    /// As [`Door::tunnels`], with sockets inside that are not the usual ones.
    pub(crate) async fn tunnels_with(self, world: &World, count: usize, tcp: TcpSettings) -> Result<Tunnels> {
        let mut tunnels = Vec::new();
        let mut address = Ipv4Addr::UNSPECIFIED;
        if self != Self::Plain {
            for _ in 0..count {
                tunnels.push(connect(world, tcp).await?);
            }
            address = resolve(tunnels.first().context("a tunnel")?, world).await?;
        }
        Ok(Tunnels { door: self, tcp, tunnels, address })
    }
}

impl Tunnels {
    /// One more tunnel.
    pub(crate) async fn grow(&mut self, world: &World) -> Result<()> {
        self.tunnels.push(connect(world, self.tcp).await?);
        Ok(())
    }

    /// Opens the connection of this number; tunnels take turns.
    pub(crate) async fn open(&self, world: &World, number: usize) -> Result<Line> {
        let inner = async |port| {
            let tunnel = self.tunnels.get(number % self.tunnels.len()).context("a tunnel")?;
            anyhow::Ok(tunnel.tcp(self.address, port).await?)
        };
        Ok(match self.door {
            Door::Plain => {
                let tcp = TcpStream::connect(world.plain).await?;
                tcp.set_nodelay(true)?;
                Line::Tls(Box::new(wicket_client::tls(tcp, world.roots()?, SERVER_NAME, &[]).await?))
            }
            Door::Tunnel80 => Line::Inner(inner(80).await?),
            Door::Tunnel443 => {
                let stream = inner(443).await?;
                Line::InnerTls(Box::new(wicket_client::tls(stream, world.roots()?, &world.host, &[]).await?))
            }
        })
    }

    /// Whether requests are judged on this way.
    pub(crate) fn judged(&self) -> bool {
        self.door != Door::Plain
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Tunnel> {
        self.tunnels.get(number)
    }

    /// What went through all tunnels.
    pub(crate) fn counters(&self) -> Counters {
        self.tunnels.iter().map(Tunnel::packets).fold(Counters::default(), |sum, one| Counters {
            received: sum.received + one.received,
            received_bytes: sum.received_bytes + one.received_bytes,
            sent: sum.sent + one.sent,
            sent_bytes: sum.sent_bytes + one.sent_bytes,
            duplicate_bytes: sum.duplicate_bytes + one.duplicate_bytes,
            gaps: sum.gaps + one.gaps,
            faults: sum.faults + one.faults,
            resets: sum.resets + one.resets,
            early_data: sum.early_data + one.early_data,
            early_answers: sum.early_answers + one.early_answers,
        })
    }
}

async fn connect(world: &World, tcp: TcpSettings) -> Result<Tunnel> {
    let profile = Profile::new(SERVER_NAME, &world.user, &world.password, Method::EapMsChapV2);
    let settings = Settings { connect_timeout: CONNECT, tcp, ..Settings::default() };
    Tunnel::connect_with(world.server, world.roots()?, profile, settings).await.context("no tunnel")
}

async fn resolve(tunnel: &Tunnel, world: &World) -> Result<Ipv4Addr> {
    match tunnel.resolve(&world.host).await? {
        Resolved::Addresses(addresses) => addresses.first().copied().context("an answer without an address"),
        other @ (Resolved::NoData | Resolved::NxDomain | Resolved::Refused | Resolved::Failed(_)) => {
            bail!("{} has no address: {other:?}", world.host)
        }
    }
}
