//! The program `wicketgate`: flags, the log, one command, an exit code. See the library for what it is.

mod cli;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use wicketgate::telemetry;

use cli::{Cli, Exit, IgnoreBrokenPipe, Stdin, Terminal, Wired};

/// A request makes and drops some forty small things; the system's allocator takes a tenth of the proxy's time for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Says what is logged when `--log` does not.
const LOG_VARIABLE: &str = "WICKETGATE_LOG";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut err = IgnoreBrokenPipe(std::io::stderr());
    let variable = std::env::var(LOG_VARIABLE).ok().filter(|level| !level.is_empty());
    let level = cli.log.clone().or(variable).unwrap_or_else(|| telemetry::DEFAULT_LEVEL.to_owned());
    if let Err(error) = telemetry::init(&level, cli.log_format.into()) {
        // When standard error is gone too, the exit code is all that can be told.
        let _told = writeln!(err, "error: {error}").is_ok();
        return ExitCode::from(Exit::Usage.code());
    }
    let mut out = IgnoreBrokenPipe(std::io::stdout());
    let mut terminal = Terminal { out: &mut out, err: &mut err, passwords: &mut Stdin };
    ExitCode::from(cli::run(&cli, &Wired, &mut terminal).code())
}
