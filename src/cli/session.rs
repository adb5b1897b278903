//! `wicketgate session`: HTTP over the admin socket of the running server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use wicketgate::admin::SessionRow;
use wicketgate::identity::SessionId;

use super::output::table;
use super::{Cli, Exit, Failure, Format, SessionCommand, Terminal, read_config};

/// How long the server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer: a million sessions, which is the most that the configuration allows, at 256 bytes each.
const MAX_ANSWER: usize = 256 << 20;

pub(super) fn session(cli: &Cli, command: &SessionCommand, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let config = read_config(cli)?;
    match command {
        SessionCommand::List => {
            let (status, body) = ask(&config.admin.socket, Method::GET, "/sessions")?;
            if status != StatusCode::OK {
                return Err(unexpected(status));
            }
            let mut sessions: Vec<SessionRow> =
                serde_json::from_slice(&body).context("the server's answer is not a list of sessions")?;
            sessions.sort_by(|a, b| (&a.user, &a.since, &a.id).cmp(&(&b.user, &b.since, &b.id)));
            print(cli, sessions, terminal)?;
            Ok(Exit::Done)
        }
        SessionCommand::Kill { id } => {
            let Some(id) = SessionId::parse(id) else {
                writeln!(
                    terminal.err,
                    "error: a session id is `s-` and 16 hexadecimal digits, as `session list` prints it"
                )?;
                return Ok(Exit::Usage);
            };
            let (status, _) = ask(&config.admin.socket, Method::DELETE, &format!("/sessions/{id}"))?;
            let ended = match status {
                StatusCode::NO_CONTENT => true,
                StatusCode::NOT_FOUND => false,
                other => return Err(unexpected(other)),
            };
            match cli.format {
                Format::Text if ended => writeln!(terminal.out, "{id}: ended")?,
                Format::Text => writeln!(terminal.out, "{id}: no such session")?,
                Format::Json => {
                    let answer = serde_json::json!({ "id": id.to_string(), "ended": ended });
                    writeln!(terminal.out, "{answer}")?;
                }
            }
            Ok(if ended { Exit::Done } else { Exit::No })
        }
    }
}

fn unexpected(status: StatusCode) -> Failure {
    Failure::Other(anyhow::anyhow!("the server answered {status}"))
}

fn print(cli: &Cli, sessions: Vec<SessionRow>, terminal: &mut Terminal<'_>) -> anyhow::Result<()> {
    match cli.format {
        Format::Text => {
            let rows = sessions.into_iter().map(|row| {
                let age = age(row.age);
                let (streams, requests) = (row.streams.to_string(), row.requests.to_string());
                [row.id, row.user, row.source.to_string(), row.method, row.binding, age, streams, requests]
            });
            let head = ["ID", "USER", "SOURCE", "METHOD", "BINDING", "AGE", "STREAMS", "REQUESTS"];
            write!(terminal.out, "{}", table(head, rows))?;
        }
        Format::Json => writeln!(terminal.out, "{}", serde_json::to_string(&sessions)?)?,
    }
    Ok(())
}

/// `59s`, `2m05s`, `11h03m`.
fn age(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest:02}s"),
        (hours, minutes) => format!("{hours}h{minutes:02}m"),
    }
}

fn ask(socket: &Path, method: Method, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match tokio::time::timeout(TIMEOUT, exchange(socket, method, path)).await {
            Ok(answer) => answer,
            Err(_) => bail!("the server did not answer within {} s", TIMEOUT.as_secs()),
        }
    })
}

async fn exchange(socket: &Path, method: Method, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("{}: is the server running, and may you open its socket?", socket.display()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "admin").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(anyhow::Error::from_boxed)?;
    Ok((status, body.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        assert_eq!([age(0), age(59), age(125), age(39_780)], ["0s", "59s", "2m05s", "11h03m"]);
    }
}
