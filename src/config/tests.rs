use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair as Key, KeyUsagePurpose};

/// The least that a configuration can be.
const LEAST: &str = r#"
[tls]
certificate = "tls/server.pem"
key = "tls/server.key"
[network]
suffix = "api.corp.example"
[services]
ca = "tls/services-ca.pem"
ca_key = "tls/services-ca.key"
"#;

fn of(text: &str) -> Result<(Config, Vec<Complaint>), Vec<Complaint>> {
    parse(Path::new("wicketgate.toml"), text, None)
}

fn manifest(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn template() -> String {
    fs::read_to_string(manifest("deploy/wicketgate.toml")).unwrap()
}

/// The template with its commented keys switched on, except those that exclude others.
fn template_in_full() -> String {
    let excluded = ["# trusted =", "# certificates ="];
    let is_key = |line: &str| {
        let section = line.strip_prefix("# [").and_then(|rest| rest.strip_suffix(']'));
        let name = section.or_else(|| line.strip_prefix("# ").and_then(|rest| Some(rest.split_once(" = ")?.0)));
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte == b'-';
        name.is_some_and(|name| name.bytes().all(is_letter))
    };
    template().lines().fold(String::new(), |text, line| {
        let on = is_key(line) && !excluded.iter().any(|key| line.starts_with(key));
        text + if on { &line[2..] } else { line } + "\n"
    })
}

#[test]
fn the_template_is_valid_as_it_is_and_says_the_least() {
    let (template, warnings) = of(&template()).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(template, of(LEAST).unwrap().0);
}

#[test]
fn every_default_in_the_template_is_the_default() {
    let (mut full, warnings) = of(&template_in_full()).unwrap_or_else(|all| panic!("{}", complaint::text(&all)));
    assert_eq!(warnings, []);
    assert_eq!(full.authorities.len() + full.client_certificates.len(), 2, "the examples have no defaults");
    full.authorities.clear();
    full.client_certificates.clear();
    assert_eq!(full, of(LEAST).unwrap().0);
}

#[test]
fn the_template_shows_every_key() {
    let text = template();
    let mut shown = BTreeSet::new();
    let mut section = String::new();
    for line in text.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            shown.insert(section.clone());
        } else if let Some((key, value)) = line.split_once(" = ") {
            shown.insert(format!("{section}.{key}"));
            for inner in ["certificate", "key"] {
                if value.contains(&format!("{inner} = ")) {
                    shown.insert(format!("{section}.{key}.{inner}"));
                }
            }
        }
    }
    let missing: Vec<String> = raw::keys().into_iter().filter(|key| !shown.contains(key)).collect();
    assert_eq!(missing, Vec::<String>::new());
    assert!(raw::keys().len() > 25, "the list of keys is not empty");
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let (config, warnings) = of(LEAST).unwrap();
    assert_eq!(warnings, []);
    let path = |text: &str| PathBuf::from(text);
    let pair = |certificate: &str, key: &str| KeyPair { certificate: path(certificate), key: path(key) };
    let expected = Config {
        listen: Listen {
            address: "0.0.0.0:443".parse().unwrap(),
            max_unauthenticated: 1000,
            max_unauthenticated_per_source: 64,
        },
        tls: pair("tls/server.pem", "tls/server.key"),
        tunnel: Tunnel {
            methods: vec![Method::EapMsChapV2, Method::MsChapV2],
            zero_binding: vec![Method::EapMsChapV2],
            binding_hash: vec![BindingHash::Sha256],
            max_sessions: 10_000,
            max_sessions_per_user: 4,
            max_session: Duration::from_secs(12 * 3600),
            max_streams: 100,
            max_requests: Rate { count: 1000_u32.try_into().unwrap(), per: Duration::from_secs(1) },
        },
        network: Network {
            gateway: "198.18.7.1".parse().unwrap(),
            client: "198.18.7.2".parse().unwrap(),
            services: "198.18.7.128/25".parse().unwrap(),
            suffix: "api.corp.example".to_owned(),
        },
        users: Users { file: path("users.toml"), key: path("users.key") },
        services: Services::Authority(pair("tls/services-ca.pem", "tls/services-ca.key")),
        authorities: BTreeMap::new(),
        client_certificates: BTreeMap::new(),
        policies: path("policies"),
        audit: Audit { file: path("audit.jsonl"), on_failure: crate::audit::OnFailure::Refuse },
        admin: Admin { address: "127.0.0.1:9901".parse().unwrap(), socket: path("admin.sock") },
    };
    assert_eq!(config, expected);
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let (config, _) = parse(Path::new("/etc/wicketgate/wicketgate.toml"), LEAST, None).unwrap();
    assert_eq!(config.tls.certificate, Path::new("/etc/wicketgate/tls/server.pem"));
    assert_eq!(config.users.file, Path::new("/etc/wicketgate/users.toml"));
    let absolute = LEAST.replace("tls/server.key", "/run/secrets/key");
    let (config, _) = parse(Path::new("/etc/wicketgate/wicketgate.toml"), &absolute, None).unwrap();
    assert_eq!(config.tls.key, Path::new("/run/secrets/key"));
}

