use super::program::{Explained, HostRow, PolicyReport, TestRow, UserFile, UserRow};
use super::*;
use clap::CommandFactory as _;
use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use wicketgate::admin::{AdminSocket, Operations, SessionRow};
use wicketgate::complaint::Severity;
use wicketgate::identity::SessionId;
use wicketgate::policy::{Persona, RequestText};
use zeroize::Zeroizing;

use super::password::Passwords;

/// The rest of the program, as a test wants it.
#[derive(Default)]
struct Fake {
    report: PolicyReport,
    allowed: bool,
    users: Rc<RefCell<Vec<UserRow>>>,
    passwords: Rc<RefCell<Vec<String>>>,
    asked: RefCell<Vec<(PathBuf, bool)>>,
    served: RefCell<Vec<PathBuf>>,
}

impl Program for Fake {
    fn serve(&self, _: Config, file: &Path) -> anyhow::Result<()> {
        self.served.borrow_mut().push(file.to_path_buf());
        Ok(())
    }

    fn policies(&self, directory: &Path, config: Option<&Config>) -> anyhow::Result<PolicyReport> {
        self.asked.borrow_mut().push((directory.to_path_buf(), config.is_some()));
        Ok(self.report.clone())
    }

    fn explain(&self, _: &Path, _: Option<&Config>, who: &Persona, request: &RequestText) -> anyhow::Result<Explained> {
        if !self.report.complaints.is_empty() {
            return Ok(Explained::Broken(self.report.complaints.clone()));
        }
        let text = format!(
            "{} {}{} as {}\n",
            request.method,
            request.host,
            request.target,
            who.user.as_deref().unwrap_or_default()
        );
        Ok(Explained::Judged { allowed: self.allowed, text, json: serde_json::json!({ "allowed": self.allowed }) })
    }

    fn users(&self, _: &config::Users) -> anyhow::Result<Box<dyn UserFile>> {
        Ok(Box::new(FakeUsers { rows: Rc::clone(&self.users), passwords: Rc::clone(&self.passwords) }))
    }
}

struct FakeUsers {
    rows: Rc<RefCell<Vec<UserRow>>>,
    passwords: Rc<RefCell<Vec<String>>>,
}

impl UserFile for FakeUsers {
    fn add(&mut self, name: &str, groups: &[String], password: &Zeroizing<String>) -> anyhow::Result<()> {
        self.passwords.borrow_mut().push(password.to_string());
        self.rows.borrow_mut().push(UserRow { name: name.to_owned(), groups: groups.to_vec(), enabled: true });
        Ok(())
    }

    fn set_password(&mut self, _: &str, password: &Zeroizing<String>) -> anyhow::Result<()> {
        self.passwords.borrow_mut().push(password.to_string());
        Ok(())
    }

    fn set_enabled(&mut self, name: &str, enabled: bool) -> anyhow::Result<bool> {
        let mut rows = self.rows.borrow_mut();
        let row = rows.iter_mut().find(|row| row.name == name).unwrap();
        Ok(std::mem::replace(&mut row.enabled, enabled) != enabled)
    }

    fn contains(&self, name: &str) -> anyhow::Result<bool> {
        Ok(self.rows.borrow().iter().any(|row| row.name == name))
    }

    fn list(&self) -> anyhow::Result<Vec<UserRow>> {
        Ok(self.rows.borrow().clone())
    }
}

