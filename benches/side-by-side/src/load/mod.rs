//! The client: 32 keep-alive connections in a closed loop, over plain HTTPS or inside tunnels, and what they cost.

mod client;
mod door;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub(crate) use client::Client;
pub(crate) use door::{Door, Line, Tunnels};

use crate::clock;
use crate::process::Cpu;
use crate::world::World;

/// Connections, or streams: as many on either side.
const CONNECTIONS: usize = 32;

/// Tunnels that carry them.
pub(crate) const TUNNELS: usize = 8;

/// The body of a large response.
pub(crate) const BULK: u64 = 1 << 20;

/// Requests of each connection before anything counts.
const WARM_SMALL: u64 = 100;
const WARM_BULK: u64 = 4;

/// The server still writes its records when the last response is here.
const SETTLE: Duration = Duration::from_millis(100);

/// No round takes as long.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Work {
    /// 64 bytes.
    Small,
    /// 1 MiB.
    Bulk,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Where the requests enter.
    door: Door,
    /// What they ask for.
    work: Work,
    /// How many of them.
    #[arg(long)]
    requests: u64,
    /// The process whose CPU counts.
    #[arg(long)]
    pid: u32,
}

/// A slice of a round, as one line of JSON, or a whole one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) door: Door,
    pub(crate) work: Work,
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) wall_s: f64,
    /// CPU of the server's threads, by schedstat.
    pub(crate) cpu_s: f64,
    /// The same by utime and stime, in ticks.
    pub(crate) cpu_ticks_s: f64,
    /// CPU of this client.
    pub(crate) client_cpu_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Inner packets from and to the server; 0 without tunnels.
    pub(crate) packets_down: u64,
    pub(crate) packets_up: u64,
    /// Inner TCP payload that came twice.
    pub(crate) duplicate_bytes: u64,
}

impl Load {
    pub(crate) async fn run(&self, world: &World) -> Result<Round> {
        timeout(PATIENCE, self.round(world)).await.with_context(|| format!("no end within {PATIENCE:?}"))?
    }

    async fn round(&self, world: &World) -> Result<Round> {
        let target = match self.work {
            Work::Small => "/small/42".to_owned(),
            Work::Bulk => format!("/bulk/42?size={BULK}"),
        };
        let size = if self.work == Work::Small { 64 } else { BULK };
        let tunnels = self.door.tunnels(world, TUNNELS).await?;
        let mut clients = Vec::new();
        for number in 0..CONNECTIONS {
            let line = tunnels.open(world, number).await?;
            clients.push(Client::new(line, world, &target, size).await?);
        }
        if tunnels.judged() {
            clients.first_mut().context("a client")?.expect_judgement(world).await?;
        }

        let warm = if self.work == Work::Small { WARM_SMALL } else { WARM_BULK };
        let (mut clients, _) = together(clients, warm * CONNECTIONS as u64).await?;
        sleep(SETTLE).await;

        let (me, before_packets) = (std::process::id(), tunnels.counters());
        for client in &mut clients {
            client.forget();
        }
        let (server_before, client_before) = (Cpu::of(self.pid)?, Cpu::of(me)?);
        let begin = clock::now();
        let (clients, done) = together(clients, self.requests).await?;
        let wall = clock::now().duration_since(begin);
        let client_cpu = Cpu::of(me)?.since(client_before);
        sleep(SETTLE).await;
        let server_cpu = Cpu::of(self.pid)?.since(server_before);
        ensure!(done == self.requests, "{done} of {} requests were made", self.requests);

        let packets = tunnels.counters();
        let mut took: Vec<u32> = clients.iter().flat_map(|client| client.took().iter().copied()).collect();
        took.sort_unstable();
        Ok(Round {
            door: self.door,
            work: self.work,
            requests: self.requests,
            bytes: self.requests * size,
            wall_s: wall.as_secs_f64(),
            cpu_s: server_cpu.threads.as_secs_f64(),
            cpu_ticks_s: server_cpu.process.as_secs_f64(),
            client_cpu_s: client_cpu.threads.as_secs_f64(),
            p50_us: quantile(&took, 0.50),
            p99_us: quantile(&took, 0.99),
            packets_down: packets.received - before_packets.received,
            packets_up: packets.sent - before_packets.sent,
            duplicate_bytes: packets.duplicate_bytes,
        })
    }
}

/// All clients at once until `requests` are done; each takes the next one when it is free.
async fn together(clients: Vec<Client>, requests: u64) -> Result<(Vec<Client>, u64)> {
    let left = Arc::new(AtomicU64::new(requests));
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let left = Arc::clone(&left);
        tasks.spawn(async move {
            let mut done = 0;
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                client.ask().await?;
                done += 1;
            }
            anyhow::Ok((client, done))
        });
    }
    let mut clients = Vec::new();
    let mut sum = 0;
    while let Some(ended) = tasks.join_next().await {
        let (client, done) = ended.context("a client panicked")??;
        clients.push(client);
        sum += done;
    }
    Ok((clients, sum))
}

fn quantile(sorted: &[u32], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let index = (part * last as f64).round() as usize;
    f64::from(sorted.get(index).copied().unwrap_or(0)) / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_tenths_of_microseconds() {
        let sorted: Vec<u32> = (0..=1000).collect();
        assert_eq!((quantile(&sorted, 0.5), quantile(&sorted, 0.99)), (50.0, 99.0));
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
