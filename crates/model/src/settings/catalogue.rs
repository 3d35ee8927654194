//! The catalogue: every setting there is, with its kind, default, unit and one sentence of help.
//!
//! A setting stands here only if it has an effect. Its typed accessor is in `typed`; a test holds the two together.

use super::value::{Kind, Value};
use std::sync::LazyLock;

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its key: `section.name`.
    pub key: &'static str,
    /// What values it takes, and their range.
    pub kind: Kind,
    /// Its default, as text.
    pub default: &'static str,
    /// The unit of its value, in words; empty where it has none.
    pub unit: &'static str,
    /// One sentence of help.
    pub help: &'static str,
    /// Whether a server can have a value of its own.
    pub per_server: bool,
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A span of time, group-wide.
const fn span(
    key: &'static str,
    (least, most): (u64, u64),
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        key,
        kind: Kind::Duration { least, most },
        default,
        unit: "time with unit: ms, s, m, h or d",
        help,
        per_server: false,
    }
}

/// A count, group-wide.
const fn count(
    key: &'static str,
    (least, most): (u64, u64),
    default: &'static str,
    unit: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        key,
        kind: Kind::Integer { least, most },
        default,
        unit,
        help,
        per_server: false,
    }
}

/// The words of `balance.method`.
pub(super) const METHODS: &[&str] = &["least-load", "least-sessions", "round-robin", "random-two"];

/// The words of `balance.subnet-affinity`.
pub(super) const AFFINITIES: &[&str] = &["none", "prefer", "require"];

/// The words of `resilience.mode`.
pub(super) const MODES: &[&str] = &["auto", "availability", "quorum"];

/// The words of `resilience.primary-return`.
pub(super) const RETURNS: &[&str] = &["accept", "accept-secondary", "ignore"];

/// The words of `tokens.unregistered`.
pub(super) const UNREGISTERED: &[&str] = &["allow", "register", "refuse"];

