//! The calls of the tour, and the table that they make.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use serde_json::Value;
use wicket_client::http::{Http1, Request, raw};
use wicket_client::{Error, Resolved, Tunnel};

use crate::issuer::Issuer;

const INVENTORY: &str = "inventory.api.example.test";
const PAYROLL: &str = "payroll.api.example.test";

/// One line of the table.
pub(crate) struct Row {
    call: String,
    answer: String,
    rule: String,
    reason: String,
    decision: String,
    /// Whether the answer was the one that the policy means.
    pub(crate) expected: bool,
}

/// Alice's tour.
pub(crate) async fn tour(
    tunnel: &Tunnel,
    issuer: &Issuer,
    roots: &rustls::RootCertStore,
    audit: &Path,
) -> Result<Vec<Row>> {
    let mut rows = vec![
        name(tunnel, INVENTORY, true).await?,
        get(tunnel, "her group may read", "/v1/items/7", None, "200", "").await?,
        over_tls(tunnel, roots).await?,
    ];
    let token = issuer.token("alice", 600)?;
    rows.push(get(tunnel, "with her token", "/v1/items/7", Some(&token), "200", "").await?);
    rows.push(get(tunnel, "no rule speaks of it", "/v1/orders", None, "403", "no-rule").await?);
    rows.push(delete(tunnel).await?);
    let token = issuer.token("bob", 600)?;
    rows.push(get(tunnel, "with bob's token", "/v1/items/7", Some(&token), "401", "identity-conflict").await?);
    let token = issuer.token("alice", -120)?;
    rows.push(get(tunnel, "with an expired token", "/v1/items/7", Some(&token), "401", "token-expired").await?);
    rows.push(trick(tunnel).await?);
    rows.push(name(tunnel, PAYROLL, false).await?);
    rows.push(silence(tunnel).await?);
    rows.push(burst(tunnel).await?);
    name_rules(&mut rows, audit)?;
    Ok(rows)
}

