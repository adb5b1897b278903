//! A whole world in one command: certificates, two APIs, an OIDC issuer, the real server, and a client that makes a
//! tour of allowed and denied calls through a real tunnel.
//!
//! ```text
//! cargo run --release --example quickstart                      the tour, then it stays for your own client
//! cargo run --release --example quickstart -- --once            the tour; status 0 if every answer was the expected one
//! cargo run --release --example quickstart -- --listen 0.0.0.0:443   opened for other machines
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to the person who runs it")]

mod backend;
mod calls;
mod issuer;
mod pki;
mod world;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use wicket_client::{Method, Profile, Tunnel};
use wicketgate::server::{self, Orders};
use wicketgate::{config, telemetry};

use issuer::Issuer;
use pki::Pki;

/// A tour through Wicketgate.
#[derive(Parser)]
struct Args {
    /// End after the tour, with status 0 only if every answer was the expected one
    #[arg(long)]
    once: bool,
    /// Where the server listens
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The server's log: error, warn, info, debug
    #[arg(long, default_value = "error")]
    log: String,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    telemetry::init(&args.log, telemetry::LogFormat::Text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> Result<ExitCode> {
    let folder = tempfile::tempdir()?;
    let mut tasks = JoinSet::new();
    let pki = Pki::make(&folder.path().join("tls"))?;
    let issuer = Issuer::start(&pki.server("issuer", &["localhost"])?, &mut tasks).await?;
    let inventory = backend::start("inventory", &mut tasks).await?;
    let payroll = backend::start("payroll", &mut tasks).await?;
    let file = world::write(folder.path(), &pki, args.listen, &issuer.url, inventory, payroll)?;
    println!("a small company lives in {}\n", folder.path().display());

    let (config, _warnings) =
        config::load(&file).map_err(|complaints| anyhow::anyhow!("{}", config::complaint::text(&complaints)))?;
    let (stop, stopped) = oneshot::channel();
    let (_reload, reloads) = mpsc::channel(1);
    let (ready, bound) = oneshot::channel();
    let server = server::run(
        file,
        config,
        1,
        telemetry::install_metrics()?,
        Orders { stop: stopped, reload: reloads },
        |bound| {
            // Only a tour that ended early does not listen.
            let _ended = ready.send(bound).is_err();
        },
    );
    let tour = async {
        let bound = bound.await.context("the server did not start")?;
        let expected = show_tour(bound.listen, &pki, &issuer, &folder.path().join("audit.jsonl")).await?;
        if !args.once {
            stay(bound.listen, folder.path(), &pki).await?;
        }
        drop(stop);
        Ok::<_, anyhow::Error>(expected)
    };
    let (served, expected) = tokio::join!(server, tour);
    served?;
    Ok(if expected? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn show_tour(listen: SocketAddr, pki: &Pki, issuer: &Issuer, audit: &Path) -> Result<bool> {
    let address =
        SocketAddr::new(if listen.ip().is_unspecified() { [127, 0, 0, 1].into() } else { listen.ip() }, listen.port());
    let profile = Profile::new(world::SERVER_NAME, "alice", world::PASSWORD, Method::EapMsChapV2);
    let tunnel = Tunnel::connect(address, pki.roots.clone(), profile).await?;
    println!("alice is connected: {} behind {}, by SSTP and EAP-MSCHAPv2\n", tunnel.address(), tunnel.gateway());
    let rows = calls::tour(&tunnel, issuer, &pki.roots, audit).await?;
    let (table, expected) = calls::table(&rows);
    println!("{table}");
    tunnel.disconnect().await;
    Ok(expected)
}

/// Waits for Ctrl-C, and says how to connect meanwhile.
async fn stay(listen: SocketAddr, folder: &Path, pki: &Pki) -> Result<()> {
    let (name, root, password) = (world::SERVER_NAME, pki.root_file.display(), world::PASSWORD);
    println!(
        "Every decision stands in {audit}.

The server stays at {listen} until Ctrl-C. To connect to it yourself, start it with --listen 0.0.0.0:443.

Windows (an administrator's PowerShell; ADDRESS is this machine's):
  Add-Content $env:windir\\System32\\drivers\\etc\\hosts 'ADDRESS {name}'
  Import-Certificate -FilePath root.pem -CertStoreLocation Cert:\\LocalMachine\\Root    # a copy of {root}
  New-ItemProperty -Path HKLM:\\SYSTEM\\CurrentControlSet\\Services\\SstpSvc\\Parameters -Name NoCertRevocationCheck -PropertyType DWord -Value 1
      # only because this throw-away CA publishes no CRL; a last resort anywhere else
  Add-VpnConnection -Name Quickstart -ServerAddress {name} -TunnelType Sstp -AuthenticationMethod MSChapv2 -EncryptionLevel Required -SplitTunneling -Force
  rasdial Quickstart alice '{password}'
  curl.exe http://inventory.api.example.test/v1/items

Debian (as root; {name} in /etc/hosts, the password in /etc/ppp/chap-secrets):
  sstpc --log-stderr --tls-ext --ca-cert {root} {name} \\
      user alice noauth noipdefault nodefaultroute usepeerdns noccp refuse-eap refuse-pap refuse-chap refuse-mschap &
  ip route add 198.18.7.0/24 dev ppp0
  dig @198.18.7.1 inventory.api.example.test",
        audit = folder.join("audit.jsonl").display(),
    );
    tokio::signal::ctrl_c().await?;
    Ok(())
}