/// The words of `trust.cipher-suites`: those of TLS 1.3, as IANA calls them, in the order in which servers prefer them.
pub(super) const SUITES: &[&str] = &[
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// Every setting, by key.
pub static CATALOGUE: &[Setting] = &[
    count(
        "audit.history",
        (1_000, 1_000_000),
        "100000",
        "changes",
        "How many changes by people the audit log keeps; the oldest go first.",
    ),
    span(
        "backends.check-interval",
        (100, MINUTE),
        "2s",
        "How often a server connects to each of several backends of an application, to see whether it accepts.",
    ),
    count(
        "backends.fall",
        (1, 100),
        "3",
        "checks",
        "After how many failed checks in a row a backend is down and gets no sessions.",
    ),
    count(
        "backends.rise",
        (1, 100),
        "2",
        "checks",
        "After how many successful checks in a row a backend that was down is up again.",
    ),
    Setting {
        key: "balance.method",
        kind: Kind::Choice(METHODS),
        default: "least-load",
        unit: "",
        help: "How the server for a new session is chosen among those that are eligible.",
        per_server: false,
    },
    Setting {
        key: "balance.subnet-affinity",
        kind: Kind::Choice(AFFINITIES),
        default: "none",
        unit: "",
        help: "Whether a new session goes to servers near its client, where there are any, or only there; near is a server with an external address for the client's network, or whose own address is in the same /24 or, with IPv6, /64.",
        per_server: false,
    },
    count(
        "events.history",
        (1_000, 10_000_000),
        "100000",
        "events",
        "How many events the journal keeps; the oldest go first.",
    ),
    Setting {
        key: "gateway.retain",
        kind: Kind::Duration {
            least: MINUTE,
            most: 30 * DAY,
        },
        default: "8h",
        unit: "time with unit: ms, s, m, h or d",
        help: "How long a server remembers a gateway's client that nobody is known for after it has gone, so that it comes to the same server again; one that stayed for less than half a minute, two minutes.",
        per_server: true,
    },
    Setting {
        key: "resilience.failover",
        kind: Kind::Bool,
        default: "true",
        unit: "",
        help: "Whether a backup primary takes over by itself when the primary is lost; when false, only an administrator promotes.",
        per_server: false,
    },
    Setting {
        key: "resilience.fence-command",
        kind: Kind::Text { most: 1_000 },
        default: "",
        unit: "",
        help: "In availability mode the command that is run before an island takes over, with the lost primary's name as its argument; unless it exits with 0 within 30 s, the island does not.",
        per_server: false,
    },
    span(
        "resilience.island-after",
        (SECOND, HOUR),
        "10s",
        "In availability mode how long a side of a split is without its primary before it goes on by itself; where this is not set, 2s with tie-breakers or a fence command, and never before four grace periods.",
    ),
    Setting {
        key: "resilience.max-moves",
        kind: Kind::Rate {
            most: 1_000,
            longest: DAY,
        },
        default: "3 in 10m",
        unit: "moves in a time with unit: s, m, h or d",
        help: "How often the office of primary may go back to the original primary by itself, planned changes of primary counted too.",
        per_server: false,
    },
    Setting {
        key: "resilience.mode",
        kind: Kind::Choice(MODES),
        default: "auto",
        unit: "",
        help: "Whether a majority must agree to each change (quorum), or each side of a split may go on by itself (availability); auto: availability up to two voters, quorum from the third on, and never back by itself.",
        per_server: false,
    },
    count(
        "resilience.monitor-attempts",
        (3, 100),
        "5",
        "intervals",
        "How many silent monitor intervals start a failover; intervals times attempts is the grace period.",
    ),
    span(
        "resilience.monitor-interval",
        (20, 10 * SECOND),
        "100ms",
        "How often servers hear from each other.",
    ),
    Setting {
        key: "resilience.primary-return",
        kind: Kind::Choice(RETURNS),
        default: "accept",
        unit: "",
        help: "What happens when the original primary is back: it becomes primary again (accept), stays a secondary (accept-secondary), or waits for an administrator (ignore).",
        per_server: false,
    },
    span(
        "resilience.rank-delay",
        (10, 60 * SECOND),
        "150ms",
        "How much later each next server of the backup list steps forward when the primary is lost.",
    ),
    span(
        "resilience.return-delay",
        (SECOND, DAY),
        "30s",
        "How long the original primary must be healthy and caught up before it becomes primary again.",
    ),
    Setting {
        key: "resilience.tie-breakers",
        kind: Kind::List { most: 8 },
        default: "",
        unit: "",
        help: "In availability mode the addresses, host or host:port, all of which a side of a split must reach to act alone; hosts are sent echo requests, ports are connected to.",
        per_server: false,
    },
    count(
        "sessions.history",
        (0, 1_000_000),
        "10000",
        "sessions",
        "How many ended sessions are kept for looking up; the oldest go first.",
    ),
    Setting {
        key: "sessions.start-retry",
        kind: Kind::Duration {
            least: SECOND,
            most: DAY,
        },
        default: "5m",
        unit: "time with unit: ms, s, m, h or d",
        help: "How long a server that failed to start a session of an application is passed over for that application.",
        per_server: true,
    },
    span(
        "sessions.ticket-lifetime",
        (MINUTE, 30 * DAY),
        "12h",
        "How long after a login a client can come back without a password.",
    ),
    Setting {
        key: "tokens.unregistered",
        kind: Kind::Choice(UNREGISTERED),
        default: "allow",
        unit: "",
        help: "What a token that is not registered gets: a session for whoever logs in, the same and its registration for that user, or nothing.",
        per_server: false,
    },
    span(
        "trust.certificate-lifetime",
        (10 * SECOND, 366 * DAY),
        "90d",
        "How long a server's certificates are valid; they renew themselves when two thirds of that are over.",
    ),
    Setting {
        key: "trust.cipher-suites",
        kind: Kind::Choices(SUITES),
        default: "TLS_AES_256_GCM_SHA384,TLS_AES_128_GCM_SHA256,TLS_CHACHA20_POLY1305_SHA256",
        unit: "",
        help: "The cipher suites of TLS 1.3 that servers speak with each other and with clients; fewer only while every member is there, supports them and has the present ones.",
        per_server: false,
    },
    span(
        "trust.client-overlap",
        (MINUTE, 2 * 366 * DAY),
        "30d",
        "How long after another authority came into force clients that know only the fingerprint of the one before still get in.",
    ),
    span(
        "trust.ticket-overlap",
        (0, 30 * DAY),
        "15m",
        "How long after another ticket key came into force the tickets of the one before still hold; clients that are connected change theirs at once.",
    ),
    span(
        "tunnel.dead-after",
        (200, MINUTE),
        "1s",
        "How long a path between client and session may be silent before another is tried.",
    ),
    count(
        "tunnel.max-per-user",
        (1, 20_000),
        "20000",
        "tunnels",
        "How many tunnels one user may have through one server at the same time; one that comes back after its path was lost is let in anyway.",
    ),
    Setting {
        key: "tunnel.retain",
        kind: Kind::Duration {
            least: SECOND,
            most: DAY,
        },
        default: "2m",
        unit: "time with unit: ms, s, m, h or d",
        help: "How long the stream of a client that is not connected is kept for it to come back to.",
        per_server: true,
    },
    count(
        "users.address-attempts",
        (1, 100_000),
        "100",
        "failed logins",
        "How many logins from one address may fail within users.lockout-time, whatever the accounts, before it has to wait.",
    ),
    Setting {
        key: "users.authenticate",
        kind: Kind::Text { most: 1_000 },
        default: "directory",
        unit: "",
        help: "Where the passwords of users are checked: in the directory, by PAM on the server that is asked, or by LDAP servers, ldap: and their addresses with commas between them, each tried when those before it do not answer; administrators whose password is in the directory log in with that.",
        per_server: false,
    },
    Setting {
        key: "users.ldap-base",
        kind: Kind::Text { most: 1_000 },
        default: "",
        unit: "",
        help: "The distinguished name of the entry under which LDAP servers look for users, where users.ldap-user-dn is not set.",
        per_server: false,
    },
    Setting {
        key: "users.ldap-bind-dn",
        kind: Kind::Text { most: 1_000 },
        default: "",
        unit: "",
        help: "The distinguished name as which LDAP servers look for users; where it is empty they look as nobody.",
        per_server: false,
    },
    Setting {
        key: "users.ldap-bind-secret",
        kind: Kind::Text { most: 128 },
        default: "",
        unit: "",
        help: "The name of the stored secret that is the password of users.ldap-bind-dn.",
        per_server: false,
    },
    Setting {
        key: "users.ldap-ca",
        kind: Kind::Text { most: 1_000 },
        default: "",
        unit: "",
        help: "The path of a file on the server with the authorities, as PEM, one of which has to have issued the certificates of LDAP servers; where it is empty, those that the system trusts.",
        per_server: true,
    },
    Setting {
        key: "users.ldap-filter",
        kind: Kind::Text { most: 1_000 },
        default: "(uid={user})",
        unit: "",
        help: "The filter by which LDAP servers find the one entry of a user, whose name takes the place of {user}.",
        per_server: false,
    },
    Setting {
        key: "users.ldap-user-dn",
        kind: Kind::Text { most: 1_000 },
        default: "",
        unit: "",
        help: "The distinguished name of a user's entry at LDAP servers, with {user} where the user's name stands; where it is empty, the entry is looked for.",
        per_server: false,
    },
    count(
        "users.lockout-attempts",
        (1, 1_000),
        "10",
        "failed logins",
        "How many failed logins lock an account for a while: in a row from one address, or together from all of them.",
    ),
    span(
        "users.lockout-time",
        (SECOND, 30 * DAY),
        "15m",
        "How long an account stays locked after too many failed logins, and how long failures count.",
    ),
    Setting {
        key: "users.pam-service",
        kind: Kind::Text { most: 64 },
        default: "stead",
        unit: "",
        help: "The PAM service that checks passwords where users.authenticate is pam: the name of a file in /etc/pam.d on each server.",
        per_server: false,
    },
];

/// The settings with their defaults, in order: read once, because some are asked for several times for every change.
static KNOWN: LazyLock<Vec<(&'static Setting, Value)>> = LazyLock::new(|| {
    let read = |setting: &'static Setting| (setting, setting.read_default());
    CATALOGUE.iter().map(read).collect()
});

