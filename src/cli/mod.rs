//! The command line: flags only, and one function for each command.
//!
//! What a command needs of the rest of the program comes through [`Program`], and what it prints goes to [`Terminal`], so
//! that a test runs a command like a person does. Exit codes are decided here: 0 done, 1 the answer is no, 2 usage, 78 a
//! configuration that cannot be used.

mod check;
mod output;
mod password;
mod policy;
mod program;
mod session;
mod user;

#[cfg(test)]
mod tests;

pub(crate) use output::{IgnoreBrokenPipe, Terminal};
pub(crate) use password::Stdin;
pub(crate) use program::{Program, Wired};

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use wicketgate::complaint::Complaint;
use wicketgate::config::{self, Config};
use wicketgate::server::Unusable;
use wicketgate::telemetry;

/// A zero-trust API access proxy built on SSTP tunnels.
///
/// Developers connect with the VPN client that Windows already has; the tunnel ends in this process, where nothing exists
/// but the APIs that the policy files give to this person.
#[derive(Debug, Parser)]
#[command(name = "wicketgate", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The configuration file [default: wicketgate.toml here, then /etc/wicketgate/wicketgate.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// How answers are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,

    /// What is logged: off, error, warn, info, debug, trace, or a list like `info,hyper=debug` [default: $WICKETGATE_LOG,
    /// then info]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log: Option<String>,

    /// How the log is printed
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For machines
    Json,
}

/// How the log is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

impl From<LogFormat> for telemetry::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    ///
    /// SIGTERM drains: no new connections, running requests end. SIGHUP reads certificates, users and policies again.
    Serve,

    /// Check configuration, certificates, policies and their tests, without serving
    ///
    /// Every complaint has file, line, column and a hint. Exits with 0 when the server could start like this, else with 1.
    Check,

    /// Ask the policies
    #[command(subcommand)]
    Policy(PolicyCommand),

    /// Change the local user file
    ///
    /// A password is asked for on a terminal, or read as one line from standard input; never from an argument.
    #[command(subcommand)]
    User(UserCommand),

    /// See and end live sessions, through the admin socket of the running server
    #[command(subcommand)]
    Session(SessionCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Run the tests inside the policy files
    Test {
        /// The directory of policies [default: the configuration's]
        directory: Option<PathBuf>,
    },

    /// Tell how a request would be judged, rule by rule
    ///
    /// Exits with 0 when it would be allowed, else with 1.
    #[command(override_usage = "wicketgate policy explain [OPTIONS] --as <WHO> [DIR] <REQUEST>")]
    Explain(Box<ExplainArgs>),
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The directory of policies, when the request follows it; else the request itself
    #[arg(value_name = "DIR")]
    first: String,

    /// Method and URL in one argument, as in 'GET https://orders.api.corp.example/v1/orders'
    #[arg(value_name = "REQUEST")]
    second: Option<String>,

    /// Who asks, as in 'user=alice,groups=staff+orders-read'
    #[arg(long = "as", value_name = "WHO", value_parser = wicketgate::policy::Persona::parse)]
    pub(crate) who: wicketgate::policy::Persona,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user
    Add {
        /// The name that the person logs in with
        name: String,
        /// The groups of the user, separated by commas
        #[arg(long, value_delimiter = ',', value_name = "GROUPS")]
        groups: Vec<String>,
    },
    /// Set another password
    Passwd {
        /// The name
        name: String,
    },
    /// End the user's sessions and refuse new ones
    Disable {
        /// The name
        name: String,
    },
    /// Let a disabled user log in again
    Enable {
        /// The name
        name: String,
    },
    /// List all users
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List live sessions
    List,
    /// End a session
    Kill {
        /// The id, as `session list` prints it
        id: String,
    },
}

impl ExplainArgs {
    /// The directory, if there is one, and the request: the last of the two arguments.
    pub(crate) fn split(&self) -> (Option<&Path>, &str) {
        match &self.second {
            Some(request) => (Some(Path::new(&self.first)), request),
            None => (None, &self.first),
        }
    }
}

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It is done.
    Done,
    /// The answer is no.
    No,
    /// The command line is wrong.
    Usage,
    /// The configuration cannot be used.
    Config,
}

impl Exit {
    /// The number; 78 is `EX_CONFIG` of sysexits.h.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Config => 78,
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration cannot be used.
    Config(Vec<Complaint>),
    /// There is none.
    NotLocated(config::NotLocated),
    /// Anything else, in the words of whoever failed.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Runs one command and tells how it ended.
pub(crate) fn run(cli: &Cli, program: &dyn Program, terminal: &mut Terminal<'_>) -> Exit {
    let answer = match &cli.command {
        Command::Serve => serve(cli, program, terminal),
        Command::Check => check::check(cli, program, terminal),
        Command::Policy(PolicyCommand::Test { directory }) => {
            policy::test(cli, directory.as_deref(), program, terminal)
        }
        Command::Policy(PolicyCommand::Explain(arguments)) => policy::explain(cli, arguments, program, terminal),
        Command::User(command) => user::user(cli, command, program, terminal),
        Command::Session(command) => session::session(cli, command, terminal),
    };
    let failure = match answer {
        Ok(exit) => return exit,
        Err(failure) => failure,
    };
    let (exit, text) = match failure {
        Failure::Config(complaints) => (Exit::Config, render(&complaints, cli.format)),
        Failure::NotLocated(error) => (Exit::Config, format!("error: {error}\n")),
        Failure::Other(error) => (Exit::No, format!("error: {error:#}\n")),
    };
    // When standard error is gone too, the exit code is all that can be told.
    let _told = terminal.err.write_all(text.as_bytes()).is_ok();
    exit
}

fn serve(cli: &Cli, program: &dyn Program, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let path = locate(cli)?;
    let (config, warnings) = config::load(&path).map_err(Failure::Config)?;
    write!(terminal.err, "{}", render(&warnings, cli.format))?;
    let failed = |error: anyhow::Error| {
        error.downcast().map_or_else(Failure::Other, |Unusable(complaints)| Failure::Config(complaints))
    };
    program.serve(config, &path).map_err(failed)?;
    Ok(Exit::Done)
}

fn locate(cli: &Cli) -> Result<PathBuf, Failure> {
    config::locate(cli.config.clone()).map_err(Failure::NotLocated)
}

/// The configuration by what is written in it: for commands that must work while a certificate has expired.
fn read_config(cli: &Cli) -> Result<Config, Failure> {
    let (config, _) = config::read(&locate(cli)?).map_err(Failure::Config)?;
    Ok(config)
}

/// The directory of policies, and the configuration that they belong to: none where a directory is all that was given.
fn policies(cli: &Cli, directory: Option<&Path>) -> Result<(PathBuf, Option<Config>), Failure> {
    let Some(directory) = directory.map(Path::to_path_buf) else {
        let config = read_config(cli)?;
        return Ok((config.policies.clone(), Some(config)));
    };
    let config = match cli.config {
        Some(_) => Some(Config { policies: directory.clone(), ..read_config(cli)? }),
        None => None,
    };
    Ok((directory, config))
}

fn render(complaints: &[Complaint], format: Format) -> String {
    match format {
        Format::Text => config::complaint::text(complaints),
        Format::Json => config::complaint::json_lines(complaints),
    }
}
