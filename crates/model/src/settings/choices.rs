//! The settings that are one word of several, as types.

use crate::mode::ResilienceMode;
use crate::settings::{Settings, Value};
use serde::{Deserialize, Serialize};

/// How the server of a new session is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BalanceMethod {
    /// By processor, memory and sessions relative to the server's power.
    LeastLoad,
    /// By the number of sessions.
    LeastSessions,
    /// One after the other.
    RoundRobin,
    /// The better of two drawn at random.
    RandomTwo,
}

/// What happens when the original primary is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrimaryReturn {
    /// It becomes primary again.
    Accept,
    /// It stays a secondary.
    AcceptSecondary,
    /// It waits for an administrator.
    Ignore,
}

/// What `resilience.mode` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModeChoice {
    /// Whatever the number of voters suggests, and never weaker than before.
    Auto,
    /// This one.
    Always(ResilienceMode),
}

/// Whether new sessions go to servers near their clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubnetAffinity {
    /// Where a client is does not matter.
    #[default]
    None,
    /// To those that are near, where there are any.
    Prefer,
    /// Only to those that are near.
    Require,
}

/// What a token that is not registered gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unregistered {
    /// Whoever logs in may use it; nothing is kept.
    Allow,
    /// It belongs to whoever starts a session with it first.
    Register,
    /// Nothing.
    Refuse,
}

impl PrimaryReturn {
    /// The more cautious of two.
    pub fn max_caution(self, other: Self) -> Self {
        let caution = |rule| match rule {
            Self::Accept => 0,
            Self::AcceptSecondary => 1,
            Self::Ignore => 2,
        };
        match caution(self) >= caution(other) {
            true => self,
            false => other,
        }
    }
}

impl Settings {
    /// `balance.method`.
    pub fn balance_method(&self) -> BalanceMethod {
        match self.known("balance.method", None) {
            Value::Choice("least-sessions") => BalanceMethod::LeastSessions,
            Value::Choice("round-robin") => BalanceMethod::RoundRobin,
            Value::Choice("random-two") => BalanceMethod::RandomTwo,
            _ => BalanceMethod::LeastLoad,
        }
    }

    /// `balance.subnet-affinity`.
    pub fn subnet_affinity(&self) -> SubnetAffinity {
        match self.known("balance.subnet-affinity", None) {
            Value::Choice("prefer") => SubnetAffinity::Prefer,
            Value::Choice("require") => SubnetAffinity::Require,
            _ => SubnetAffinity::None,
        }
    }

    /// `tokens.unregistered`.
    pub fn unregistered(&self) -> Unregistered {
        match self.known("tokens.unregistered", None) {
            Value::Choice("register") => Unregistered::Register,
            Value::Choice("refuse") => Unregistered::Refuse,
            _ => Unregistered::Allow,
        }
    }
}
