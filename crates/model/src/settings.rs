//! Settings: values for the group and for single servers, checked by the catalogue.
//!
//! Always true: every value kept fits its setting, and the whole set fits together ([`Settings::check`], called by `apply`
//! before a change of settings is accepted). Start at [`catalogue`].

mod authentication;
pub mod catalogue;
mod choices;
mod typed;
pub mod value;

pub use authentication::FindUser;
pub use catalogue::{CATALOGUE, Setting};
pub use choices::{BalanceMethod, ModeChoice, PrimaryReturn, SubnetAffinity, Unregistered};
pub use value::{Kind, Value};

use crate::id::ServerId;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use value::{duration_text, nearest};

/// Why a setting cannot be set so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SettingError {
    /// No such key.
    #[error("there is no setting {key:?}; the nearest is {nearest}")]
    Unknown {
        /// What was given.
        key: String,
        /// The key that is spelled most like it.
        nearest: String,
    },
    /// The value is not of the setting's kind, or out of range.
    #[error(
        "{value:?} does not fit {key}, which takes a {kind}: {allowed}; the nearest valid value is {nearest}"
    )]
    Value {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// The kind of its values.
        kind: String,
        /// What is allowed, in words.
        allowed: String,
        /// The nearest valid value.
        nearest: String,
    },
    /// The setting is the same for the whole group.
    #[error("{key} is the same for the whole group: no server can have a value of its own")]
    NotPerServer {
        /// The key.
        key: String,
    },
    /// The primary would be given up too hastily.
    #[error(
        "the grace period would be {grace}, and at least {least} is needed: raise resilience.monitor-interval or resilience.monitor-attempts"
    )]
    GraceTooShort {
        /// Interval times attempts.
        grace: String,
        /// The least it may be.
        least: String,
    },
    /// A dead first backup would cost far more than the loss of the primary.
    #[error(
        "resilience.rank-delay would be {rank_delay}, more than a hundred grace periods of {grace}: lower it, or raise the grace period"
    )]
    RankDelayTooLong {
        /// The delay.
        rank_delay: String,
        /// Interval times attempts.
        grace: String,
    },
    /// A side of a split would go on before its primary is known to be lost.
    #[error(
        "resilience.island-after would be {island_after}, and must be longer than two grace periods of {grace}: raise it"
    )]
    IslandTooSoon {
        /// How long a side waits.
        island_after: String,
        /// Interval times attempts.
        grace: String,
    },
    /// A tie-breaker is no address.
    #[error("{word:?} is no address for resilience.tie-breakers: give a host, or host:port")]
    TieBreaker {
        /// What was given.
        word: String,
    },
    /// A stream would be thrown away before its client knew that the path is dead.
    #[error(
        "tunnel.retain would be {retain}, no longer than tunnel.dead-after, {dead_after}: a stream must outlive a dead path"
    )]
    RetainTooShort {
        /// How long streams are kept.
        retain: String,
        /// When a path counts as dead.
        dead_after: String,
    },
    /// A value that is read as more than text does not fit.
    #[error("{key} does not fit: {why}")]
    Unfit {
        /// The key.
        key: String,
        /// Why, in words.
        why: String,
    },
    /// LDAP servers would be asked, and nothing says for whom.
    #[error(
        "users.authenticate would ask LDAP servers, and neither users.ldap-user-dn nor users.ldap-base says where a user's entry is: set one of them first"
    )]
    NobodyFound,
}

/// The settings in force. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    group: OrdMap<&'static str, Value>,
    servers: OrdMap<(&'static str, ServerId), Value>,
}

impl Settings {
    /// The shortest grace period that makes sense, in milliseconds.
    pub const GRACE_LEAST_MS: u64 = 100;
    /// How many grace periods a rank delay may last.
    const RANK_DELAY_GRACES: u64 = 100;
    /// How long a side waits where tie-breakers or a fence command are set.
    const ISLAND_AFTER_GUARDED: Duration = Duration::from_secs(2);

