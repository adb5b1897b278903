//! `[upstream]` as written.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::time::Duration;

use crate::policy::api::{Authorization, UpstreamUrl};

use super::log::Reader;
use super::table::{At, Schema, Table};
use super::value::{self, Flaw};

const UPSTREAM: Schema = Schema {
    what: "[upstream]",
    keys: &["url", "tls", "timeout", "max_body", "max_response_header", "authorization", "strip_base"],
    later: &["retries", "lb", "health", "outlier"],
    elsewhere: &[
        ("ca", "`tls`"),
        ("client_cert", "`tls`"),
        ("server_name", "`tls`"),
        ("base", "the API file's top"),
        ("hide_routes", "the API file's top"),
    ],
};

const TLS: Schema = Schema { what: "`tls`", keys: &["ca", "client_cert", "server_name"], later: &[], elsewhere: &[] };

/// Longest path of a Unix socket that all systems take.
const MAX_UNIX_PATH: usize = 100;

/// Largest head of a response that an API may ask for.
const MAX_RESPONSE_HEADER: u64 = 1 << 20;

/// Where an API's server is, and how to speak with it.
#[derive(Debug)]
pub(crate) struct UpstreamText {
    pub(crate) url: At<UpstreamUrl>,
    pub(crate) ca: Option<At<String>>,
    pub(crate) client_cert: Option<At<String>>,
    pub(crate) server_name: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) max_body: Option<u64>,
    pub(crate) max_response_header: u64,
    pub(crate) authorization: Authorization,
    pub(crate) strip_base: bool,
}

pub(crate) fn read_upstream(parent: &Table<'_>, reader: &mut Reader<'_>) -> Option<UpstreamText> {
    parent.need("upstream", reader);
    let table = parent.table("upstream", &UPSTREAM, reader)?;
    table.need("url", reader);
    let url = table.parsed("url", reader, upstream_url);
    let tls = table.table("tls", &TLS, reader);
    let inside = |key, reader: &mut Reader<'_>| tls.as_ref().and_then(|tls| tls.parsed(key, reader, value::name));
    let ca = inside("ca", reader);
    let client_cert = inside("client_cert", reader);
    let server_name = tls.as_ref().and_then(|tls| tls.parsed("server_name", reader, server_name));
    let timeout = table.parsed("timeout", reader, value::duration);
    let max_body = table.parsed("max_body", reader, value::size);
    let max_response_header = table.parsed("max_response_header", reader, value::size);
    if let Some(size) = max_response_header.as_ref().filter(|size| !(1024..=MAX_RESPONSE_HEADER).contains(&size.value))
    {
        let message = "`max_response_header` is between 1KiB and 1MiB";
        reader.complain(size.span.clone(), "out-of-range", message, "the default is 64KiB");
    }
    let authorization =
        table.word("authorization", reader, &[("forward", Authorization::Forward), ("strip", Authorization::Strip)]);
    let strip_base = table.flag("strip_base", reader);
    let url = url?;
    if table.has("tls") && !matches!(url.value, UpstreamUrl::Https { .. }) {
        complain_about_tls(table.place("tls"), &url.value, reader);
    }
    Some(UpstreamText {
        url,
        ca,
        client_cert,
        server_name: server_name.map(|name| name.value),
        timeout: timeout.map_or(Duration::from_secs(30), |timeout| timeout.value),
        max_body: max_body.map(|size| size.value),
        max_response_header: max_response_header.map_or(64 << 10, |size| size.value),
        authorization: authorization.map_or(Authorization::Forward, |word| word.value),
        strip_base: strip_base.is_some_and(|flag| flag.value),
    })
}

fn complain_about_tls(place: Range<usize>, url: &UpstreamUrl, reader: &mut Reader<'_>) {
    let message = format!("`{url}` is spoken to without TLS");
    reader.complain(place, "contradiction", message, "write `https://` in `url`, or remove `tls`");
}

