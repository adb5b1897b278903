//! The program itself: its commands, their words and exit codes, and its signals.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use wicket_client::{Ended, Tunnel};

use crate::world::pki::PKI;
use crate::world::{Files, ORDERS_POLICY, PASSWORD, SERVER_NAME, World, eventually};

/// `wicketgate serve` as a process of its own; it does not outlive its test.
pub(super) struct Program {
    child: Child,
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Program {
    /// Starts it and waits until it serves.
    pub(super) fn serve(files: &Files) -> Self {
        Self::start(&mut wicketgate(&["serve"], files))
    }

    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let serving = lines.find(|line| line.contains("serving")).expect("it serves");
        // Somebody has to read on, or the log blocks the program.
        std::thread::spawn(move || lines.for_each(drop));
        let address = |name: &str| {
            let (_, rest) = serving.split_once(name).unwrap();
            rest.split(' ').next().unwrap().parse().unwrap()
        };
        Self { child, listen: address("listen="), admin: address("admin=") }
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        for _ in 0..1000 {
            status = self.child.try_wait().unwrap();
            if status.is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        status.expect("it ends within 10 s")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn wicketgate(arguments: &[&str], files: &Files) -> Command {
    let mut command = bare(arguments);
    command.arg("--config").arg(files.config());
    command
}

fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wicketgate"));
    command.args(arguments).env_remove("WICKETGATE_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a command that asks for a password.
fn run_with_password(command: &mut Command) -> (i32, String, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    told(child.wait_with_output().unwrap())
}

/// Runs a command: exit code, standard output, standard error.
fn run(command: &mut Command) -> (i32, String, String) {
    told(command.output().unwrap())
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The shipped template and policies, with certificates of ours.
async fn shipped() -> Files {
    let files = World::builder().write().await;
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR"));
    let template = fs::read_to_string(shipped.join("deploy/wicketgate.toml")).unwrap();
    let text = template
        .replace("# [authorities]\n# internal-ca", "[authorities]\ninternal-ca")
        .replace("# [client_certificates]\n# proxy-identity", "[client_certificates]\nproxy-identity");
    assert_ne!(text, template);
    fs::write(files.config(), text).unwrap();
    fs::write(files.path("tls/internal-ca.pem"), &PKI.root).unwrap();
    for (name, pem) in [("server", &PKI.server), ("proxy", &PKI.localhost)] {
        fs::write(files.path(&format!("tls/{name}.pem")), &pem.certificate).unwrap();
        fs::copy(files.path("tls/services-ca.key"), files.path(&format!("tls/{name}.key"))).unwrap();
        fs::write(files.path(&format!("tls/{name}.key")), &pem.key).unwrap();
    }
    fs::remove_dir_all(files.path("policies")).unwrap();
    fs::create_dir(files.path("policies")).unwrap();
    for entry in fs::read_dir(shipped.join("policies")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, files.path("policies").join(path.file_name().unwrap())).unwrap();
    }
    files
}

#[tokio::test]
async fn check_is_content_with_the_shipped_template_and_policies() {
    let files = shipped().await;
    let (code, out, err) = run(&mut wicketgate(&["check"], &files));
    assert_eq!(code, 0, "{out}{err}");
    for part in ["orders.api.corp.example", "ledger.api.corp.example", "198.18.7.", "is good: 0 errors"] {
        assert!(out.contains(part), "{part} in {out}");
    }
    let (code, out, _) = run(&mut wicketgate(&["check", "--format", "json"], &files));
    let verdict: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((code, &verdict["good"], &verdict["apis"]), (0, &true.into(), &2.into()), "{verdict}");
}

#[tokio::test]
async fn check_tells_every_mistake_with_file_line_column_and_cure() {
    let files = World::builder().write().await;
    files.write_policy("orders.toml", &ORDERS_POLICY.replace("owner ", "onwer "));
    let (code, out, _) = run(&mut wicketgate(&["check"], &files));
    let line = 1 + ORDERS_POLICY.lines().position(|line| line.starts_with("owner")).unwrap();
    assert_eq!(code, 1, "{out}");
    assert!(out.contains(&format!("orders.toml:{line}:1")) && out.contains("owner"), "{out}");
    assert!(out.contains("is not good:"), "{out}");
    let text = fs::read_to_string(files.config()).unwrap();
    fs::write(files.config(), text.replace("[network]", "[netwrok]")).unwrap();
    let (code, out, _) = run(&mut wicketgate(&["check"], &files));
    assert_eq!(code, 1);
    assert!(out.contains("netwrok") && out.contains("network"), "{out}");
    let mut missing = bare(&["check", "--config", "/nonexistent/wicketgate.toml"]);
    let (code, out, err) = run(&mut missing);
    assert!(code != 0 && format!("{out}{err}").contains("/nonexistent/wicketgate.toml"), "{code} {out}{err}");
}

#[tokio::test]
async fn the_shipped_policies_pass_their_own_tests() {
    let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/policies");
    let (code, out, err) = run(&mut bare(&["policy", "test", policies]));
    assert_eq!(code, 0, "{out}{err}");
    let tests = fs::read_dir(policies).unwrap().map(|entry| {
        fs::read_to_string(entry.unwrap().path()).unwrap().lines().filter(|line| *line == "[[test]]").count()
    });
    assert!(out.contains(&format!("{} tests passed", tests.sum::<usize>())), "{out}");
    let folder = tempfile::tempdir().unwrap();
    for name in ["_org.toml", "_identity.toml", "ledger.toml", "orders.toml"] {
        fs::copy(Path::new(policies).join(name), folder.path().join(name)).unwrap();
    }
    let text = fs::read_to_string(folder.path().join("orders.toml")).unwrap();
    fs::write(folder.path().join("orders.toml"), text.replacen("rule   = \"read\"", "rule   = \"change\"", 1)).unwrap();
    let (code, out, _) = run(&mut bare(&["policy", "test", folder.path().to_str().unwrap()]));
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("developer reads") && out.contains("orders.toml:"), "{out}");
}

#[tokio::test]
async fn explain_says_who_may_what_and_why_not() {
    let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/policies");
    let explain = |who: &str, request: &str| run(&mut bare(&["policy", "explain", policies, "--as", who, request]));
    let (code, out, err) = explain("user=alice,groups=orders-dev", "GET https://orders.api.corp.example/v1/orders/42");
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.to_lowercase().contains("allow") && out.contains("orders/read"), "{out}");
    let (code, out, _) = explain("user=alice,groups=orders-dev", "DELETE https://orders.api.corp.example/v1/orders/42");
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("no-rule-for-subject") && out.contains("orders/change"), "{out}");
    let (code, out, _) = explain("user=mallory", "GET https://orders.api.corp.example/v1/orders/42");
    assert_eq!(code, 1, "{out}");
    let (code, out, err) = explain("user=alice", "GET /v1/orders/42");
    assert_eq!(code, 2, "{out}{err}");
    let (code, ..) = explain("user=alice", "GET https://orders.api.corp.example/v1/..%2f");
    assert_ne!(code, 0);
}

#[tokio::test]
async fn sigterm_drains_and_ends_with_zero_and_sighup_reads_again() {
    let files = World::builder().write().await;
    let mut program = Program::serve(&files);
    let alice = Tunnel::connect(program.listen, PKI.roots.clone(), crate::world::profile("alice")).await.unwrap();
    files.write_policy("orders.toml", &ORDERS_POLICY.replace("\"GET\", ", ""));
    program.signal("-HUP");
    eventually("the new bundle", async || files.audited("policy-loaded").len() == 2).await;
    let (code, out, _) = run(&mut wicketgate(&["session", "list"], &files));
    assert!(code == 0 && out.contains("alice") && out.contains("eap-mschapv2"), "{out}");
    program.signal("-TERM");
    assert!(matches!(alice.closed().await, Ended::Disconnected(_)));
    assert_eq!(program.ended().await.code(), Some(0));
    assert_eq!(files.audited("tunnel-down").len(), 1);
    assert!(tokio::net::TcpStream::connect(program.admin).await.is_err());
    let (code, _, err) = run(&mut wicketgate(&["session", "list"], &files));
    assert!(code != 0 && err.contains("admin.sock"), "{err}");
}

#[tokio::test]
async fn session_kill_ends_a_session_of_the_running_server() {
    let files = World::builder().write().await;
    let program = Program::serve(&files);
    let alice = Tunnel::connect(program.listen, PKI.roots.clone(), crate::world::profile("alice")).await.unwrap();
    let (_, out, _) = run(&mut wicketgate(&["session", "list", "--format", "json"], &files));
    let sessions: serde_json::Value = serde_json::from_str(&out).unwrap();
    let id = sessions[0]["id"].as_str().unwrap().to_owned();
    let (code, out, _) = run(&mut wicketgate(&["session", "kill", &id], &files));
    assert_eq!((code, &*out), (0, &*format!("{id}: ended\n")));
    crate::world::within_a_second("the end of the tunnel", alice.closed()).await;
    eventually("the end of the session", async || run(&mut wicketgate(&["session", "kill", &id], &files)).0 == 1).await;
    assert_eq!(run(&mut wicketgate(&["session", "kill", "nonsense"], &files)).0, 2);
}

#[tokio::test]
async fn a_user_that_the_command_adds_can_log_in_and_a_disabled_one_is_out() {
    let files = World::builder().write().await;
    let (code, out, err) =
        run_with_password(&mut wicketgate(&["user", "add", "dave", "--groups", "developers"], &files));
    assert_eq!(code, 0, "{out}{err}");
    let world = World::run(files).await;
    let dave = world.connect("dave").await;
    assert_eq!(world.get(&dave, "/v1/items").await.status, 200);
    let (code, out, _) = run(&mut wicketgate(&["user", "disable", "dave"], &world));
    assert_eq!(code, 0, "{out}");
    crate::world::within_a_second("the end of Dave's tunnel", dave.closed()).await;
    let (_, out, _) = run(&mut wicketgate(&["user", "list"], &world));
    assert!(out.contains("dave"), "{out}");
    world.stop().await;
}

/// The lines of README.md that begin with the program, and what it says of each.
fn readme() -> Vec<(&'static str, &'static str)> {
    let readme = include_str!("../../../README.md");
    let lines = readme.lines().filter(|line| line.starts_with("wicketgate "));
    lines.map(|line| line.split_once("  ").map(|(command, says)| (command, says.trim())).unwrap()).collect()
}

#[tokio::test]
async fn the_commands_in_the_readme_do_what_it_says_of_them() {
    let files = World::builder().write().await;
    files.edit_users(Vec::clear);
    let in_folder = |line: &str| {
        let mut command = bare(&line.split(' ').skip(1).collect::<Vec<_>>());
        command.current_dir(files.path(""));
        command
    };
    let [(check, _), (add, _), (serve, of_serve), (list, of_list)] = readme()[..] else { panic!("{:?}", readme()) };
    assert!(check.starts_with("wicketgate check") && add.starts_with("wicketgate user add alice"), "{:?}", readme());
    assert!(serve.starts_with("wicketgate serve") && list == "wicketgate session list", "{:?}", readme());

    let (code, out, err) = run(&mut in_folder(check));
    assert!(code == 0 && out.contains("is good: 0 errors"), "{code} {out}{err}");
    let (code, out, err) = run_with_password(&mut in_folder(add));
    assert_eq!(code, 0, "{out}{err}");
    let mut program = Program::start(&mut in_folder(serve));
    let alice = Tunnel::connect(program.listen, PKI.roots.clone(), crate::world::profile("alice")).await.unwrap();
    let (code, out, err) = run(&mut in_folder(list));
    assert!(code == 0 && out.contains("alice"), "{code} {out}{err}");

    assert!(of_list.contains("session kill ID ends one at once"), "{of_list}");
    let id = files.audited("tunnel-up")[0]["session"].as_str().unwrap().to_owned();
    let (code, out, err) = run(&mut in_folder(&format!("wicketgate session kill {id}")));
    assert_eq!(code, 0, "{out}{err}");
    crate::world::within_a_second("the end of the tunnel", alice.closed()).await;
    assert_eq!(of_serve, "SIGHUP reads again, SIGTERM drains");
    files.write_policy("orders.toml", &ORDERS_POLICY.replace("\"GET\", ", ""));
    program.signal("-HUP");
    eventually("the new bundle", async || files.audited("policy-loaded").len() == 2).await;
    program.signal("-TERM");
    assert_eq!(program.ended().await.code(), Some(0));
}

#[tokio::test]
async fn serve_does_not_start_with_a_bad_user_file_and_says_78() {
    let files = World::builder().write().await;
    fs::write(files.path("users.toml"), "[[user]]\nname = 7\n").unwrap();
    let (code, out, err) = run(&mut wicketgate(&["serve"], &files));
    assert_eq!(code, 78, "{out}{err}");
    assert!(err.contains("users.toml:2:8"), "{err}");
}

#[tokio::test]
async fn serve_does_not_start_with_a_bad_configuration_and_says_78() {
    let files = World::builder().write().await;
    let text = fs::read_to_string(files.config()).unwrap();
    fs::write(files.config(), text.replace("[tls]", "[tls]\ncipher = \"all\"")).unwrap();
    let (code, out, err) = run(&mut wicketgate(&["serve"], &files));
    assert_eq!(code, 78, "{out}{err}");
    assert!(format!("{out}{err}").contains("cipher"), "{out}{err}");
    assert!(!format!("{out}{err}").contains(SERVER_NAME));
}
