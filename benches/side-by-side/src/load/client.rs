//! One keep-alive connection that asks one question again and again.

use std::time::Duration;

use anyhow::{Result, ensure};
use http_body_util::BodyExt as _;
use wicket_client::{Http1, Request};

use super::Line;
use crate::clock;
use crate::world::World;

/// A client, whatever its connection goes through.
pub(crate) struct Client {
    http: Http1,
    request: Request,
    /// The length of a right answer.
    size: u64,
    /// Latencies in tenths of microseconds.
    took: Vec<u32>,
}

impl Client {
    pub(crate) async fn new(line: Line, world: &World, target: &str, size: u64) -> Result<Self> {
        let http = match line {
            Line::Tls(stream) => Http1::new(*stream).await?,
            Line::Inner(stream) => Http1::new(stream).await?,
            Line::InnerTls(stream) => Http1::new(*stream).await?,
        };
        let request = Request::get(&world.host, target)
            .header("user-agent", "side-by-side/1")
            .header("accept", "application/octet-stream")
            .bearer(&world.token);
        Ok(Self { http, request, size, took: Vec::new() })
    }

    /// One request; its answer must be right.
    pub(crate) async fn ask(&mut self) -> Result<()> {
        let begin = clock::now();
        let got = self.read(|_| None).await?;
        let took = clock::now().duration_since(begin).as_nanos() / 100;
        self.took.push(u32::try_from(took).unwrap_or(u32::MAX));
        ensure!(got == self.size, "the body has {got} bytes, not {}", self.size);
        Ok(())
    }

    /// One request, whose body is read with a pause wherever `pause` says so; the length of the body.
    pub(crate) async fn read(&mut self, mut pause: impl FnMut(u64) -> Option<Duration>) -> Result<u64> {
        let response = self.http.open(self.request.clone()).await?;
        ensure!(response.status() == 200, "the answer is {}", response.status());
        let mut body = response.into_body();
        let mut got = 0;
        while let Some(frame) = body.frame().await {
            got += frame?.data_ref().map_or(0, |data| data.len() as u64);
            if let Some(wait) = pause(got) {
                tokio::time::sleep(wait).await;
            }
        }
        Ok(got)
    }

    /// A request without a token, and one with a wrong token, must be refused: else no judgement is measured.
    pub(crate) async fn expect_judgement(&mut self, world: &World) -> Result<()> {
        let mut wrong = world.token.clone();
        // The last character carries padding bits; this one is all signature.
        let at = wrong.len() - 20;
        let other = if wrong.get(at..=at) == Some("A") { "B" } else { "A" };
        wrong.replace_range(at..=at, other);
        let mut bare = self.request.clone();
        bare.headers.remove("authorization");
        let forged = bare.clone().bearer(&wrong);
        for request in [bare, forged] {
            let status = self.http.send(request).await?.status;
            ensure!(status == 401, "an unproven request got {status}, not 401");
        }
        Ok(())
    }

    /// What was measured so far does not count.
    pub(crate) fn forget(&mut self) {
        self.took.clear();
    }

    /// Latencies in tenths of microseconds.
    pub(crate) fn took(&self) -> &[u32] {
        &self.took
    }
}