/// One password, once.
struct Once(Option<&'static str>);

impl Passwords for Once {
    fn new_password(&mut self, _: &str) -> io::Result<Zeroizing<String>> {
        let password = self.0.take().ok_or_else(|| io::Error::other("asked for a password"))?;
        Ok(Zeroizing::new(password.to_owned()))
    }
}

/// What a command did.
#[derive(Debug)]
struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

fn run_with(program: &dyn Program, password: Option<&'static str>, arguments: &[&str]) -> Ran {
    let cli = Cli::try_parse_from(std::iter::once(&"wicketgate").chain(arguments)).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal { out: &mut out, err: &mut err, passwords: &mut Once(password) };
    let exit = run(&cli, program, &mut terminal);
    Ran { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

fn runs(program: &dyn Program, arguments: &[&str]) -> Ran {
    run_with(program, None, arguments)
}

const CONFIG: &str = r#"
[tls]
certificate = "server.pem"
key = "server.key"
[network]
suffix = "api.corp.example"
[services]
ca = "ca.pem"
ca_key = "ca.key"
"#;

/// A directory with a configuration whose values are right, and none of whose files exist.
fn configured() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wicketgate.toml");
    fs::write(&path, CONFIG).unwrap();
    let path = path.display().to_string();
    (directory, path)
}

/// All commands below `command`, itself included.
fn all(command: &clap::Command) -> Vec<clap::Command> {
    let below = command.get_subcommands().filter(|command| command.get_name() != "help").flat_map(all);
    std::iter::once(command.clone()).chain(below).collect()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_and_argument_says_what_it_is() {
    let mut command = Cli::command();
    command.build();
    let commands = all(&command);
    assert_eq!(commands.len(), 15);
    for command in commands {
        let name = command.get_name().to_owned();
        let about = command.get_about().unwrap_or_else(|| panic!("`{name}` has no text")).to_string();
        assert!(about.len() > 8 && !about.ends_with('.'), "{name}: {about}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "`{name} {}` has no text", argument.get_id());
        }
    }
}

#[test]
fn help_lists_the_commands_as_people_look_for_them() {
    let help = Cli::command().render_help().to_string();
    for line in [
        "  serve    Run the server",
        "  check    Check configuration, certificates, policies and their tests, without serving",
        "  policy   Ask the policies",
        "  user     Change the local user file",
        "  session  See and end live sessions, through the admin socket of the running server",
    ] {
        assert!(help.lines().any(|shown| shown == line), "{line}\n{help}");
    }
}

#[test]
fn no_flag_takes_a_secret() {
    for arguments in [
        &["user", "add", "alice", "--password", "x"][..],
        &["user", "passwd", "alice", "secret"],
        &["user", "add", "alice", "secret"],
    ] {
        let error = Cli::try_parse_from(std::iter::once(&"wicketgate").chain(arguments)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn the_directory_of_explain_may_be_left_out() {
    let parsed = |arguments: &[&str]| {
        let line = ["wicketgate", "policy", "explain"].iter().chain(arguments);
        let command = Cli::try_parse_from(line).unwrap().command;
        let Command::Policy(PolicyCommand::Explain(arguments)) = command else { panic!("{command:?}") };
        arguments
    };
    let with = parsed(&["dir", "--as", "user=alice", "GET https://a/"]);
    assert_eq!(with.split(), (Some(Path::new("dir")), "GET https://a/"));
    let without = parsed(&["--as", "user=alice,groups=a+b", "GET https://a/"]);
    assert_eq!(without.split(), (None, "GET https://a/"));
    assert_eq!(without.who.groups, ["a", "b"]);
    let ran = runs(&Fake::default(), &["policy", "explain", "dir", "--as", "user=alice"]);
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("as in 'GET https://host/path'"), "{}", ran.err);
}

#[test]
fn a_configuration_that_serve_cannot_start_with_is_78_and_check_says_1() {
    let fake = Fake::default();
    let (_directory, path) = configured();
    let serve = runs(&fake, &["serve", "--config", &path]);
    assert_eq!(serve.exit.code(), 78);
    assert!(serve.err.contains(&format!("{path}:3:15: error[not-found]: ")), "{}", serve.err);
    assert!(fake.served.borrow().is_empty());
    let check = runs(&fake, &["--config", &path, "check"]);
    assert_eq!(check.exit.code(), 1);
    assert!(check.out.contains(&format!("{path}:3:15: error[not-found]: ")), "{}", check.out);
    assert!(check.out.ends_with("is not good: 5 errors, 1 warning, 0 tests\n"), "{}", check.out);
    assert_eq!(check.err, "");
}

#[test]
fn a_missing_configuration_is_78() {
    let missing = runs(&Fake::default(), &["serve", "--config", "/nonexistent/wicketgate.toml"]);
    assert_eq!(missing.exit, Exit::Config);
    assert!(missing.err.starts_with("/nonexistent/wicketgate.toml:1:1: error[not-found]: "), "{}", missing.err);
}

#[test]
fn machines_get_one_object_a_line_from_check() {
    let (_directory, path) = configured();
    let check = runs(&Fake::default(), &["check", "--format", "json", "--config", &path]);
    let lines: Vec<serde_json::Value> = check.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (summary, complaints) = lines.split_last().unwrap();
    assert_eq!((&summary["good"], summary["errors"].as_u64()), (&false.into(), Some(5)));
    assert_eq!(complaints.len(), 6);
    assert_eq!(complaints[0]["file"], path.as_str());
}

fn report() -> PolicyReport {
    let test = |name: &str| TestRow { file: PathBuf::from("orders.toml"), name: name.to_owned() };
    PolicyReport {
        bundle: Some("7f3a".to_owned()),
        apis: 1,
        hosts: vec![HostRow { host: "orders.api.corp.example".to_owned(), address: "198.18.7.130".to_owned() }],
        tests: vec![test("staff may read"), test("guests may not")],
        complaints: Vec::new(),
    }
}

#[test]
fn tests_that_pass_are_a_yes_and_the_directory_comes_from_the_configuration() {
    let fake = Fake { report: report(), ..Fake::default() };
    let (directory, path) = configured();
    let ran = runs(&fake, &["policy", "test", "--config", &path]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Done, "2 tests passed\n"));
    assert_eq!(*fake.asked.borrow(), [(directory.path().join("policies"), true)]);
    let json = runs(&fake, &["policy", "test", "--format", "json", "policies"]);
    let summary: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(summary["tests"][0]["name"], "staff may read");
}

#[test]
fn a_bundle_that_does_not_compile_is_a_no() {
    let complaint = Complaint {
        severity: Severity::Error,
        code: "unknown-key",
        file: Arc::from("orders.toml"),
        text: Arc::from("x = 1\n"),
        span: 0..1,
        message: "unknown key `x`".to_owned(),
        hint: None,
    };
    let fake =
        Fake { report: PolicyReport { complaints: vec![complaint], ..PolicyReport::default() }, ..Fake::default() };
    for arguments in [
        &["policy", "test", "policies"][..],
        &["policy", "explain", "policies", "--as", "user=alice", "GET https://orders/"],
    ] {
        let ran = runs(&fake, arguments);
        assert_eq!(ran.exit, Exit::No);
        assert!(ran.out.starts_with("orders.toml:1:1: error[unknown-key]: unknown key `x`\n"), "{}", ran.out);
    }
}

#[test]
fn a_directory_is_judged_under_the_configuration_that_is_named_beside_it() {
    let fake = Fake::default();
    let (_directory, path) = configured();
    runs(&fake, &["policy", "test", "elsewhere"]);
    runs(&fake, &["--config", &path, "policy", "test", "elsewhere"]);
    let elsewhere = PathBuf::from("elsewhere");
    assert_eq!(*fake.asked.borrow(), [(elsewhere.clone(), false), (elsewhere, true)]);
}

#[test]
fn explain_exits_by_the_decision() {
    for (allowed, exit) in [(true, Exit::Done), (false, Exit::No)] {
        let fake = Fake { allowed, ..Fake::default() };
        let arguments = ["policy", "explain", "dir", "--as", "user=alice", "GET https://orders/"];
        let ran = runs(&fake, &arguments);
        assert_eq!((ran.exit, ran.out.as_str()), (exit, "GET orders/ as alice\n"));
    }
}

#[test]
fn users_are_added_changed_and_listed() {
    let fake = Fake::default();
    let (_directory, path) = configured();
    let user = |password, arguments: &[&str]| {
        let line: Vec<&str> = ["--config", path.as_str(), "user"].iter().chain(arguments).copied().collect();
        run_with(&fake, password, &line)
    };
    assert_eq!(user(Some("secret"), &["add", "alice", "--groups", "staff,orders-read"]).out, "alice: added\n");
    assert_eq!(user(Some("other"), &["passwd", "alice"]).out, "alice: password set\n");
    assert_eq!(*fake.passwords.borrow(), ["secret", "other"]);
    assert_eq!(user(None, &["disable", "alice"]).out, "alice: disabled\n");
    assert_eq!(user(None, &["disable", "alice"]).out, "alice: disabled already\n");
    assert_eq!(user(None, &["list"]).out, "NAME   STATE     GROUPS\nalice  disabled  staff,orders-read\n");
    assert_eq!(user(None, &["enable", "alice"]).out, "alice: enabled\n");
    let json: serde_json::Value = serde_json::from_str(&user(None, &["list", "--format", "json"]).out).unwrap();
    assert_eq!(json, serde_json::json!([{"name": "alice", "groups": ["staff", "orders-read"], "enabled": true}]));
}

#[test]
fn a_wrong_name_is_told_before_a_password_is_asked_for() {
    let fake = Fake::default();
    let (_directory, path) = configured();
    let ran = runs(&fake, &["--config", &path, "user", "passwd", "nobody"]);
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::No, "error: there is no user \"nobody\"\n"));
    run_with(&fake, Some("secret"), &["--config", &path, "user", "add", "alice"]);
    let ran = runs(&fake, &["--config", &path, "user", "add", "alice"]);
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::No, "error: there is a user \"alice\" already\n"));
}

