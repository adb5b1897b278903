//! A long download that stalls: once because the application does not read, once because the TLS socket is not read.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tokio::time::{interval, sleep, timeout};
use wicket_client::TcpSettings;

use crate::clock;
use crate::load::{Client, Door};
use crate::process::pss;
use crate::world::World;

/// What the server may grow by.
const MAX_GROWTH: u64 = 8 << 20;

/// How often the server's memory is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Beside the pause.
const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Debug, Args)]
pub(crate) struct Stall {
    /// Length of the download.
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,
    /// Seconds without reading.
    #[arg(long, default_value_t = 20)]
    pause: u64,
    /// The server's process.
    #[arg(long)]
    pid: u32,
}

/// Who stops reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The application: the inner window closes.
    Application,
    /// The client's TLS socket: the outer window closes.
    Socket,
}

impl Who {
    /// The client's sockets inside the tunnel. smoltcp rounds the window that it scales down, so behind an application
    /// that does not read it takes back up to 31 bytes of what it has offered (RFC 7323 section 2.4) and drops the segment
    /// that fills them. A window that is not scaled keeps its edge: what then comes twice is the server's doing.
    fn tcp(self) -> TcpSettings {
        match self {
            Self::Application => TcpSettings { receive_buffer: 65_535, ..TcpSettings::default() },
            Self::Socket => TcpSettings::default(),
        }
    }
}

/// How it went.
#[derive(Debug, Clone)]
pub(crate) struct Stalled {
    pub(crate) bytes: u64,
    pub(crate) wall_s: f64,
    pub(crate) pss_before: u64,
    pub(crate) pss_peak: u64,
    pub(crate) duplicate_bytes: u64,
    pub(crate) gaps: u64,
    pub(crate) faults: u64,
    /// What was not as it must be.
    pub(crate) complaints: Vec<String>,
}

impl Stall {
    pub(crate) async fn run(&self, world: &World, who: Who) -> Result<Stalled> {
        let patience = PATIENCE + Duration::from_secs(self.pause);
        timeout(patience, self.download(world, who)).await.with_context(|| format!("{who:?}: no end"))?
    }

    async fn download(&self, world: &World, who: Who) -> Result<Stalled> {
        let tunnels = Door::Tunnel80.tunnels_with(world, 1, who.tcp()).await?;
        let tunnel = tunnels.get(0).context("a tunnel")?;
        // Buffers which every busy stream has are no growth.
        let target = format!("/bulk/42?size={}", 16 << 20);
        Client::new(tunnels.open(world, 0).await?, world, &target, 16 << 20).await?.ask().await?;
        sleep(Duration::from_secs(1)).await;

        let target = format!("/bulk/42?size={}", self.bytes);
        let mut client = Client::new(tunnels.open(world, 0).await?, world, &target, self.bytes).await?;
        let pss_before = pss(self.pid)?;
        let begin = clock::now();
        let pause = Duration::from_secs(self.pause);
        let paused = Cell::new(false);
        let half = self.bytes / 2;
        // What the reader saw of the pause: the longest time between two reads.
        let (last, longest) = (Cell::new(begin), Cell::new(Duration::ZERO));
        let reading = client.read(|got| {
            let now = clock::now();
            longest.set(longest.get().max(now.duration_since(last.replace(now))));
            if paused.get() || got < half {
                return None;
            }
            paused.set(true);
            match who {
                Who::Application => Some(pause),
                Who::Socket => {
                    tunnel.pause_reading(true);
                    None
                }
            }
        });
        let waking = async {
            while !paused.get() {
                sleep(Duration::from_millis(5)).await;
            }
            sleep(pause).await;
            tunnel.pause_reading(false);
            std::future::pending::<()>().await;
        };
        let mut peak = pss_before;
        let looking = async {
            let mut ticks = interval(LOOK);
            loop {
                ticks.tick().await;
                match pss(self.pid) {
                    Ok(bytes) => peak = peak.max(bytes),
                    Err(error) => return error,
                }
            }
        };
        let got = tokio::select! {
            got = reading => got?,
            () = waking => 0,
            error = looking => return Err(error),
        };
        let wall = clock::now().duration_since(begin);
        let counters = tunnels.counters();
        // What was on its way when the socket was not read any more comes a little later.
        let longest = longest.get();
        ensure!(longest + LOOK >= pause, "a pause of {pause:?} was wanted, and the longest was {longest:?}");
        let mut stalled = Stalled {
            bytes: got,
            wall_s: wall.as_secs_f64(),
            pss_before,
            pss_peak: peak,
            duplicate_bytes: counters.duplicate_bytes,
            gaps: counters.gaps,
            faults: counters.faults,
            complaints: Vec::new(),
        };
        stalled.complaints = stalled.judge(self.bytes);
        Ok(stalled)
    }
}

impl Stalled {
    fn judge(&self, wanted: u64) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.bytes != wanted {
            complaints.push(format!("{} of {wanted} bytes came", self.bytes));
        }
        let growth = self.pss_peak.saturating_sub(self.pss_before);
        if growth >= MAX_GROWTH {
            complaints.push(format!("the server grew by {} KiB", growth >> 10));
        }
        if self.duplicate_bytes > 0 || self.gaps > 0 || self.faults > 0 {
            let Self { duplicate_bytes, gaps, faults, .. } = self;
            complaints.push(format!("{duplicate_bytes} bytes came twice, {gaps} gaps, {faults} faulty packets"));
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Stalled {
        Stalled {
            bytes: 100,
            wall_s: 21.0,
            pss_before: 1 << 20,
            pss_peak: 9 << 20,
            duplicate_bytes: 0,
            gaps: 0,
            faults: 0,
            complaints: Vec::new(),
        }
    }

    #[test]
    fn growth_loss_and_shortness_are_complaints() {
        let fine = Stalled { pss_peak: (9 << 20) - 1, ..good() };
        assert!(fine.judge(100).is_empty());
        assert_eq!(good().judge(100).len(), 1, "eight mebibytes are too many");
        assert_eq!(fine.judge(101).len(), 1);
        assert_eq!(Stalled { duplicate_bytes: 1, ..fine.clone() }.judge(100).len(), 1);
        assert_eq!(Stalled { gaps: 1, ..fine }.judge(100).len(), 1);
    }
}
