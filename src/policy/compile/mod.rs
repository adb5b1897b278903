//! From what the files say to what they mean together: names resolved, overlaps refused, guardrails kept, tests run.

mod guardrails;
mod hosts;
mod names;
mod reach;
mod rules;
mod tests_inside;
mod upstreams;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::complaint::Complaint;

use super::api::{Api, Bearer, Upstream};
use super::bundle::{Bundle, Org};
use super::syntax::api::ApiText;
use super::syntax::log::Log;
use super::syntax::org::OrgText;
use super::syntax::{self, Texts};
use super::{Compiled, Environment, Source};
use names::Names;
use rules::Scope;

/// Compiles the policy files of one directory, and runs the tests inside them.
///
/// All complaints are found in one pass as far as they do not follow from each other; any error refuses the bundle.
/// With `previous`, a host that would move to another address is a warning.
pub fn compile(
    sources: &[Source],
    environment: &Environment,
    previous: Option<&Bundle>,
) -> Result<Compiled, Vec<Complaint>> {
    let mut sorted = sources.to_vec();
    sorted.sort_by(|one, two| one.file.cmp(&two.file));
    let mut log = Log::default();
    let texts = syntax::read(&sorted, &mut log);
    let bundle = link(&texts, environment, previous, &mut log, bundle_id(&sorted));
    match bundle {
        Some(bundle) if log.is_clean() => Ok(Compiled { bundle, warnings: log.finish() }),
        Some(_) | None => Err(log.finish()),
    }
}

/// SHA-256 over the names and texts of all files, each with its length before it. The directory is not part of it: a
/// copy elsewhere is the same bundle.
fn bundle_id(sources: &[Source]) -> String {
    let mut hash = Sha256::new();
    let name = |source: &'_ Source| source.file.rsplit('/').next().unwrap_or_default().to_owned();
    for part in sources.iter().flat_map(|source| [name(source), source.text.to_string()]) {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn link(
    texts: &Texts,
    environment: &Environment,
    previous: Option<&Bundle>,
    log: &mut Log,
    id: String,
) -> Option<Bundle> {
    let names = names::resolve(texts.identity.as_ref(), environment, log);
    let org = link_org(texts, &names, log);
    let apis: Vec<Api> =
        texts.apis.iter().filter_map(|text| link_api(text, &texts.org, &names, environment, log)).collect();
    let addresses = hosts::assign(&texts.apis, environment, previous, log);
    guardrails::check(&texts.org, &texts.apis, log);
    if !log.is_clean() {
        return None;
    }
    reach::check(&texts.org, &org, &texts.apis, &apis, log);
    let apis: Vec<Arc<Api>> = apis.into_iter().map(Arc::new).collect();
    let asserted: BTreeSet<String> =
        apis.iter().flat_map(|api| &api.assert_headers).map(|(name, _)| name.clone()).collect();
    let (exact, wildcard, hosts) = hosts::index(&apis, &addresses);
    let mut bundle = Bundle {
        id,
        issuers: names.issuers,
        org,
        apis,
        hosts,
        exact,
        wildcard,
        portal: hosts::portal(environment).into(),
        asserted: asserted.into_iter().collect(),
        tests: Vec::new(),
    };
    let tests = tests_inside::collect(texts, log);
    tests_inside::run_all(&bundle, texts, &tests, environment.read, log);
    bundle.tests = tests.into_iter().map(|placed| placed.test).collect();
    Some(bundle)
}

fn link_org(texts: &Texts, names: &Names, log: &mut Log) -> Org {
    let text = &texts.org;
    let extra: BTreeSet<String> =
        texts.apis.iter().flat_map(|api| api.http.value.methods_extra.iter().cloned()).collect();
    let mut scope = Scope {
        file: "_org",
        source: &text.source,
        methods_extra: &extra,
        names,
        tokens_named: false,
        log,
        ids: HashMap::new(),
    };
    let denies = rules::link_denies(&text.denies, &mut scope);
    let limits = rules::link_limits(&text.limits, &mut scope);
    Org { owner: text.owner.as_deref().map(Arc::from), denies, limits }
}

fn link_api(text: &ApiText, org: &OrgText, names: &Names, environment: &Environment, log: &mut Log) -> Option<Api> {
    upstreams::check(text, environment, log);
    let login = names.logins(text, log);
    let tokens_named = !text.login.is_empty() || text.bearer == Bearer::Pass;
    names.check_asserted(text, tokens_named, log);
    let mut scope = Scope {
        file: &text.api.value,
        source: &text.source,
        methods_extra: &text.http.value.methods_extra,
        names,
        tokens_named,
        log,
        ids: HashMap::new(),
    };
    let allows = rules::link_allows(&text.allows, &mut scope);
    let denies = rules::link_denies(&text.denies, &mut scope);
    let limits = rules::link_limits(&text.limits, &mut scope);
    let upstream = Upstream {
        url: text.upstream.url.value.clone(),
        ca: text.upstream.ca.as_ref().map(|ca| ca.value.clone()),
        client_cert: text.upstream.client_cert.as_ref().map(|name| name.value.clone()),
        server_name: text.upstream.server_name.clone(),
        timeout: text.upstream.timeout,
        max_body: text.upstream.max_body.unwrap_or(org.max_body),
        max_response_header: text.upstream.max_response_header,
        authorization: text.upstream.authorization,
        strip_base: text.upstream.strip_base,
    };
    let mut hosts: Vec<String> = text.hosts.iter().map(|host| host.value.clone()).collect();
    hosts.sort();
    Some(Api {
        name: text.api.value.clone(),
        owner: text.owner.as_str().into(),
        hosts,
        address: text.address.as_ref().map(|address| address.value),
        base: text.base.value.clone(),
        login: login?,
        bearer: text.bearer,
        http: text.http.value.clone(),
        upstream,
        assert_headers: text.assert_headers.iter().map(|(name, what)| (name.clone(), what.value.clone())).collect(),
        hide_routes: text.hide_routes.unwrap_or(org.hide_routes),
        allows,
        denies,
        limits,
    })
}