struct Sessions;

impl Operations for Sessions {
    fn ready(&self) -> Result<(), Vec<String>> {
        Ok(())
    }

    fn metrics(&self) -> String {
        String::new()
    }

    fn sessions(&self) -> Vec<SessionRow> {
        let row = |id, user: &str| SessionRow {
            id: SessionId::from_random(id).to_string(),
            user: user.to_owned(),
            source: Ipv4Addr::new(192, 0, 2, 7).into(),
            method: "mschapv2".to_owned(),
            binding: "keys".to_owned(),
            since: "2026-11-23T22:06:00.123Z".to_owned(),
            age: 125,
            streams: 2,
            requests: 9,
        };
        vec![row(7, "bob"), row(8, "alice")]
    }

    fn end_session(&self, id: SessionId) -> bool {
        id == SessionId::from_random(7)
    }
}

/// Serves the admin socket of the configuration in `directory`, on a thread of its own, while `test` runs.
fn with_server(directory: &Path, test: impl FnOnce()) {
    let (ready, bound) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let socket = AdminSocket::bind(&directory.join("admin.sock")).unwrap();
                let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(()).unwrap();
                // Told to stop, or the test panicked: either way it is over.
                let stop = async { stopped.await.unwrap_or(()) };
                wicketgate::admin::serve(address, socket, Arc::new(Sessions), stop).await;
            });
        });
        bound.recv().unwrap();
        let _stopped_when_dropped = stop;
        test();
    });
}

