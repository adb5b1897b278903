//! Where upstreams may be: not with us, and not where machines keep their secrets.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::off_limits;
use crate::policy::Environment;
use crate::policy::api::UpstreamUrl;
use crate::policy::syntax::api::ApiText;
use crate::policy::syntax::log::Log;
use crate::policy::syntax::table::unknown;
use crate::policy::syntax::value::Flaw;

use super::names::unknown_authority;

/// Complains about names that the configuration does not have, and about places that no request may reach.
pub(crate) fn check(text: &ApiText, environment: &Environment, log: &mut Log) {
    let upstream = &text.upstream;
    if let Some(ca) = upstream.ca.as_ref().filter(|ca| !environment.authorities.contains(&ca.value)) {
        log.error(&text.source, ca.span.clone(), unknown_authority(&ca.value, environment));
    }
    let certificates = &environment.client_certificates;
    if let Some(name) = upstream.client_cert.as_ref().filter(|name| !certificates.contains(&name.value)) {
        let message = format!("`{}` is not in [client_certificates] of the configuration", name.value);
        let known = certificates.iter();
        log.error(&text.source, name.span.clone(), unknown("unknown-certificate", message, &name.value, known));
    }
    let (host, port) = match &upstream.url.value {
        UpstreamUrl::Http { host, port } | UpstreamUrl::Https { host, port } => (host, *port),
        UpstreamUrl::Unix { path } => {
            let real = |path: &Path| (environment.real_path)(path);
            if environment.own_socket.as_deref().is_some_and(|own| real(own) == real(Path::new(path))) {
                log.error(&text.source, upstream.url.span.clone(), leads_to_us(&upstream.url.value, "admin socket"));
            }
            return;
        }
    };
    if let Some(own) = environment.own_listeners.iter().find(|own| meets(host, port, own)) {
        let flaw = leads_to_us(&upstream.url.value, &format!("listener {own}"));
        log.error(&text.source, upstream.url.span.clone(), flaw);
    } else if let Some(what) = off_limits::at_host(host) {
        let hint = "an upstream is a gateway or a backend";
        let flaw = Flaw::new("upstream-off-limits", format!("`{host}` is {what}"), hint);
        log.error(&text.source, upstream.url.span.clone(), flaw);
    }
}

fn leads_to_us(url: &UpstreamUrl, what: &str) -> Flaw {
    Flaw::new("upstream-loop", format!("`{url}` is our own {what}"), "an upstream is another server")
}

fn address(host: &str) -> Option<IpAddr> {
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Whether a connection to the upstream could end in our own listener. Which other addresses are ours is not known
/// here; the connection itself is checked again.
fn meets(host: &str, port: u16, own: &SocketAddr) -> bool {
    let ours = own.ip().to_canonical();
    let target = match address(host) {
        Some(address) => address,
        None if host == "localhost" || host.ends_with(".localhost") => {
            return port == own.port() && (ours.is_loopback() || ours.is_unspecified());
        }
        None => return false,
    };
    let local = target.is_loopback() || target.is_unspecified();
    port == own.port()
        && (target == ours || (local && ours.is_unspecified()) || (target.is_unspecified() && ours.is_loopback()))
}
