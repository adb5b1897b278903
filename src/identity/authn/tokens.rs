//! All issuers of a bundle: a bearer token in, its [`Verified`] facts out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use aws_lc_rs::digest;
use tokio::task::JoinSet;

use super::issuer::IssuerConfig;
use super::jwks::{KeyStore, Published};
use super::jwt::{MAX_TOKEN, Unverified, Verified, Verifier};
use super::refusal::TokenRefusal;
use super::verdicts::{TokenHash, Verdict, Verdicts};
use crate::telemetry;

/// The issuers of one bundle, their keys, and the tokens that were verified lately.
#[derive(Debug)]
pub struct Tokens {
    issuers: Vec<Arc<Issuer>>,
    verdicts: Arc<Verdicts>,
}

#[derive(Debug)]
struct Issuer {
    /// Names this configuration in this process.
    serial: u64,
    config: IssuerConfig,
    keys: KeyStore,
}

impl Issuer {
    fn new(config: IssuerConfig) -> Self {
        static SERIALS: AtomicU64 = AtomicU64::new(0);
        let keys = KeyStore::new(&config);
        Self { serial: SERIALS.fetch_add(1, Ordering::Relaxed), config, keys }
    }

    /// Judges with the keys at hand; says which epoch they are of.
    fn judge(&self, token: &Unverified<'_>, wall: SystemTime, now: Instant) -> Result<(Verified, u64), TokenRefusal> {
        let Some(keys) = self.keys.usable(now) else {
            return Err(TokenRefusal::KeysUnavailable { issuer: self.config.name.to_string() });
        };
        let verified = Verifier::new(&self.config).verify(token, &keys.ring, wall)?;
        Ok((verified, keys.epoch))
    }
}

impl Tokens {
    /// The issuers of a bundle. An issuer whose configuration is that of `previous` keeps its keys and verdicts.
    pub fn new(configs: Vec<IssuerConfig>, previous: Option<&Self>) -> Self {
        let kept = |config: &IssuerConfig| {
            let unchanged = previous?.issuers.iter().find(|issuer| issuer.config == *config)?;
            Some(Arc::clone(unchanged))
        };
        let issuers = configs.into_iter().map(|config| kept(&config).unwrap_or_else(|| Arc::new(Issuer::new(config))));
        Self {
            issuers: issuers.collect(),
            verdicts: previous.map(|previous| Arc::clone(&previous.verdicts)).unwrap_or_default(),
        }
    }

    /// Keeps the keys of all issuers fresh, until it is dropped. Without it no key is ever fetched.
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<> {
        let issuers = self.issuers.clone();
        async move {
            let mut runners = JoinSet::new();
            for issuer in issuers {
                runners.spawn(async move { issuer.keys.run().await });
            }
            while runners.join_next().await.is_some() {}
        }
    }

    /// The issuers that cannot verify a token now: for the readiness page.
    pub fn without_keys(&self, now: Instant) -> Vec<&str> {
        let lacking = self.issuers.iter().filter(|issuer| !issuer.keys.is_ready(now));
        lacking.map(|issuer| issuer.config.name.as_str()).collect()
    }

    /// Judges a token: from memory, or with the keys at hand, or after a wait for new keys.
    ///
    /// Can be dropped at any time.
    pub async fn verify(&self, raw: &str, wall: SystemTime, now: Instant) -> Result<Verdict, TokenRefusal> {
        if raw.len() > MAX_TOKEN {
            return Err(TokenRefusal::TooLong { got: raw.len(), limit: MAX_TOKEN });
        }
        let hash = hash(raw);
        if let Some(verdict) = self.known(&hash, wall, now) {
            return Ok(verdict);
        }
        let token = Unverified::parse(raw)?;
        let iss = token.issuer()?;
        let Some(issuer) = self.issuers.iter().find(|issuer| issuer.config.url == iss) else {
            return Err(token.untrusted());
        };
        let (verified, epoch) = match issuer.judge(&token, wall, now) {
            Err(TokenRefusal::UnknownKey { .. } | TokenRefusal::KeysUnavailable { .. })
                if issuer.keys.ask(now).await =>
            {
                issuer.judge(&token, wall, now)?
            }
            judged => judged?,
        };
        if verified.ignored_groups > 0 {
            let ignored = u64::try_from(verified.ignored_groups).unwrap_or(u64::MAX);
            let issuer = issuer.config.name.to_string();
            metrics::counter!(telemetry::TOKEN_GROUPS_IGNORED, "issuer" => issuer).increment(ignored);
        }
        let verdict = Verdict { issuer: issuer.serial, epoch, verified: Arc::new(verified) };
        self.verdicts.insert(hash, verdict.clone(), wall);
        Ok(verdict)
    }