fn server_name(text: &str) -> Result<String, Flaw> {
    if text.parse::<IpAddr>().is_ok() || is_dns_name(text) {
        return Ok(text.to_owned());
    }
    Err(Flaw::new("bad-host", format!("`{text}` is not a name of a server"), "write a DNS name in lower case"))
}

/// Unlike the host of an API, the name of a neighbour may be one label.
fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(value::is_label) && !value::numeric_end(text)
}

fn upstream_url(text: &str) -> Result<UpstreamUrl, Flaw> {
    let hint = "write \"https://host:8443\", \"http://127.0.0.1:8080\" or \"unix:/run/gateway.sock\"";
    let bad = |message: &str| Flaw::new("bad-url", format!("`{}`: {message}", text.escape_debug()), hint);
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        let well_formed = path.starts_with('/') && path.len() <= MAX_UNIX_PATH && !path.chars().any(char::is_control);
        return if well_formed {
            Ok(UpstreamUrl::Unix { path: path.to_owned() })
        } else {
            Err(bad("the path of a socket is absolute and has at most 100 bytes"))
        };
    }
    let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(bad("the scheme is https, http or unix")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@', '\\']) {
        return Err(bad("an upstream has a host and a port, nothing else; the request brings the path"));
    }
    let (host, port) = split_port(authority).ok_or_else(|| bad("this is not a host and a port"))?;
    let port = match port {
        None if secure => 443,
        None => 80,
        Some(port) => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            port.parse::<u16>().ok().filter(|port| digits && *port > 0).ok_or_else(|| bad("the port is 1 to 65535"))?
        }
    };
    let host = host.to_owned();
    Ok(if secure { UpstreamUrl::Https { host, port } } else { UpstreamUrl::Http { host, port } })
}

/// Splits `host:port`, `[address]:port` and either without a port.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        return match after.strip_prefix(':') {
            Some(port) => Some((address, Some(port))),
            None if after.is_empty() => Some((address, None)),
            None => None,
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    (host.parse::<std::net::Ipv4Addr>().is_ok() || is_dns_name(host)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_a_host_and_a_port_or_a_socket() {
        let https = |host: &str, port| UpstreamUrl::Https { host: host.into(), port };
        let http = |host: &str, port| UpstreamUrl::Http { host: host.into(), port };
        assert_eq!(upstream_url("https://gw.internal:8443"), Ok(https("gw.internal", 8443)));
        assert_eq!(upstream_url("https://gw.internal/"), Ok(https("gw.internal", 443)));
        assert_eq!(upstream_url("http://127.0.0.1:8080"), Ok(http("127.0.0.1", 8080)));
        assert_eq!(upstream_url("http://[::1]"), Ok(http("::1", 80)));
        assert_eq!(upstream_url("http://localhost:1"), Ok(http("localhost", 1)));
        assert_eq!(upstream_url("unix:/run/gw.sock"), Ok(UpstreamUrl::Unix { path: "/run/gw.sock".into() }));
        assert_eq!(upstream_url("unix:///run/gw.sock"), Ok(UpstreamUrl::Unix { path: "/run/gw.sock".into() }));
        for text in [
            "",
            "gw:80",
            "ftp://gw",
            "https://",
            "https://gw/v1",
            "https://u@gw",
            "https://gw:0",
            "https://gw:65536",
            "https://gw:+1",
            "https://gw?x",
            "https://GW",
            "https://[::1",
            "https://[::1]x",
            "https://[gw]:1",
            "http://2852039166",
            "http://0xA9FEA9FE",
            "http://0xa9fea9fe",
            "http://169.254.1",
            "unix:run/x",
            "https://gw:1:2",
        ] {
            assert_eq!(upstream_url(text).map_err(|flaw| flaw.code), Err("bad-url"), "{text}");
        }
    }

    #[test]
    fn an_upstream_prints_as_it_is_written() {
        for text in ["https://gw.internal:8443", "http://[::1]:80", "unix:/run/gw.sock"] {
            assert_eq!(upstream_url(text).unwrap().to_string(), text);
        }
    }
}
