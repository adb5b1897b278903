//! The configuration as it is written: one struct for each section, one field for each key, places kept.
//!
//! Nothing is judged here but TOML's grammar, the names of keys and the types of values. A key that is added here must
//! be added to `deploy/wicketgate.toml`; a test says so.

use toml::de::{DeTable, DeValue};

use super::complaint::Complaints;
use super::reading::{Entry, FromToml, Named, entry, join, unknown_key};

/// Declares a table once: its struct, its known keys, and how it is read.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name {
            $(pub(super) $key: Entry<$type>,)*
        }

        impl FromToml for $name {
            const EXPECTED: &'static str = "a table";
            const HOW: &'static str = concat!("a table has keys, here:", $(" `", stringify!($key), "`",)*);

            fn from_toml(value: &DeValue<'_>, path: &str, complaints: &mut Complaints) -> Option<Self> {
                value.as_table().map(|table| Self::from_table(table, path, complaints))
            }

            #[cfg(test)]
            fn keys(path: &str, keys: &mut Vec<String>) {
                $(<$type as FromToml>::keys(&join(path, stringify!($key)), keys);)*
            }
        }

        impl $name {
            fn from_table(table: &DeTable<'_>, path: &str, complaints: &mut Complaints) -> Self {
                let mut read = Self::default();
                for (key, value) in table {
                    match key.get_ref().as_ref() {
                        $(stringify!($key) => {
                            read.$key = entry(value, &join(path, stringify!($key)), complaints);
                        })*
                        _ => unknown_key(key, path, &[$(stringify!($key)),*], complaints),
                    }
                }
                read
            }
        }
    };
}

/// A list of strings, each with its place.
pub(super) type Texts = Vec<Entry<String>>;

table! {
    /// The whole file.
    Raw {
        listen: Listen,
        tls: KeyPair,
        tunnel: Tunnel,
        network: Network,
        users: Users,
        services: Services,
        authorities: Named<String>,
        client_certificates: Named<KeyPair>,
        policies: Policies,
        audit: Audit,
        admin: Admin,
    }
}

table! {
    Listen {
        address: String,
        proxy_protocol: String,
        trusted: Texts,
        max_unauthenticated: i64,
        max_unauthenticated_per_source: i64,
    }
}

table! {
    KeyPair {
        certificate: String,
        key: String,
    }
}

table! {
    Tunnel {
        methods: Texts,
        zero_binding: Texts,
        binding_hash: Texts,
        max_sessions: i64,
        max_sessions_per_user: i64,
        max_session: String,
        max_streams: i64,
        max_requests: String,
    }
}

table! {
    Network {
        gateway: String,
        client: String,
        services: String,
        suffix: String,
    }
}

table! {
    Users {
        file: String,
        key: String,
    }
}

table! {
    Services {
        ca: String,
        ca_key: String,
        certificates: Vec<Entry<KeyPair>>,
    }
}

table! {
    Policies {
        directory: String,
    }
}

table! {
    Audit {
        file: String,
        on_failure: String,
    }
}

table! {
    Admin {
        address: String,
        socket: String,
    }
}

/// Reads a file's text; `None` when it is not TOML.
pub(super) fn read(text: &str, complaints: &mut Complaints) -> Option<Raw> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(Raw::from_table(document.get_ref(), "", complaints));
    }
    // What follows a broken line is often read wrongly: only the faults of the grammar are worth telling.
    for error in errors {
        let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
        complaints.error(
            "syntax",
            &error.span().unwrap_or(0..0),
            format!("not TOML: {message}"),
            "a line is `key = value`, a section begins with `[name]`, strings are in double quotes",
        );
    }
    None
}

/// Every key that the file may have, as `section.key`.
#[cfg(test)]
pub(super) fn keys() -> Vec<String> {
    let mut keys = Vec::new();
    Raw::keys("", &mut keys);
    keys
}
