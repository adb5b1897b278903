//! What an idle tunnel costs in memory: the slope of the server's PSS over the number of tunnels.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::time::sleep;

use crate::load::{Client, Door, Tunnels};
use crate::process::pss;
use crate::world::World;

/// Until the last login's memory is back, and no timer of the negotiation runs.
const SETTLE: Duration = Duration::from_secs(2);

/// Tunnels that are there before the first sample.
const BASE: usize = 16;

/// Samples of the line after the first, which is at no tunnel more than [`BASE`].
const STEPS: usize = 5;

#[derive(Debug, Args)]
pub(crate) struct Idle {
    /// How many tunnels in the end.
    #[arg(long, default_value_t = 500)]
    tunnels: usize,
    /// The process whose memory counts.
    #[arg(long)]
    pid: u32,
}

/// What was found.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) tunnels: usize,
    /// Number of tunnels and PSS in bytes.
    pub(crate) samples: Vec<(usize, u64)>,
    /// Bytes per tunnel, least squares over the samples but the first.
    pub(crate) per_tunnel: f64,
    /// The same when every tunnel has made one request and closed its stream.
    pub(crate) per_used_tunnel: f64,
}

impl Idle {
    pub(crate) async fn run(&self, world: &World) -> Result<Memory> {
        // The first tunnels pay for tables, caches and the allocator's arenas of each thread.
        let mut tunnels = Door::Tunnel80.tunnels(world, BASE).await?;
        for number in 0..BASE {
            ask_once(&tunnels, world, number).await?;
        }
        sleep(SETTLE).await;
        let mut samples = vec![(0, pss(self.pid)?)];
        for step in 1..=STEPS {
            let count = self.tunnels * step / STEPS;
            for _ in samples.last().map_or(0, |&(count, _)| count)..count {
                tunnels.grow(world).await?;
            }
            sleep(SETTLE).await;
            samples.push((count, pss(self.pid)?));
        }
        // The first of them fill what the allocator had left.
        let per_tunnel = slope(samples.get(1..).unwrap_or_default()).context("two numbers of tunnels")?;
        for number in BASE..BASE + self.tunnels {
            ask_once(&tunnels, world, number).await?;
        }
        sleep(SETTLE).await;
        let unused = samples.last().map_or(0, |&(_, bytes)| bytes);
        let per_used_tunnel = per_tunnel + (pss(self.pid)? as f64 - unused as f64) / self.tunnels as f64;
        Ok(Memory { tunnels: self.tunnels, samples, per_tunnel, per_used_tunnel })
    }
}

async fn ask_once(tunnels: &Tunnels, world: &World, number: usize) -> Result<()> {
    Client::new(tunnels.open(world, number).await?, world, "/small/42", 64).await?.ask().await
}

/// Least squares.
fn slope(samples: &[(usize, u64)]) -> Option<f64> {
    let count = samples.len() as f64;
    let mean_x = samples.iter().map(|&(x, _)| x as f64).sum::<f64>() / count;
    let mean_y = samples.iter().map(|&(_, y)| y as f64).sum::<f64>() / count;
    let above: f64 = samples.iter().map(|&(x, y)| (x as f64 - mean_x) * (y as f64 - mean_y)).sum();
    let below: f64 = samples.iter().map(|&(x, _)| (x as f64 - mean_x).powi(2)).sum();
    (below > 0.0).then(|| above / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_line_is_its_slope() {
        assert_eq!(slope(&[(0, 1000), (100, 3000), (200, 5000)]), Some(20.0));
        assert_eq!(slope(&[(7, 1), (7, 2)]), None);
    }
}
