//! The log, and the names of all metrics.
//!
//! The log is for operators and goes to standard error; what happened to requests is the audit's business. A level is
//! meant for this program; the libraries below it keep to warnings unless they are named, as in
//! `debug,hyper=info,wicketgate::ppp=trace`.
//!
//! Metrics are recorded through the `metrics` crate by the names below, and rendered on `/metrics`. A name that is not in
//! [`METRICS`] has no description, which a test of the suite would notice.

use std::io::{self, IsTerminal as _};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people; colours on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The level that counts without `--log` and `WICKETGATE_LOG`.
pub const DEFAULT_LEVEL: &str = "info";

/// What of the log is wanted could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the log level `{part}`: write off, error, warn, info, debug or trace, or `target=level`")]
pub struct BadLevel {
    /// The part that could not be read.
    pub part: String,
}

/// Reads `info` or `info,wicketgate::ppp=debug,hyper=warn`.
pub fn targets(text: &str) -> Result<Targets, BadLevel> {
    let level = |word: &str, part: &str| {
        word.parse::<LevelFilter>().map_err(|_| BadLevel { part: part.escape_debug().to_string() })
    };
    let mut targets = Targets::new().with_default(LevelFilter::WARN).with_target("wicketgate", LevelFilter::INFO);
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        targets = match part.split_once('=') {
            Some((target, word)) => targets.with_target(target.trim(), level(word.trim(), part)?),
            None => {
                let level = level(part, part)?;
                targets.with_default(level.min(LevelFilter::WARN)).with_target("wicketgate", level)
            }
        };
    }
    Ok(targets)
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The level cannot be read.
    #[error(transparent)]
    Level(#[from] BadLevel),
    /// There is one already.
    #[error("the log is set up already")]
    Twice,
}

/// Sets up the log of this process.
pub fn init(level: &str, format: LogFormat) -> Result<(), InitError> {
    let targets = targets(level)?;
    let registry = tracing_subscriber::registry();
    match format {
        LogFormat::Text => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours);
            registry.with(layer.with_filter(targets)).try_init()
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(io::stderr);
            registry.with(layer.with_filter(targets)).try_init()
        }
    }
    .map_err(|_| InitError::Twice)
}

/// What a metric measures with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often how much.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name on `/metrics`.
    pub name: &'static str,
    /// What it measures with.
    pub kind: MetricKind,
    /// The labels that it is recorded with. Their values are words of ours, never what a client sends.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

macro_rules! metrics_table {
    ($($constant:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// All metrics of this program.
        pub const METRICS: &[Metric] = &[
            $(Metric { name: $constant, kind: MetricKind::$kind, labels: &[$($label),*], help: $help },)*
        ];
    };
}

metrics_table! {
    CONNECTIONS = "wicketgate_connections", Gauge, [], "Accepted outer connections that are open.";
    CONNECTIONS_REFUSED = "wicketgate_connections_refused_total", Counter, ["layer", "reason"],
        "Outer connections that did not get as far as a login, by where they ended: accept, tls, http, sstp, ppp.";
    TUNNELS = "wicketgate_tunnels", Gauge, [], "Logged-in tunnels that are open.";
    TUNNELS_MAX = "wicketgate_tunnels_max", Gauge, [], "Tunnels that may be open: `tunnel.max_sessions`.";
    TUNNELS_ENDED = "wicketgate_tunnels_ended_total", Counter, ["reason"], "Tunnels that ended, by reason.";
    LOGINS = "wicketgate_logins_total", Counter, ["method", "result"], "Login attempts, by method and result.";
    BINDING_ZERO = "wicketgate_binding_zero_total", Counter, ["method"],
        "Logins whose crypto binding used an all-zero key, by method.";
    PACKETS_DROPPED = "wicketgate_packets_dropped_total", Counter, ["reason"],
        "Packets inside tunnels that were dropped, by reason.";
    STREAMS = "wicketgate_streams", Gauge, [], "TCP streams inside tunnels that are open.";
    TUNNEL_BYTES = "wicketgate_tunnel_bytes_total", Counter, ["direction"], "Bytes of SSTP of tunnels that ended.";
    REQUESTS = "wicketgate_requests_total", Counter, ["outcome", "reason"], "Judged requests, by outcome and reason code.";
    DECISION_SECONDS = "wicketgate_decision_seconds", Histogram, [],
        "From a request's head to its decision.";
    UPSTREAM_SECONDS = "wicketgate_upstream_seconds", Histogram, [],
        "From forwarding a request to the head of the response.";
    LIMITED = "wicketgate_limited_total", Counter, ["limit"], "Requests refused by a limit, by its kind.";
    STREAMS_REFUSED = "wicketgate_streams_refused_total", Counter, ["reason"],
        "TCP connections inside tunnels that got a reset: too many at once, to the internet, or to no open port.";
    JWKS_FAILURES = "wicketgate_jwks_failures_total", Counter, ["issuer"], "Key sets that could not be fetched, by issuer.";
    TOKEN_GROUPS_IGNORED = "wicketgate_token_groups_ignored_total", Counter, ["issuer"],
        "Groups that a token stated and its issuer may not state, by issuer.";
    POLICY_LOADED = "wicketgate_policy_loaded_total", Counter, [], "Bundles taken into force.";
    POLICY_LOAD_FAILED = "wicketgate_policy_load_failed_total", Counter, [],
        "Bundles that were not taken; the one before stayed.";
    POLICY_APIS = "wicketgate_policy_apis", Gauge, [], "APIs of the bundle in force.";
    RELOADS = "wicketgate_reloads_total", Counter, ["what", "result"], "Files read again, by what and result.";
    AUDIT_FAILED = "wicketgate_audit_failed_total", Counter, [], "Audit records that could not be written.";
    CERT_NOT_AFTER = "wicketgate_cert_not_after_seconds", Gauge, ["certificate"],
        "When a certificate ends, in seconds since 1970, by its name in the configuration.";
}

/// The bounds of the histograms, in seconds: a decision takes microseconds, a download minutes.
const BUCKETS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];

