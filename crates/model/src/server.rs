//! Servers of the group.

use crate::id::{IncarnationId, ServerId};
use crate::name::ServerName;
use crate::time::UnixMillis;
use crate::trust::KeyMark;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// What a server was asked to be when it joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Counts towards the quorum once it has caught up, and hosts sessions.
    Voter,
    /// Replicates and hosts, but does not count.
    NonVoter,
    /// Counts towards the quorum, hosts nothing, never holds the seal key.
    Witness,
}

impl Standing {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::NonVoter => "non-voter",
            Self::Witness => "witness",
        }
    }

    /// Whether a server of this standing counts towards the quorum once it has caught up.
    pub fn votes(self) -> bool {
        matches!(self, Self::Voter | Self::Witness)
    }

    /// Whether it may host sessions.
    pub fn hosts(self) -> bool {
        !matches!(self, Self::Witness)
    }

    /// Whether it may become primary, and so holds the seal key.
    pub fn may_lead(self) -> bool {
        matches!(self, Self::Voter)
    }
}

/// Whether load balancing gives a server new sessions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// It gets new sessions.
    Online,
    /// It gets none, unless every other server is offline too.
    Offline(Offline),
}

/// Who took a server offline, why and until when.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Offline {
    /// Who did it.
    pub by: String,
    /// Why, in their words.
    pub reason: Option<String>,
    /// Since when.
    pub since: UnixMillis,
    /// When it ends by itself; never when absent.
    pub until: Option<UnixMillis>,
    /// Whether its sessions go elsewhere too, those that were there when it began.
    pub drain: Option<Drain>,
}

/// A server's sessions go on elsewhere: suspended ones at once, those that are in use when their users move them, at the latest at
/// the deadline. Sessions of applications that are to be kept stay.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Drain {
    /// When sessions that are in use are moved whether their users did so or not.
    pub deadline: UnixMillis,
    /// When nothing was left to be moved; absent while something is.
    pub finished: Option<UnixMillis>,
}

impl Mode {
    /// Whether load balancing gives it new sessions.
    pub fn is_online(&self) -> bool {
        matches!(self, Self::Online)
    }

    /// The drain, and when it began; none where the server is online, or only gets no new sessions.
    pub fn drain(&self) -> Option<(&Drain, UnixMillis)> {
        match self {
            Self::Online => None,
            Self::Offline(offline) => Some((offline.drain.as_ref()?, offline.since)),
        }
    }
}

/// Where clients of a network reach a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExternalAddress {
    /// The clients' addresses, as a server sees them.
    pub network: IpNet,
    /// `host:port`.
    pub address: String,
}

/// A member of the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its id, for good.
    pub id: ServerId,
    /// Its name, unique in the group.
    pub name: ServerName,
    /// Where other servers reach it, `host:port`.
    pub peer_address: String,
    /// Where clients and administrators reach it, `host:port`.
    pub client_address: String,
    /// What it was asked to be.
    pub standing: Standing,
    /// Whether it counts now: it has caught up and was confirmed.
    pub voting: bool,
    /// Online or offline.
    pub mode: Mode,
    /// Power rating for load balancing, in thousandths; 1000 is an ordinary server. From 100 to 1,000,000.
    pub power: u32,
    /// What application host selectors choose by.
    pub labels: BTreeMap<String, String>,
    /// Where clients of some networks reach it instead of at `client_address`; the first whose network a client is in.
    pub external: Vec<ExternalAddress>,
    /// The version of the program that it runs.
    pub version: String,
    /// The newest feature level that it can work at.
    pub feature_level: u32,
    /// The life of its log.
    pub incarnation: IncarnationId,
    /// When its peer certificate expires.
    pub certificate_expires: UnixMillis,
    /// When it joined.
    pub joined: UnixMillis,
    /// Whether it has reported itself since it joined; until then it is still joining.
    pub started: bool,
    /// The number of the change that made or last changed this record.
    pub version_number: u64,
    /// The key of its peer certificate, as it said itself.
    pub peer_key: KeyMark,
    /// Keys of it that are refused, the newest first, [`Self::REVOKED_LIMIT`] at most: whoever shows one may ask for another certificate
    /// and for nothing else.
    pub revoked: Vec<KeyMark>,
}

impl Server {
    /// How many refused keys of a server are remembered; certificates of older ones have expired.
    pub const REVOKED_LIMIT: usize = 16;
    /// The power rating of an ordinary server.
    pub const POWER_DEFAULT: u32 = 1000;
    /// The power ratings that make sense.
    pub const POWER_RANGE: std::ops::RangeInclusive<u32> = 100..=1_000_000;

    /// Where a client reaches it; `client` is the client's address, as a server sees it.
    pub fn address_for(&self, client: IpAddr) -> &str {
        // An IPv4 client of a socket that speaks both has an IPv6 address that stands for it.
        let client = client.to_canonical();
        let mut fitting = self.external.iter();
        let first = fitting.find(|external| external.network.contains(&client));
        first.map_or(&self.client_address, |external| &external.address)
    }

    /// Whether a client is near: it has an external address for the client's network, or its own is in the same /24 or, with IPv6,
    /// /64.
    pub fn is_near(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let mut external = self.external.iter();
        if external.any(|external| external.network.contains(&client)) {
            return true;
        }
        let own = self.client_address.parse::<SocketAddr>();
        let own = own.ok().map(|own| own.ip().to_canonical());
        let prefix = if client.is_ipv4() { 24 } else { 64 };
        let network = own.and_then(|own| IpNet::new(own, prefix).ok());
        network.is_some_and(|network| network.contains(&client))
    }

    /// The first label of `selector` that this server lacks; none when it matches.
    pub fn lacks_label<'a>(
        &self,
        selector: &'a BTreeMap<String, String>,
    ) -> Option<(&'a str, &'a str)> {
        let missing = selector
            .iter()
            .find(|(key, value)| self.labels.get(*key) != Some(*value));
        missing.map(|(key, value)| (key.as_str(), value.as_str()))
    }
}
