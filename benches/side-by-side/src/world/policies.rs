//! The bundle of the bench: ten APIs with several rules each, org-wide denials, and limits that nobody reaches.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

/// The APIs. The requests of the bench go to [`API`].
const APIS: [&str; 10] =
    ["billing", "catalogue", "crm", "fleet", "invoices", "ledger", "orders", "payroll", "search", "stock"];

/// The API that is asked.
const API: &str = "orders";

/// The DNS suffix of all hosts.
pub(super) const SUFFIX: &str = "api.bench.example";

/// The group of the one user.
pub(super) const GROUP: &str = "bench";

/// The audience of tokens.
pub(crate) const AUDIENCE: &str = "wicketgate-bench";

const ORG: &str = r#"policy_version = 1
owner          = "security@bench.example"

[guardrails]
anonymous             = "forbid"
every_api_needs_limit = true
wildcard_hosts        = "forbid"

[defaults]
hide_routes = true

[[deny]]
id      = "leavers"
who     = { groups = ["leavers"] }
methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
paths   = ["/**", "/"]

[[deny]]
id      = "actuators"
who     = "anyone-authenticated"
methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
paths   = ["/actuator/**", "/debug/**", "/metrics"]

[[limit]]
id    = "tunnel-ceiling"
key   = ["tunnel"]
rate  = "1000000/s"
burst = 1000000
"#;

const IDENTITY: &str = r#"[issuers.bench]
url          = "ISSUER"
ca           = "bench-ca"
audiences    = ["AUDIENCE"]
algs         = ["RS256"]
groups_claim = "groups"
groups       = ["bench", "bench-admin"]
person       = { claim = "preferred_username" }

[subjects.developer]
groups = ["bench"]

[subjects.admin]
groups = ["bench-admin"]
"#;

const RULES: &str = r#"
[[allow]]
id      = "read-small"
who     = ["developer", "admin"]
methods = ["GET"]
paths   = ["/small/{item:int}"]

[[allow]]
id      = "read-bulk"
who     = ["developer", "admin"]
methods = ["GET"]
paths   = ["/bulk/{item:int}", "/exports/{day:date}/**"]

[[allow]]
id      = "change"
who     = "admin"
methods = ["POST", "PUT", "DELETE"]
paths   = ["/small", "/small/{item:int}"]

[[deny]]
id      = "frozen"
who     = "developer"
methods = ["GET"]
paths   = ["/small/9999", "/bulk/9999"]

[[limit]]
id    = "per-user"
key   = ["user"]
rate  = "1000000/s"
burst = 1000000

[[limit]]
id    = "per-item"
match = { methods = ["GET"], paths = ["/small/{item:int}"] }
key   = ["user", "path.item"]
rate  = "1000000/s"
burst = 1000000

[[test]]
name   = "a developer with a token reads"
as     = { user = "alice", token = { issuer = "bench", groups = ["bench"] } }
req    = "GET /small/42"
expect = "allow"
rule   = "read-small"

[[test]]
name   = "without a token the login is asked for"
as     = { user = "alice", groups = ["bench"] }
req    = "GET /small/42"
expect = "login"

[[test]]
name   = "a frozen item is denied"
as     = { user = "alice", token = { issuer = "bench", groups = ["bench"] } }
req    = "GET /small/9999"
expect = "deny"
rule   = "frozen"
"#;

/// The host that is asked.
pub(super) fn host() -> String {
    format!("{API}.{SUFFIX}")
}

/// Writes the bundle.
pub(super) fn write(folder: &Path, issuer: &str, backend: u16) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("_org.toml"), ORG)?;
    let identity = IDENTITY.replace("ISSUER", issuer).replace("AUDIENCE", AUDIENCE);
    fs::write(folder.join("_identity.toml"), identity)?;
    for api in APIS {
        let mut text =
            format!("api            = {api:?}\npolicy_version = 1\nowner          = \"{api}@bench.example\"\n");
        writeln!(
            text,
            "hosts          = [\"{api}.{SUFFIX}\"]\nmode           = \"enforce\"\nlogin          = [\"bench\"]"
        )?;
        writeln!(text, "\n[upstream]\nurl = \"http://127.0.0.1:{backend}\"")?;
        text.push_str(RULES);
        fs::write(folder.join(format!("{api}.toml")), text)?;
    }
    Ok(())
}