/// A recorder for all metrics, described.
fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), &BUCKETS)?;
    }
    let recorder = builder.build_recorder();
    metrics::with_local_recorder(&recorder, describe);
    Ok(recorder)
}

/// Gives every metric its description, and those without labels their first value, so that a graph begins at zero.
fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => {
                metrics::describe_counter!(metric.name, metric.help);
                if metric.labels.is_empty() {
                    metrics::counter!(metric.name).increment(0);
                }
            }
            MetricKind::Gauge => {
                metrics::describe_gauge!(metric.name, metric.help);
                if metric.labels.is_empty() {
                    metrics::gauge!(metric.name).increment(0.0);
                }
            }
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The table above is wrong.
    #[error("the metrics cannot be built: {0}")]
    Build(#[from] BuildError),
    /// There is a recorder already.
    #[error("the metrics are set up already")]
    Twice,
}

/// Makes this process record metrics. The handle renders them; its owner must call its `run_upkeep` every few seconds,
/// or histograms grow.
pub fn install_metrics() -> Result<PrometheusHandle, MetricsError> {
    let recorder = recorder()?;
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Twice)?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_level_is_meant_for_this_program() {
        let targets = targets("debug").unwrap();
        assert!(targets.would_enable("wicketgate::ppp", &Level::DEBUG));
        assert!(!targets.would_enable("wicketgate::ppp", &Level::TRACE));
        assert!(!targets.would_enable("hyper::proto", &Level::INFO));
        assert!(targets.would_enable("hyper::proto", &Level::WARN));
    }

    #[test]
    fn a_level_below_warnings_silences_the_libraries_too() {
        let targets = targets("error").unwrap();
        assert!(!targets.would_enable("hyper", &Level::WARN));
        let nothing = super::targets("off").unwrap();
        assert!(!nothing.would_enable("wicketgate", &Level::ERROR) && !nothing.would_enable("hyper", &Level::ERROR));
    }

    #[test]
    fn the_longest_target_counts() {
        let targets = targets("info, wicketgate::ppp=trace,hyper=debug").unwrap();
        assert!(targets.would_enable("wicketgate::ppp::lcp", &Level::TRACE));
        assert!(!targets.would_enable("wicketgate::sstp", &Level::DEBUG));
        assert!(targets.would_enable("hyper", &Level::DEBUG));
    }

    #[test]
    fn the_part_that_cannot_be_read_is_named() {
        assert_eq!(targets("info,hyper=loud").unwrap_err(), BadLevel { part: "hyper=loud".to_owned() });
        assert_eq!(targets("verbose").unwrap_err(), BadLevel { part: "verbose".to_owned() });
    }

    #[test]
    fn every_metric_is_rendered_with_its_description() {
        let recorder = recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            for metric in METRICS {
                let labels: Vec<metrics::Label> =
                    metric.labels.iter().map(|label| metrics::Label::new(*label, "x")).collect();
                match metric.kind {
                    MetricKind::Counter => metrics::counter!(metric.name, labels).increment(1),
                    MetricKind::Gauge => metrics::gauge!(metric.name, labels).set(1.0),
                    MetricKind::Histogram => metrics::histogram!(metric.name, labels).record(0.002),
                }
            }
        });
        let text = recorder.handle().render();
        for metric in METRICS {
            assert!(text.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{}\n{text}", metric.name);
            let kind = match metric.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
            };
            assert!(text.contains(&format!("# TYPE {} {kind}", metric.name)), "{}\n{text}", metric.name);
        }
    }

    #[test]
    fn names_follow_the_custom_of_prometheus() {
        let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        for metric in METRICS {
            assert_eq!(metric.kind == MetricKind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.name.starts_with("wicketgate_") && metric.help.ends_with('.'), "{}", metric.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len(), "no name twice");
    }

    #[test]
    fn metrics_without_labels_begin_at_zero() {
        let text = recorder().unwrap().handle().render();
        assert!(text.contains("\nwicketgate_audit_failed_total 0\n"), "{text}");
        assert!(text.contains("\nwicketgate_tunnels 0\n"), "{text}");
    }
}
