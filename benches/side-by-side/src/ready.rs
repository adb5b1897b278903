//! Waits until every part of the world answers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use wicket_client::Request;

use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(50);

/// The server is ready when its `/readyz` says so, the others when they take connections.
pub(crate) async fn wait(world: &World) -> Result<()> {
    for (what, address) in [("issuer", world.issuer), ("backend", world.backend), ("plain proxy", world.plain)] {
        until(what, async || TcpStream::connect(address).await.is_ok()).await?;
    }
    until("wicketgate", async || readyz(world.admin).await.is_some_and(|status| status == 200)).await
}

async fn until(what: &str, mut answers: impl AsyncFnMut() -> bool) -> Result<()> {
    let trying = async {
        while !answers().await {
            sleep(AGAIN).await;
        }
    };
    timeout(PATIENCE, trying).await.with_context(|| format!("{what} did not come up"))
}

async fn readyz(admin: SocketAddr) -> Option<u16> {
    let stream = TcpStream::connect(admin).await.ok()?;
    let response = wicket_client::request(stream, Request::get(admin.to_string(), "/readyz")).await.ok()?;
    Some(response.status)
}
