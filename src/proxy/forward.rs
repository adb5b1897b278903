//! A cleared request to its upstream, and the response back: streamed both ways.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{HeaderName, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};

use super::Connection;
use super::authorize::{Cleared, RoomFields};
use super::challenges::strip_connection_logins;
use super::exchange::Exchange;
use super::headers::{self, Asserted, Assertion, Crossing, NotAsserted, Scheme};
use super::records::Judging;
use super::reply::{RATE_LIMIT, RATE_LIMIT_POLICY, Refusal, Reply};
use crate::clock::Stopwatch;
use crate::field::{Line, Section};
use crate::identity::{Group, Identity, StatedGroups};
use crate::policy::{Authorization, Permit};
use crate::upstream::http1::Head;
use crate::upstream::{BodyError, Download, RequestBody};

/// What a client reads: our own words, or the upstream's.
pub(super) enum Body {
    /// A short answer of ours.
    Text(Option<Bytes>),
    /// An upstream's response.
    Relayed(Relayed),
}

/// A response on its way down.
pub(super) struct Relayed {
    body: Download,
    exchange: Arc<Exchange>,
}

/// A piece of a body until its connection has written it. HTTP/2 queues what its client does not take, after the body
/// itself is gone: the exchange lives as long as its last piece.
pub(super) struct Piece {
    bytes: Bytes,
    exchange: Option<Arc<Exchange>>,
}

impl Connection {
    /// Sends a cleared request up, and its response down.
    pub(super) async fn forward<B>(
        &self,
        cleared: Cleared,
        mut headers: Section,
        body: B,
        judging: &mut Judging,
    ) -> Result<Reply, Refusal>
    where
        B: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Send + 'static,
    {
        let Cleared { permit, who, generation, target, room, cut, place } = cleared;
        let mut body = RequestBody::new(body, target.max_body());
        let exchange = Exchange::begin(judging, permit.record().clone(), body.sent(), place);
        cross(&mut headers, &permit);
        headers::say_decision(judging.decision, &mut headers);
        assert_facts(&permit, &mut headers).map_err(|refusal| exchange.refused(refusal))?;
        let asserted = who.asserted(|| self.assert(&permit, &who.identity));
        let asserted = asserted.map_err(|error| exchange.refused(Refusal::headers(error)))?;
        body.hold(exchange.clone());
        let permit = self.proxy.scribe.commit(permit).await.map_err(Refusal::audit_unavailable)?;
        if self.proxy.snapshots.load().generation != generation {
            // The connection, which judges open requests again, may not have had its turn.
            self.rejudge();
        }
        let watch = Stopwatch::start();
        let sent = self.proxy.upstream.send(&target, permit, &[asserted.lines(), &headers], body, &cut).await;
        let (Head { status, mut headers }, body) = sent.map_err(|error| {
            if error.is_upstreams() {
                exchange.upstream_failed();
            }
            exchange.refused(Refusal::upstream(&error))
        })?;
        let upstream = watch.elapsed();
        self.proxy.meters.upstream.record(upstream.as_secs_f64());
        exchange.answered(status.as_u16(), Some(upstream));
        if let Some(rest) = body.rest_of_request() {
            self.tasks.spawn(rest);
        }
        headers::strip_response(&mut headers);
        strip_connection_logins(&mut headers);
        if let Some(RoomFields { policy, state }) = room {
            headers.retain(|line| !line.is(RATE_LIMIT_POLICY) && !line.is(RATE_LIMIT));
            for (name, value) in [(RATE_LIMIT_POLICY, &policy), (RATE_LIMIT, &state)] {
                if let Ok(line) = Line::new(name.as_bytes(), value.as_bytes()) {
                    headers.push(line);
                }
            }
        }
        if body.is_end_stream() {
            exchange.complete();
        }
        Ok(Reply { status, headers, body: Body::Relayed(Relayed { body, exchange }) })
    }
}

impl Connection {
    /// Says who asks.
    fn assert(&self, permit: &Permit, identity: &Identity) -> Result<Asserted, NotAsserted> {
        Asserted::new(&Assertion {
            user: identity.subject().as_str(),
            groups: &groups(identity),
            session: identity.tunnel().session,
            source: identity.tunnel().source.ip(),
            host: permit.request().host(),
            scheme: if self.dialled.port == 443 { Scheme::Https } else { Scheme::Http },
        })
    }
}

/// Leaves the lines that may cross.
fn cross(headers: &mut Section, permit: &Permit) {
    let sees_login = permit.api().upstream.authorization != Authorization::Strip;
    let crossing = Crossing::new(headers, permit.bundle().asserted_headers(), sees_login);
    headers.retain(|line| crossing.lets(line));
}

/// Says what the API wants to hear of them besides.
fn assert_facts(permit: &Permit, lines: &mut Section) -> Result<(), Refusal> {
    for (name, value) in permit.asserted_headers() {
        let name = HeaderName::try_from(name).map_err(Refusal::headers)?;
        let value = HeaderValue::try_from(value).map_err(Refusal::headers)?;
        lines.push((&name, &value).into());
    }
    Ok(())
}

/// All groups that the evidence states: the user file's and the token's.
fn groups(identity: &Identity) -> Vec<&str> {
    let stated = identity.token().map(|token| &token.groups);
    let stated = if let Some(StatedGroups::Known(groups)) = stated { &groups[..] } else { &[] };
    let mut groups: Vec<&str> = identity.local_groups().iter().chain(stated).map(Group::as_str).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

impl Body {
    pub(super) fn text(bytes: Bytes) -> Self {
        Self::Text(Some(bytes))
    }
}

impl http_body::Body for Body {
    type Data = Piece;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        match &mut *self {
            Self::Text(bytes) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(Piece { bytes, exchange: None }))))
            }
            Self::Relayed(relayed) => relayed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(bytes) => bytes.is_none(),
            Self::Relayed(relayed) => relayed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relayed(relayed) => relayed.body.size_hint(),
        }
    }
}

impl Relayed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.exchange.add(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        match &frame {
            Some(Err(BodyError::Upstream(_))) => self.exchange.upstream_failed(),
            Some(Err(_)) => {}
            Some(Ok(_)) | None if self.body.is_end_stream() => self.exchange.complete(),
            Some(Ok(_)) | None => {}
        }
        let piece = |bytes| Piece { bytes, exchange: Some(Arc::clone(&self.exchange)) };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.as_ref().filter(|_| !self.bytes.is_empty()) {
            exchange.incomplete();
        }
    }
}
