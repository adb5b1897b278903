//! What the commands need of the rest of the program, as one trait, and its implementation.

use std::path::{Path, PathBuf};

use serde::Serialize;
use zeroize::Zeroizing;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use wicketgate::complaint::Complaint;
use wicketgate::config::{Config, Users, complaint};
use wicketgate::identity::{authn, fold};
use wicketgate::policy::{self, Persona, RequestText};
use wicketgate::server::{self, Bound, Orders, loader};
use wicketgate::telemetry;

/// The rest of the program.
pub(crate) trait Program {
    /// Serves until a signal has drained it.
    fn serve(&self, config: Config, file: &Path) -> anyhow::Result<()>;

    /// Compiles the bundle in a directory and runs its tests. With a configuration, the names that policies use are
    /// checked against it, and hosts get their addresses.
    fn policies(&self, directory: &Path, config: Option<&Config>) -> anyhow::Result<PolicyReport>;

    /// Judges one request.
    fn explain(
        &self,
        directory: &Path,
        config: Option<&Config>,
        who: &Persona,
        request: &RequestText,
    ) -> anyhow::Result<Explained>;

    /// Opens the user file, or begins one.
    fn users(&self, users: &Users) -> anyhow::Result<Box<dyn UserFile>>;
}

/// What is known of a bundle.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyReport {
    /// All that is wrong with its files.
    pub(crate) complaints: Vec<Complaint>,
    /// Its id, when it compiles.
    pub(crate) bundle: Option<String>,
    /// How many APIs it has.
    pub(crate) apis: usize,
    /// Its hosts with their virtual addresses, sorted.
    pub(crate) hosts: Vec<HostRow>,
    /// Its tests, which all pass: one that fails is a complaint.
    pub(crate) tests: Vec<TestRow>,
}

/// A host and its virtual address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct HostRow {
    pub(crate) host: String,
    pub(crate) address: String,
}

/// One test inside a policy file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TestRow {
    /// The file.
    pub(crate) file: PathBuf,
    /// Its name.
    pub(crate) name: String,
}

/// The answer of `policy explain`.
#[derive(Clone, Debug)]
pub(crate) enum Explained {
    /// The bundle does not compile.
    Broken(Vec<Complaint>),
    /// The request was judged.
    Judged {
        /// Whether it would be forwarded.
        allowed: bool,
        /// The whole decision for people, ending with a newline.
        text: String,
        /// The same for machines.
        json: serde_json::Value,
    },
}