/// The rows as text, and whether all of them are as expected.
pub(crate) fn table(rows: &[Row]) -> (String, bool) {
    let head = ["CALL", "ANSWER", "RULE", "REASON", ""];
    let cells: Vec<[&str; 5]> = rows
        .iter()
        .map(|row| [&*row.call, &*row.answer, &*row.rule, &*row.reason, if row.expected { "ok" } else { "UNEXPECTED" }])
        .collect();
    let mut width = head.map(str::len);
    for row in &cells {
        for (width, cell) in width.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&cells) {
        for (cell, width) in row.iter().zip(width) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    (text, rows.iter().all(|row| row.expected))
}

/// The API does not learn which rule let a call pass, the audit record does.
fn name_rules(rows: &mut [Row], audit: &Path) -> Result<()> {
    let text = fs::read_to_string(audit)?;
    let records: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for row in rows.iter_mut().filter(|row| row.rule.is_empty()) {
        let of_row = |record: &&Value| record["event"] == "decision" && record["decision_id"] == *row.decision;
        if let Some(rule) = records.iter().find(of_row).and_then(|record| record["rule"].as_str()) {
            rule.clone_into(&mut row.rule);
        }
    }
    Ok(())
}

async fn connect(tunnel: &Tunnel) -> Result<Http1> {
    let address = address(tunnel, INVENTORY).await?;
    Ok(Http1::new(tunnel.tcp(address, 80).await?).await?)
}

async fn address(tunnel: &Tunnel, host: &str) -> Result<std::net::Ipv4Addr> {
    match tunnel.resolve(host).await? {
        Resolved::Addresses(addresses) => addresses.first().copied().context("an address"),
        none @ (Resolved::NoData | Resolved::NxDomain | Resolved::Refused | Resolved::Failed(_)) => {
            anyhow::bail!("{host} resolves to {none:?}")
        }
    }
}

async fn name(tunnel: &Tunnel, host: &str, exists: bool) -> Result<Row> {
    let (answer, found) = match tunnel.resolve(host).await? {
        Resolved::Addresses(addresses) => (format!("{addresses:?}"), true),
        Resolved::NxDomain => ("NXDOMAIN".to_owned(), false),
        neither @ (Resolved::NoData | Resolved::Refused | Resolved::Failed(_)) => (format!("{neither:?}"), !exists),
    };
    let reason = if exists { "" } else { "not visible to alice" };
    Ok(Row {
        call: format!("look up {host}"),
        answer,
        rule: String::new(),
        reason: reason.to_owned(),
        decision: String::new(),
        expected: found == exists,
    })
}

async fn get(tunnel: &Tunnel, what: &str, path: &str, token: Option<&str>, answer: &str, reason: &str) -> Result<Row> {
    let mut request = Request::get(INVENTORY, path);
    if let Some(token) = token {
        request = request.bearer(token);
    }
    let response = connect(tunnel).await?.send(request).await?;
    Ok(row(format!("GET {path}, {what}"), response.status, &response.text(), answer, reason))
}

async fn delete(tunnel: &Tunnel) -> Result<Row> {
    let request = Request::new(Method::DELETE, INVENTORY, "/v1/items/7");
    let response = connect(tunnel).await?.send(request).await?;
    let call = "DELETE /v1/items/7, another group may".to_owned();
    Ok(row(call, response.status, &response.text(), "403", "no-rule-for-subject"))
}

async fn over_tls(tunnel: &Tunnel, roots: &rustls::RootCertStore) -> Result<Row> {
    let stream = tunnel.tcp(address(tunnel, INVENTORY).await?, 443).await?;
    let stream = wicket_client::http::tls(stream, roots.clone(), INVENTORY, &[b"h2"]).await?;
    let http = wicket_client::http::Http2::new(stream).await?;
    let response = http.send(Request::get(INVENTORY, "/v1/items")).await?;
    Ok(row("GET /v1/items, over HTTPS and HTTP/2".to_owned(), response.status, &response.text(), "200", ""))
}

async fn trick(tunnel: &Tunnel) -> Result<Row> {
    let path = "/v1/items/..%2f..%2fadmin";
    let stream = tunnel.tcp(address(tunnel, INVENTORY).await?, 80).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {INVENTORY}\r\nConnection: close\r\n\r\n");
    let answer = raw(stream, request.as_bytes(), Duration::from_secs(5)).await;
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
    let status = answer.status().unwrap_or_default();
    Ok(row(format!("GET {path}, a path trick"), status, body, "400", "malformed-target"))
}

/// The addresses of hosts that do not exist for this person do not answer at all.
async fn silence(tunnel: &Tunnel) -> Result<Row> {
    let known = address(tunnel, INVENTORY).await?;
    let hidden = (129..=254).map(|last| std::net::Ipv4Addr::new(198, 18, 7, last)).find(|address| *address != known);
    let hidden = hidden.context("another address")?;
    let (answer, expected) = match tunnel.tcp_within(hidden, 80, Duration::from_secs(2)).await {
        Err(Error::Silent) => ("silence".to_owned(), true),
        Err(other) => (other.to_string(), false),
        Ok(_) => ("connected".to_owned(), false),
    };
    Ok(Row {
        call: format!("connect to {hidden}"),
        answer,
        rule: String::new(),
        reason: "no host that alice may see".to_owned(),
        decision: String::new(),
        expected,
    })
}

async fn burst(tunnel: &Tunnel) -> Result<Row> {
    let mut http = connect(tunnel).await?;
    for sent in 1..=20 {
        let response = http.send(Request::get(INVENTORY, "/v1/items")).await?;
        if response.status != 200 {
            let call = format!("GET /v1/items, {sent} times at once");
            return Ok(row(call, response.status, &response.text(), "429", "limited"));
        }
    }
    Ok(row("GET /v1/items, 20 times at once".to_owned(), 200, "", "429", "limited"))
}

fn row(call: String, status: u16, body: &str, answer: &str, reason: &str) -> Row {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (got, got_reason) = (status.to_string(), text("reason"));
    let expected = got == answer && got_reason == reason;
    // Ours is called `decision_id`; the backend repeats the one that it was told.
    let decision = [text("decision_id"), text("decision")].concat();
    Row { call, answer: got, rule: text("rule"), reason: got_reason, decision, expected }
}