    /// The setting of a key.
    ///
    /// # Errors
    /// That there is none, with the key that is spelled most like it.
    pub fn describe(key: &str) -> Result<&'static Setting, SettingError> {
        Setting::find(key).ok_or_else(|| Self::unknown(key))
    }

    fn unknown(key: &str) -> SettingError {
        SettingError::Unknown {
            key: key.chars().take(128).collect(),
            nearest: nearest(key, CATALOGUE.iter().map(|setting| setting.key))
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// Reads a value for a key.
    ///
    /// # Errors
    /// The key is unknown, or the value does not fit; with what is nearest.
    pub fn parse(key: &str, text: &str) -> Result<(&'static Setting, Value), SettingError> {
        let setting = Self::describe(key)?;
        let value = setting
            .kind
            .parse(text)
            .map_err(|misfit| SettingError::Value {
                key: setting.key.to_owned(),
                value: text.chars().take(200).collect(),
                kind: setting.kind.as_str().to_owned(),
                allowed: setting.kind.range(),
                nearest: misfit.nearest,
            })?;
        Ok((setting, value))
    }

    /// Sets a value, for the group or one server, without the check of the whole.
    ///
    /// # Errors
    /// The key is unknown, the value does not fit, or the setting is the group's alone.
    pub fn set(&mut self, key: &str, on: Option<ServerId>, text: &str) -> Result<(), SettingError> {
        let (setting, value) = Self::parse(key, text)?;
        match on {
            None => self.group.insert(setting.key, value),
            Some(server) => self
                .servers
                .insert((Self::overridable(setting)?, server), value),
        };
        Ok(())
    }

    /// Takes the group's value back to the default, or a server's own value away. Whether there was one.
    ///
    /// # Errors
    /// The key is unknown, or the setting is the group's alone.
    pub fn unset(&mut self, key: &str, on: Option<ServerId>) -> Result<bool, SettingError> {
        let setting = Self::describe(key)?;
        Ok(match on {
            None => self.group.remove(setting.key).is_some(),
            Some(server) => self
                .servers
                .remove(&(Self::overridable(setting)?, server))
                .is_some(),
        })
    }

    fn overridable(setting: &'static Setting) -> Result<&'static str, SettingError> {
        if setting.per_server {
            return Ok(setting.key);
        }
        Err(SettingError::NotPerServer {
            key: setting.key.to_owned(),
        })
    }

    /// Forgets the values of a server that left.
    pub(crate) fn forget(&mut self, server: ServerId) {
        let gone: Vec<_> = self
            .servers
            .keys()
            .filter(|(_, owner)| *owner == server)
            .copied()
            .collect();
        for key in gone {
            self.servers.remove(&key);
        }
    }

    /// The value in force for the group, or for one server.
    ///
    /// # Errors
    /// The key is unknown.
    pub fn value(&self, key: &str, on: Option<ServerId>) -> Result<Value, SettingError> {
        match self.effective(key, on) {
            Some(value) => Ok(value.clone()),
            None => Err(Self::unknown(key)),
        }
    }

    /// The value that was set for the group, or for exactly this server; none where the default or the group's holds.
    pub fn explicit(&self, setting: &'static Setting, on: Option<ServerId>) -> Option<&Value> {
        match on {
            None => self.group.get(setting.key),
            Some(server) => self.servers.get(&(setting.key, server)),
        }
    }

    fn effective(&self, key: &str, on: Option<ServerId>) -> Option<&Value> {
        let (setting, default) = Setting::with_default(key)?;
        let own = on.and_then(|server| self.servers.get(&(setting.key, server)));
        Some(
            own.or_else(|| self.group.get(setting.key))
                .unwrap_or(default),
        )
    }

    /// What was set: key, server whose own value it is, canonical text.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, Option<ServerId>, String)> + '_ {
        let group = self
            .group
            .iter()
            .map(|(key, value)| (*key, None, value.to_string()));
        group.chain(
            self.servers
                .iter()
                .map(|((key, server), value)| (*key, Some(*server), value.to_string())),
        )
    }

    /// Puts one entry back, as [`Settings::entries`] gave it.
    ///
    /// # Errors
    /// This version does not know the key, or the value does not fit.
    pub fn load(
        &mut self,
        key: &str,
        on: Option<ServerId>,
        value: &str,
    ) -> Result<(), SettingError> {
        self.set(key, on, value)
    }

    /// Whether the whole set fits together.
    ///
    /// # Errors
    /// The first two settings that do not, with their values.
    pub fn check(&self) -> Result<(), SettingError> {
        let grace = millis(self.grace_period());
        if grace < Self::GRACE_LEAST_MS {
            let least = duration_text(Self::GRACE_LEAST_MS);
            return Err(SettingError::GraceTooShort {
                grace: duration_text(grace),
                least,
            });
        }
        let rank_delay = millis(self.rank_delay());
        if rank_delay > grace.saturating_mul(Self::RANK_DELAY_GRACES) {
            return Err(SettingError::RankDelayTooLong {
                rank_delay: duration_text(rank_delay),
                grace: duration_text(grace),
            });
        }
        let island_after = millis(self.island_after());
        if island_after <= grace.saturating_mul(2) {
            return Err(SettingError::IslandTooSoon {
                island_after: duration_text(island_after),
                grace: duration_text(grace),
            });
        }
        if let Some(word) = self
            .tie_breakers()
            .into_iter()
            .find(|word| !is_address(word))
        {
            return Err(SettingError::TieBreaker { word });
        }
        self.check_authentication()?;
        let dead_after = millis(self.dead_after());
        let own = self
            .servers
            .iter()
            .filter(|((key, _), _)| *key == "tunnel.retain")
            .map(|((_, server), _)| Some(*server));
        for server in std::iter::once(None).chain(own) {
            let retain = millis(self.retain(server));
            if retain <= dead_after {
                return Err(SettingError::RetainTooShort {
                    retain: duration_text(retain),
                    dead_after: duration_text(dead_after),
                });
            }
        }
        Ok(())
    }
}

/// Whether a word can be a host's name or address, with or without a port.
fn is_address(word: &str) -> bool {
    let fits = |character: char| character.is_ascii_alphanumeric() || ".-:[]_%".contains(character);
    !word.is_empty() && word.len() <= 255 && word.chars().all(fits)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