/// The local user file. Every change is in the file when the function returns.
pub(crate) trait UserFile {
    /// Adds a user; refuses a name that is there, or that nobody can log in with.
    fn add(&mut self, name: &str, groups: &[String], password: &Zeroizing<String>) -> anyhow::Result<()>;
    /// Sets another password.
    fn set_password(&mut self, name: &str, password: &Zeroizing<String>) -> anyhow::Result<()>;
    /// Disables or enables; false when it was so before.
    fn set_enabled(&mut self, name: &str, enabled: bool) -> anyhow::Result<bool>;
    /// Whether there is such a user, by the folded name.
    fn contains(&self, name: &str) -> anyhow::Result<bool>;
    /// All users, sorted by name.
    fn list(&self) -> anyhow::Result<Vec<UserRow>>;
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct UserRow {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
    pub(crate) enabled: bool,
}

/// The real thing.
pub(crate) struct Wired;

impl Program for Wired {
    fn serve(&self, config: Config, file: &Path) -> anyhow::Result<()> {
        let metrics = telemetry::install_metrics()?;
        let shards = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (stop, stopped) = oneshot::channel();
            let (reload, reloads) = mpsc::channel(1);
            let mut signals = JoinSet::new();
            signals.spawn(signals_to_orders(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, stop));
            let mut hangup = signal(SignalKind::hangup())?;
            signals.spawn(async move {
                while hangup.recv().await.is_some() {
                    // A wish that finds one waiting is the same wish.
                    let _waiting = reload.try_send(()).is_err();
                }
            });
            let orders = Orders { stop: stopped, reload: reloads };
            let ready = |bound: Bound| {
                tracing::info!(listen = %bound.listen, admin = %bound.admin, shards, "serving");
            };
            server::run(file.to_owned(), config, shards, metrics, orders, ready).await
        })
    }

    fn policies(&self, directory: &Path, config: Option<&Config>) -> anyhow::Result<PolicyReport> {
        let complaints = |complaints| PolicyReport { complaints, ..PolicyReport::default() };
        let compiled = match config {
            Some(config) => loader::check(config),
            None => compile(directory),
        };
        let (bundle, warnings) = match compiled {
            Ok(compiled) => compiled,
            Err(wrong) => return Ok(complaints(wrong)),
        };
        let host =
            |host: &policy::VirtualHost| HostRow { host: host.name.to_string(), address: host.address.to_string() };
        let test = |test: &policy::Test| TestRow { file: PathBuf::from(&*test.file), name: test.name.clone() };
        Ok(PolicyReport {
            complaints: warnings,
            bundle: Some(bundle.id().to_owned()),
            apis: bundle.apis().len(),
            hosts: bundle.hosts().iter().map(host).collect(),
            tests: bundle.tests().iter().map(test).collect(),
        })
    }

    fn explain(
        &self,
        directory: &Path,
        config: Option<&Config>,
        who: &Persona,
        request: &RequestText,
    ) -> anyhow::Result<Explained> {
        let compiled = match config {
            Some(config) => loader::check(config),
            None => compile(directory),
        };
        let bundle = match compiled {
            Ok((bundle, _)) => bundle,
            Err(complaints) => return Ok(Explained::Broken(complaints)),
        };
        let played = who.play(&bundle).map_err(|reason| anyhow::anyhow!("--as: {reason}"))?;
        let canonical = played.ask(&bundle, request, server::read_request);
        let canonical = canonical.map_err(|reason| anyhow::anyhow!("bad-request: {reason}"))?;
        let explanation = policy::explain(&bundle, &played.facts(&canonical));
        Ok(Explained::Judged {
            allowed: explanation.allowed(),
            text: explanation.to_string(),
            json: explanation.to_json(),
        })
    }

    fn users(&self, users: &Users) -> anyhow::Result<Box<dyn UserFile>> {
        Ok(Box::new(LocalUsers { file: authn::UserFile::new(&users.file, &users.key) }))
    }
}

/// The first signal that ends the process orderly.
async fn signals_to_orders(mut terminate: Signal, mut interrupt: Signal, stop: oneshot::Sender<()>) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Whoever stopped listening has ended already.
    let _ended = stop.send(()).is_err();
}

/// A directory without a configuration: names that policies use are taken as they are.
fn compile(directory: &Path) -> Result<(policy::Bundle, Vec<Complaint>), Vec<Complaint>> {
    let sources = loader::policy_files(directory)?;
    let environment = loader::lone_environment();
    let compiled = policy::compile(&sources, &environment, None)?;
    Ok((compiled.bundle, compiled.warnings))
}

/// The user file of `identity::authn`.
struct LocalUsers {
    file: authn::UserFile,
}

impl LocalUsers {
    fn accounts(&self) -> anyhow::Result<Vec<authn::Account>> {
        self.file.list().map_err(|complaints| anyhow::anyhow!("{}", complaint::text(&complaints)))
    }
}

impl UserFile for LocalUsers {
    fn add(&mut self, name: &str, groups: &[String], password: &Zeroizing<String>) -> anyhow::Result<()> {
        self.file.add(name, groups, password)?;
        Ok(())
    }

    fn set_password(&mut self, name: &str, password: &Zeroizing<String>) -> anyhow::Result<()> {
        self.file.passwd(name, password)?;
        Ok(())
    }

    fn set_enabled(&mut self, name: &str, enabled: bool) -> anyhow::Result<bool> {
        let folded = fold(name.as_bytes());
        let before = self
            .accounts()?
            .iter()
            .any(|account| folded.as_deref() == Some(account.name().as_str()) && account.is_disabled() != enabled);
        self.file.set_disabled(name, !enabled)?;
        Ok(!before)
    }

    fn contains(&self, name: &str) -> anyhow::Result<bool> {
        let folded = fold(name.as_bytes());
        Ok(self.accounts()?.iter().any(|account| folded.as_deref() == Some(account.name().as_str())))
    }

    fn list(&self) -> anyhow::Result<Vec<UserRow>> {
        let row = |account: &authn::Account| UserRow {
            name: account.name().to_string(),
            groups: account.groups().iter().map(ToString::to_string).collect(),
            enabled: !account.is_disabled(),
        };
        Ok(self.accounts()?.iter().map(row).collect())
    }
}