#[test]
fn without_eap_no_zero_binding_is_the_default() {
    let (config, _) = of(&format!("{LEAST}[tunnel]\nmethods = [\"mschapv2\"]\n")).unwrap();
    assert_eq!(config.tunnel.zero_binding, []);
}

/// The files of a directory below `tests/configs`, sorted.
fn examples(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(manifest("tests/configs").join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn parse_example(path: &Path) -> Result<(Config, Vec<Complaint>), Vec<Complaint>> {
    let name = path.file_name().unwrap();
    parse(Path::new(name), &fs::read_to_string(path).unwrap(), None)
}

#[test]
fn every_valid_example_is_valid() {
    for path in examples("valid") {
        let (_, warnings) = parse_example(&path).unwrap_or_else(|all| panic!("{}", complaint::text(&all)));
        assert_eq!(warnings, [], "{}", path.display());
    }
}

/// Next to each `name.toml` stands `name.txt` with exactly what the operator sees. `UPDATE_COMPLAINTS=1 cargo test`
/// writes them anew, for a review by eye.
#[test]
fn every_invalid_example_has_exactly_the_complaints_next_to_it() {
    for path in examples("invalid") {
        let complaints = parse_example(&path).expect_err("an invalid example");
        let text = complaint::text(&complaints);
        let expected = path.with_extension("txt");
        if std::env::var_os("UPDATE_COMPLAINTS").is_some() {
            fs::write(&expected, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&expected).unwrap_or_default(), "{}", path.display());
        for complaint in &complaints {
            assert!(complaint.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{complaint:?}");
            let (line, column) = complaint.place();
            let head = format!("{}:{line}:{column}: ", complaint.file);
            assert!(text.lines().any(|line| line.starts_with(&head)), "{head}");
        }
    }
}

/// Between them, the invalid examples show every code that values can have.
#[test]
fn every_code_has_an_example() {
    let sources = [
        include_str!("validate.rs"),
        include_str!("tunnel.rs"),
        include_str!("network.rs"),
        include_str!("reading.rs"),
    ]
    .concat();
    let mut codes = BTreeSet::new();
    for marker in ["complaints.error(", "complaints.warning(", "self.complaints.error(", "self.complaints.warning("] {
        for (at, _) in sources.match_indices(marker) {
            let rest = sources[at + marker.len()..].trim_start();
            if let Some(code) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                codes.insert(code.to_owned());
            }
        }
    }
    assert!(codes.len() > 20, "{codes:?}");
    let shown: BTreeSet<String> = examples("invalid")
        .iter()
        .flat_map(|path| parse_example(path).expect_err("an invalid example"))
        .map(|complaint| complaint.code.to_owned())
        .collect();
    let missing: Vec<&String> = codes.difference(&shown).collect();
    assert!(missing.is_empty(), "no invalid example shows {missing:?}");
}

#[test]
fn a_file_that_is_missing_binary_or_huge_is_one_complaint() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wicketgate.toml");
    let code = |path: &Path| {
        let complaints = load(path).unwrap_err();
        assert_eq!(complaints.len(), 1);
        complaints[0].code
    };
    assert_eq!(code(&path), "not-found");
    fs::write(&path, b"a = \"\xFF\"").unwrap();
    assert_eq!(code(&path), "not-utf8");
    fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    assert_eq!(code(&path), "too-large");
    assert_eq!(code(directory.path()), "unreadable");
}

#[test]
fn the_flag_wins_then_the_first_file_that_exists() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    let candidates = [first.as_path(), second.as_path()];
    let flag = PathBuf::from("given.toml");
    assert_eq!(first_existing(Some(flag.clone()), &candidates), Ok(flag));
    assert!(first_existing(None, &candidates).unwrap_err().to_string().contains("--config"));
    fs::write(&second, "").unwrap();
    assert_eq!(first_existing(None, &candidates), Ok(second.clone()));
    fs::write(&first, "").unwrap();
    assert_eq!(first_existing(None, &candidates), Ok(first.clone()));
}