    /// Whether a token that was verified before would be again: its time is not over, its issuer is configured as it
    /// was, and its key is still in a set that counts.
    pub fn still_counts(&self, verdict: &Verdict, wall: SystemTime, now: Instant) -> bool {
        let keys = self.keys_of(verdict, now);
        let same_key = keys.is_some_and(|keys| keys.epoch == verdict.epoch || keys.ring.has(&verdict.verified.key));
        same_key && verdict.counts_at(wall)
    }

    fn keys_of(&self, verdict: &Verdict, now: Instant) -> Option<Arc<Published>> {
        self.issuers.iter().find(|issuer| issuer.serial == verdict.issuer)?.keys.usable(now)
    }

    /// What was verified before with this configuration and these keys, and still counts.
    fn known(&self, hash: &TokenHash, wall: SystemTime, now: Instant) -> Option<Verdict> {
        let verdict = self.verdicts.find(hash)?;
        let same_keys = self.keys_of(&verdict, now).is_some_and(|keys| keys.epoch == verdict.epoch);
        if same_keys && verdict.counts_at(wall) {
            return Some(verdict);
        }
        self.verdicts.remove(hash);
        None
    }
}

fn hash(raw: &str) -> TokenHash {
    let mut hash = TokenHash::default();
    hash.iter_mut().zip(digest::digest(&digest::SHA256, raw.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::clock;
    use crate::identity::authn::jwk::Alg;
    use crate::identity::authn::jwks::FETCH_INTERVAL;
    use crate::identity::authn::testing::{Https, NOW, Signer, at, claims, config, jwks, runtime, with};
    use crate::identity::authn::verdicts::MAX_VERDICTS;
    use crate::identity::{Group, IssuerName, StatedGroups};

    struct Bench {
        server: Https,
        signer: Signer,
        tokens: Tokens,
        now: Instant,
    }

    impl Bench {
        async fn new() -> Self {
            let (server, signer) = (Https::start().await, Signer::new(Alg::Es256, "key-1"));
            server.issue(&jwks(&[&signer]));
            let tokens = Tokens::new(vec![Self::config(&server)], None);
            let bench = Self { server, signer, tokens, now: clock::now() };
            bench.refresh().await;
            bench
        }

        fn config(server: &Https) -> IssuerConfig {
            IssuerConfig { url: server.url(""), roots: Some(server.roots.clone()), ..config() }
        }

        async fn refresh(&self) {
            self.tokens.issuers[0].keys.refresh(self.now).await;
        }

        fn claims(&self, change: Value) -> Value {
            with(with(claims(), json!({ "iss": self.server.url("") })), change)
        }

        async fn verify(&self, raw: &str) -> Result<Arc<Verified>, TokenRefusal> {
            self.verify_at(raw, NOW).await
        }

        async fn verify_at(&self, raw: &str, wall: u64) -> Result<Arc<Verified>, TokenRefusal> {
            self.tokens.verify(raw, at(wall), self.now).await.map(|verdict| verdict.verified)
        }
    }

    #[test]
    fn a_token_is_verified_once_and_remembered() {
        runtime(async {
            let bench = Bench::new().await;
            let raw = bench.signer.token(&bench.claims(json!({})));
            let first = bench.verify(&raw).await.unwrap();
            let again = bench.verify(&raw).await.unwrap();
            assert!(Arc::ptr_eq(&first, &again));
            let (signed, _) = raw.rsplit_once('.').unwrap();
            let forged = format!("{signed}.{}", "A".repeat(86));
            assert_eq!(bench.verify(&forged).await, Err(TokenRefusal::Signature), "memory is of the whole token");
        });
    }

    #[test]
    fn a_remembered_token_ends_with_its_time() {
        runtime(async {
            let bench = Bench::new().await;
            let raw = bench.signer.token(&bench.claims(json!({ "nbf": NOW, "iat": null })));
            bench.verify(&raw).await.unwrap();
            assert!(bench.verify_at(&raw, NOW + 329).await.is_ok());
            assert!(matches!(bench.verify_at(&raw, NOW + 330).await, Err(TokenRefusal::Expired { .. })));
            bench.verify(&raw).await.unwrap();
            let early = bench.verify_at(&raw, NOW - 31).await;
            assert!(matches!(early, Err(TokenRefusal::NotYetValid { .. })), "a clock that jumps back grants nothing");
        });
    }

    #[test]
    fn nt_33_a_remembered_token_ends_with_its_key() {
        runtime(async {
            let bench = Bench::new().await;
            let raw = bench.signer.token(&bench.claims(json!({})));
            bench.verify(&raw).await.unwrap();
            bench.server.issue(&jwks(&[&Signer::new(Alg::Es256, "key-2")]));
            bench.refresh().await;
            assert_eq!(bench.verify(&raw).await, Err(TokenRefusal::UnknownKey { issuer: "corp".to_owned() }));
        });
    }

    #[test]
    fn nt_33_a_remembered_token_ends_with_the_age_of_the_key_set() {
        runtime(async {
            let mut bench = Bench::new().await;
            let raw = bench.signer.token(&bench.claims(json!({ "exp": NOW + 100_000 })));
            bench.verify(&raw).await.unwrap();
            bench.server.answer("/jwks", "HTTP/1.1 503 X\r\n\r\n");
            bench.now += Duration::from_secs(3600);
            bench.refresh().await;
            assert_eq!(bench.verify(&raw).await, Err(TokenRefusal::KeysUnavailable { issuer: "corp".to_owned() }));
        });
    }

    #[test]
    fn a_new_key_is_fetched_when_its_first_token_arrives() {
        runtime(async {
            let mut bench = Bench::new().await;
            let next = Signer::new(Alg::Es256, "key-2");
            bench.server.issue(&jwks(&[&bench.signer, &next]));
            let raw = next.token(&bench.claims(json!({})));
            assert!(matches!(bench.verify(&raw).await, Err(TokenRefusal::UnknownKey { .. })), "too soon");
            bench.now += FETCH_INTERVAL;
            let verify = async { bench.verify(&raw).await };
            let verified = tokio::select! {
                () = bench.tokens.run() => unreachable!(),
                verified = verify => verified,
            };
            assert_eq!(verified.unwrap().token.sub, "248289761001");
        });
    }

    #[test]
    fn nt_34_tokens_that_are_wrong_anyway_cause_no_fetch() {
        runtime(async {
            let mut bench = Bench::new().await;
            bench.now += FETCH_INTERVAL * 2;
            let before = bench.server.count("/jwks");
            let other = Signer::new(Alg::Es256, "key-2");
            for change in [json!({ "exp": NOW - 100 }), json!({ "aud": "x" }), json!({ "iss": "https://evil.example" })]
            {
                assert!(bench.verify(&other.token(&bench.claims(change))).await.is_err());
            }
            let wrong = Signer::new(Alg::Rs256, "key-1");
            let refused = bench.verify(&wrong.token(&bench.claims(json!({})))).await;
            assert_eq!(refused, Err(TokenRefusal::AlgorithmOfAnotherKey));
            assert_eq!(bench.server.count("/jwks"), before);
            assert!(!bench.tokens.issuers[0].keys.run_is_wanted());
        });
    }

    #[test]
    fn a_verdict_counts_as_long_as_its_token_its_key_and_its_issuer_do() {
        runtime(async {
            let mut bench = Bench::new().await;
            let raw = bench.signer.token(&bench.claims(json!({ "exp": NOW + 100_000 })));
            let verdict = bench.tokens.verify(&raw, at(NOW), bench.now).await.unwrap();
            let counts = |bench: &Bench, wall| bench.tokens.still_counts(&verdict, at(wall), bench.now);
            assert!(counts(&bench, NOW));
            assert!(counts(&bench, NOW + 100_029) && !counts(&bench, NOW + 100_030), "the time of the token");

            bench.server.issue(&jwks(&[&bench.signer, &Signer::new(Alg::Es256, "key-2")]));
            bench.refresh().await;
            assert!(counts(&bench, NOW), "one more key changes nothing for the tokens of the others");
            bench.server.issue(&jwks(&[&Signer::new(Alg::Es256, "key-1")]));
            bench.refresh().await;
            assert!(!counts(&bench, NOW), "the same name is not the same key");
            bench.server.issue(&jwks(&[&bench.signer]));
            bench.refresh().await;
            assert!(counts(&bench, NOW));

            let same = Bench::config(&bench.server);
            bench.tokens = Tokens::new(vec![same.clone()], Some(&bench.tokens));
            assert!(counts(&bench, NOW), "a bundle that says the same");
            bench.now += Duration::from_secs(3600);
            assert!(!counts(&bench, NOW), "the age of the key set");
            bench.refresh().await;
            assert!(counts(&bench, NOW));
            let narrower = IssuerConfig { groups_allowed: [].into(), ..same };
            bench.tokens = Tokens::new(vec![narrower], Some(&bench.tokens));
            bench.refresh().await;
            assert!(!counts(&bench, NOW), "the rights of the issuer");
        });
    }

    #[test]
    fn an_unchanged_issuer_survives_a_new_bundle() {
        runtime(async {
            let mut bench = Bench::new().await;
            let raw = bench.signer.token(&bench.claims(json!({})));
            let first = bench.verify(&raw).await.unwrap();
            let same = Bench::config(&bench.server);
            bench.tokens = Tokens::new(vec![same.clone()], Some(&bench.tokens));
            assert!(Arc::ptr_eq(&first, &bench.verify(&raw).await.unwrap()));

            let stricter = IssuerConfig { audiences: ["other".to_owned()].into(), ..same };
            bench.tokens = Tokens::new(vec![stricter], Some(&bench.tokens));
            assert_eq!(bench.tokens.without_keys(bench.now), ["corp"]);
            bench.refresh().await;
            assert_eq!(bench.verify(&raw).await, Err(TokenRefusal::Audience), "verdicts are of one configuration");
            bench.tokens = Tokens::new(Vec::new(), Some(&bench.tokens));
            assert!(matches!(bench.verify(&raw).await, Err(TokenRefusal::Issuer { .. })));
        });
    }

    #[test]
    fn nt_62_an_issuer_states_only_the_groups_that_it_may() {
        runtime(async {
            let corp = Bench::new().await;
            let partner = Bench::new().await;
            let configs = vec![
                Bench::config(&corp.server),
                IssuerConfig {
                    name: IssuerName::new("partner"),
                    groups_allowed: ["partner-dev".to_owned()].into(),
                    ..Bench::config(&partner.server)
                },
            ];
            let tokens = Tokens::new(configs, Some(&corp.tokens));
            tokens.issuers[1].keys.refresh(corp.now).await;
            let stated = json!({ "groups": ["orders-admin", "partner-dev"] });
            for (bench, known) in [(&corp, "orders-admin"), (&partner, "partner-dev")] {
                let raw = bench.signer.token(&bench.claims(stated.clone()));
                let verified = tokens.verify(&raw, at(NOW), corp.now).await.unwrap();
                assert_eq!(verified.token.groups, StatedGroups::Known(vec![Group::new(known)]));
                assert_eq!(verified.ignored_groups, 1, "and counted");
            }
            let crossed = corp.signer.token(&partner.claims(stated));
            assert_eq!(tokens.verify(&crossed, at(NOW), corp.now).await, Err(TokenRefusal::Signature));
        });
    }

    #[test]
    fn memory_is_bounded() {
        runtime(async {
            let bench = Bench::new().await;
            let verified = bench.verify(&bench.signer.token(&bench.claims(json!({})))).await.unwrap();
            for n in 0..3 * MAX_VERDICTS {
                let verdict = Verdict { issuer: 0, epoch: 0, verified: Arc::clone(&verified) };
                bench.tokens.verdicts.insert(hash(&n.to_string()), verdict, at(NOW));
            }
            assert!(bench.tokens.verdicts.len() <= MAX_VERDICTS);
            let last = hash(&(3 * MAX_VERDICTS - 1).to_string());
            assert!(bench.tokens.verdicts.find(&last).is_some(), "the newest is there");
        });
    }

    #[test]
    fn a_token_that_is_too_long_is_not_even_hashed() {
        runtime(async {
            let bench = Bench::new().await;
            let long = "a".repeat(MAX_TOKEN + 1);
            assert!(matches!(bench.verify(&long).await, Err(TokenRefusal::TooLong { .. })));
        });
    }
}
