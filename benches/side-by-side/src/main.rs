//! The proxy next to a bare HTTPS reverse proxy, in one run on one machine: CPU, memory, and what a stall does.
//!
//! `run` beside this package starts the parts and calls `load`, `idle`, `stall` and `report`; see `README.md`.

mod backend;
mod clock;
mod idle;
mod issuer;
mod load;
mod plain_proxy;
mod process;
mod ready;
mod report;
mod stall;
mod tls;
mod world;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::report::Verdict;
use crate::world::World;

/// Measures Wicketgate next to a bare HTTPS reverse proxy.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write certificates, configuration, a user, policies and a token into an existing folder.
    World {
        folder: PathBuf,
        /// The server's program.
        #[arg(long)]
        wicketgate: PathBuf,
    },
    /// Serve discovery and keys of the issuer.
    Issuer { folder: PathBuf },
    /// Serve the API behind both proxies.
    Backend { folder: PathBuf },
    /// Serve the peer.
    PlainProxy { folder: PathBuf },
    /// Wait until all parts answer and the server is ready.
    Ready { folder: PathBuf },
    /// A slice of a round; a line of JSON.
    Load {
        folder: PathBuf,
        #[command(flatten)]
        load: load::Load,
    },
    /// The memory of idle tunnels; exit code 1 when the floor is missed.
    Idle {
        folder: PathBuf,
        #[command(flatten)]
        idle: idle::Idle,
    },
    /// Two downloads that stall; exit code 1 when one goes wrong.
    Stall {
        folder: PathBuf,
        #[command(flatten)]
        stall: stall::Stall,
    },
    /// The table of the lines that `load` printed; exit code 1 when a floor is missed.
    Report {
        file: PathBuf,
        /// So many lines of a kind are one round.
        #[arg(long)]
        slices: usize,
    },
}

/// The exit code of trouble; 1 is a floor that is missed.
const TROUBLE: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread each: the peer is measured against one shard, and the others share what is left.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(cli.command)));
    ended.unwrap_or_else(|error| {
        // When even this cannot be written, the exit code still tells.
        let _ = writeln!(std::io::stderr(), "side-by-side: {error:#}");
        ExitCode::from(TROUBLE)
    })
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::World { folder, wicketgate } => {
            let world = World::make(&folder, &wicketgate)?;
            print(&format!("{}\n", world.server))?;
        }
        Command::Issuer { folder } => issuer::serve(&World::read(&folder)?).await?,
        Command::Backend { folder } => backend::serve(&World::read(&folder)?).await?,
        Command::PlainProxy { folder } => plain_proxy::serve(&World::read(&folder)?).await?,
        Command::Ready { folder } => ready::wait(&World::read(&folder)?).await?,
        Command::Load { folder, load } => {
            let round = load.run(&World::read(&folder)?).await?;
            print(&format!("{}\n", serde_json::to_string(&round)?))?;
        }
        Command::Idle { folder, idle } => return tell(&report::memory(&idle.run(&World::read(&folder)?).await?)?),
        Command::Stall { folder, stall } => {
            let world = World::read(&folder)?;
            let mut holds = true;
            for who in [stall::Who::Application, stall::Who::Socket] {
                let verdict = report::stalled(who, &stall.run(&world, who).await);
                print(&verdict.text)?;
                holds &= verdict.holds;
            }
            return tell(&Verdict { text: "\n".to_owned(), holds });
        }
        Command::Report { file, slices } => {
            return tell(&report::rounds(&std::fs::read_to_string(file)?, slices)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(verdict: &Verdict) -> Result<ExitCode> {
    print(&verdict.text)?;
    Ok(if verdict.holds { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