/// A directory with everything that [`LEAST`] names.
fn installation() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("tls")).unwrap();
    fs::create_dir(at("policies")).unwrap();
    let write = |name: &str, text: String| {
        fs::write(at(name), text).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    let mut server = CertificateParams::new(vec!["vpn.corp.example".to_owned()]).unwrap();
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    for (params, certificate, key) in
        [(server, "tls/server.pem", "tls/server.key"), (authority, "tls/services-ca.pem", "tls/services-ca.key")]
    {
        let pair = Key::generate().unwrap();
        write(certificate, params.self_signed(&pair).unwrap().pem());
        write(key, pair.serialize_pem());
    }
    write("users.toml", String::new());
    write("users.key", "key".to_owned());
    write("wicketgate.toml", LEAST.to_owned());
    directory
}

#[test]
fn a_rate_that_cannot_be_counted_is_out_of_range() {
    let complaints = of(&format!("{LEAST}[tunnel]\nmax_requests = \"2000000000/s\"\n")).unwrap_err();
    assert_eq!(codes_and_lines(&complaints), [("out-of-range", 11)]);
}

fn codes_and_lines(complaints: &[Complaint]) -> Vec<(&'static str, usize)> {
    complaints.iter().map(|complaint| (complaint.code, complaint.place().0)).collect()
}

#[test]
fn a_whole_installation_loads_without_a_complaint() {
    let directory = installation();
    let (config, warnings) = load(&directory.path().join("wicketgate.toml")).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.policies, directory.path().join("policies"));
}

#[test]
fn faults_of_files_are_told_where_the_file_is_named() {
    let directory = installation();
    let at = |name: &str| directory.path().join(name);
    fs::copy(at("tls/services-ca.key"), at("tls/server.key")).unwrap();
    fs::remove_file(at("tls/services-ca.pem")).unwrap();
    fs::set_permissions(at("tls/services-ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_dir(at("policies")).unwrap();
    fs::remove_file(at("users.key")).unwrap();
    let complaints = load(&at("wicketgate.toml")).unwrap_err();
    let expected = [
        ("not-found", 1), // users.key and policies, by default
        ("not-found", 1),
        ("key-mismatch", 4),       // tls.key
        ("not-found", 8),          // services.ca
        ("readable-by-others", 9), // services.ca_key
    ];
    assert_eq!(codes_and_lines(&complaints), expected);
}

#[test]
fn without_users_the_server_can_start_with_a_warning() {
    let directory = installation();
    fs::remove_file(directory.path().join("users.toml")).unwrap();
    fs::remove_file(directory.path().join("users.key")).unwrap();
    let (_, warnings) = load(&directory.path().join("wicketgate.toml")).unwrap();
    assert_eq!(codes_and_lines(&warnings), [("no-users", 1)]);
}

#[test]
fn a_directory_that_is_not_there_is_told_before_the_server_writes_to_it() {
    let directory = installation();
    let path = directory.path().join("wicketgate.toml");
    fs::write(&path, format!("{LEAST}[audit]\nfile = \"log/audit.jsonl\"\n[admin]\nsocket = \"tls\"\n")).unwrap();
    let complaints = load(&path).unwrap_err();
    assert_eq!(codes_and_lines(&complaints), [("not-found", 11), ("not-found", 13)]);
    let (config, _) = read(&path).unwrap();
    assert_eq!(config.audit.file, directory.path().join("log/audit.jsonl"), "commands that need one path still work");
}