impl Setting {
    /// The setting of a key, if there is one.
    pub fn find(key: &str) -> Option<&'static Self> {
        Self::with_default(key).map(|(setting, _)| setting)
    }

    /// The setting of a key and its default value, if there is one.
    pub fn with_default(key: &str) -> Option<(&'static Self, &'static Value)> {
        let known: &'static [(&'static Self, Value)] = &KNOWN;
        let place = known.binary_search_by(|(setting, _)| setting.key.cmp(key));
        let (setting, default) = known.get(place.ok()?)?;
        Some((setting, default))
    }

    fn read_default(&self) -> Value {
        self.kind
            .parse(self.default)
            .expect("invariant: the catalogue's defaults fit their kinds, see the test below")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_in_order_and_makes_sense() {
        for pair in CATALOGUE.windows(2) {
            assert!(
                pair[0].key < pair[1].key,
                "{} and {} are out of order",
                pair[0].key,
                pair[1].key
            );
        }
        for setting in CATALOGUE {
            assert_eq!(
                setting.read_default().to_string(),
                setting.default,
                "{} has another canonical default",
                setting.key
            );
            assert!(
                setting.help.ends_with('.') && setting.help.len() > 20,
                "{} has no sentence of help",
                setting.key
            );
            let numeric = matches!(
                setting.kind,
                Kind::Integer { .. } | Kind::Duration { .. } | Kind::Rate { .. }
            );
            assert_eq!(
                numeric,
                !setting.unit.is_empty(),
                "{}: a unit goes with a figure",
                setting.key
            );
            assert_eq!(Setting::find(setting.key), Some(setting));
        }
        assert_eq!(Setting::find("resilience"), None);
    }
}