#[test]
fn sessions_are_listed_and_ended_through_the_socket() {
    let (directory, path) = configured();
    let fake = Fake::default();
    with_server(directory.path(), || {
        let list = runs(&fake, &["--config", &path, "session", "list"]);
        let expected = "\
ID                  USER   SOURCE     METHOD    BINDING  AGE    STREAMS  REQUESTS
s-0000000000000008  alice  192.0.2.7  mschapv2  keys     2m05s  2        9
s-0000000000000007  bob    192.0.2.7  mschapv2  keys     2m05s  2        9
";
        assert_eq!((list.exit, list.out.as_str()), (Exit::Done, expected), "{}", list.err);
        let json = runs(&fake, &["--config", &path, "--format", "json", "session", "list"]);
        assert_eq!(serde_json::from_str::<Vec<SessionRow>>(&json.out).unwrap().len(), 2);
        let kill = |id: &str| runs(&fake, &["--config", &path, "session", "kill", id]);
        let killed = kill("s-0000000000000007");
        assert_eq!((killed.exit, killed.out.as_str()), (Exit::Done, "s-0000000000000007: ended\n"));
        let unknown = kill("s-0000000000000009");
        assert_eq!((unknown.exit, unknown.out.as_str()), (Exit::No, "s-0000000000000009: no such session\n"));
        assert_eq!(kill("7").exit, Exit::Usage);
    });
}

#[test]
fn without_a_server_the_socket_is_named() {
    let (directory, path) = configured();
    let list = runs(&Fake::default(), &["--config", &path, "session", "list"]);
    assert_eq!(list.exit, Exit::No);
    let socket = directory.path().join("admin.sock");
    assert!(list.err.starts_with(&format!("error: {}: is the server running", socket.display())), "{}", list.err);
}

#[test]
fn every_exit_has_its_own_number() {
    let codes = [Exit::Done, Exit::No, Exit::Usage, Exit::Config].map(Exit::code);
    assert_eq!(codes, [0, 1, 2, 78]);
}
