//! What the commands need of the rest of the program, as one trait, and its implementation.

use std::path::{Path, PathBuf};

use serde::Serialize;
use zeroize::Zeroizing;

use wicketgate::complaint::Complaint;
use wicketgate::config::{Config, Users};

use super::policy::{Request, Who};

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
        who: &Who,
        request: &Request,
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
    /// How many rules.
    pub(crate) rules: usize,
    /// Its hosts with their virtual addresses, sorted.
    pub(crate) hosts: Vec<HostRow>,
    /// Its tests.
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
    /// The line of its `[[test]]`.
    pub(crate) line: usize,
    /// Its name.
    pub(crate) name: String,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
}

/// The answer of `policy explain`.
#[cfg_attr(not(test), expect(dead_code, reason = "LEAD: remove this line when `Wired::explain` makes them"))]
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
    fn contains(&self, name: &str) -> bool;
    /// All users, sorted by name.
    fn list(&self) -> Vec<UserRow>;
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
    // LEAD: `server::run(config, file)` on its runtime.
    fn serve(&self, _config: Config, _file: &Path) -> anyhow::Result<()> {
        anyhow::bail!("this build has no server")
    }

    // LEAD: `policy` compile and self-test.
    fn policies(&self, _directory: &Path, _config: Option<&Config>) -> anyhow::Result<PolicyReport> {
        anyhow::bail!("this build has no policy compiler")
    }

    // LEAD: `policy::judge` with its explanation.
    fn explain(
        &self,
        _directory: &Path,
        _config: Option<&Config>,
        _who: &Who,
        _request: &Request,
    ) -> anyhow::Result<Explained> {
        anyhow::bail!("this build has no policy compiler")
    }

    // LEAD: the user file of `identity::authn`.
    fn users(&self, _users: &Users) -> anyhow::Result<Box<dyn UserFile>> {
        anyhow::bail!("this build has no user file")
    }
}
