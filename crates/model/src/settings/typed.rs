//! The settings in force, as types. Always true: the keys are the catalogue's, and so are the kinds, which a test looks at.

use super::{ModeChoice, PrimaryReturn, Settings, Value};
use crate::id::ServerId;
use crate::mode::ResilienceMode;
use std::time::Duration;

impl Settings {
    pub(super) fn known(&self, key: &'static str, on: Option<ServerId>) -> &Value {
        self.effective(key, on)
            .expect("invariant: accessors use keys of the catalogue")
    }

    fn duration(&self, key: &'static str, on: Option<ServerId>) -> Duration {
        match self.known(key, on) {
            Value::Duration(span) => Duration::from_millis(*span),
            other => {
                unreachable!("invariant: {key} is a duration in the catalogue, found {other:?}")
            }
        }
    }

    fn integer(&self, key: &'static str) -> u64 {
        match self.known(key, None) {
            Value::Integer(number) => *number,
            other => {
                unreachable!("invariant: {key} is an integer in the catalogue, found {other:?}")
            }
        }
    }

    /// `resilience.mode`.
    pub fn mode_choice(&self) -> ModeChoice {
        match self.known("resilience.mode", None) {
            Value::Choice("quorum") => ModeChoice::Always(ResilienceMode::Quorum),
            Value::Choice("availability") => ModeChoice::Always(ResilienceMode::Availability),
            _ => ModeChoice::Auto,
        }
    }

    /// `resilience.tie-breakers`: hosts, or hosts with ports.
    pub fn tie_breakers(&self) -> Vec<String> {
        match self.known("resilience.tie-breakers", None) {
            Value::List(words) => words.clone(),
            other => unreachable!(
                "invariant: the tie-breakers are a list in the catalogue, found {other:?}"
            ),
        }
    }

    /// `resilience.fence-command`; none where there is none.
    pub fn fence_command(&self) -> Option<String> {
        match self.known("resilience.fence-command", None) {
            Value::Text(command) => Some(command.clone()).filter(|command| !command.is_empty()),
            other => unreachable!(
                "invariant: the fence command is text in the catalogue, found {other:?}"
            ),
        }
    }

    /// `resilience.island-after`; unless it was set, sooner where something keeps the other side from going on
    /// too, and never before four grace periods.
    pub fn island_after(&self) -> Duration {
        let guarded = self.fence_command().is_some() || !self.tie_breakers().is_empty();
        let asked = self.duration("resilience.island-after", None);
        if self.group.contains_key("resilience.island-after") {
            return asked;
        }
        let own = if guarded {
            Self::ISLAND_AFTER_GUARDED
        } else {
            asked
        };
        own.max(self.grace_period() * 4)
    }

    /// `audit.history`, in changes.
    pub fn audit_history(&self) -> usize {
        usize::try_from(self.integer("audit.history")).unwrap_or(usize::MAX)
    }

    /// `events.history`, in events.
    pub fn events_history(&self) -> usize {
        usize::try_from(self.integer("events.history")).unwrap_or(usize::MAX)
    }

    /// `resilience.failover`.
    pub fn failover(&self) -> bool {
        *self.known("resilience.failover", None) == Value::Bool(true)
    }

    /// `resilience.monitor-interval`.
    pub fn monitor_interval(&self) -> Duration {
        self.duration("resilience.monitor-interval", None)
    }

    /// `resilience.monitor-attempts`.
    pub fn monitor_attempts(&self) -> u32 {
        u32::try_from(self.integer("resilience.monitor-attempts")).unwrap_or(u32::MAX)
    }

    /// How long the primary must be silent before failover starts: monitor interval times attempts. It is also the lease.
    pub fn grace_period(&self) -> Duration {
        self.monitor_interval()
            .saturating_mul(self.monitor_attempts())
    }

    /// `resilience.rank-delay`.
    pub fn rank_delay(&self) -> Duration {
        self.duration("resilience.rank-delay", None)
    }

    /// `resilience.primary-return`.
    pub fn primary_return(&self) -> PrimaryReturn {
        match self.known("resilience.primary-return", None) {
            Value::Choice("accept-secondary") => PrimaryReturn::AcceptSecondary,
            Value::Choice("ignore") => PrimaryReturn::Ignore,
            _ => PrimaryReturn::Accept,
        }
    }

    /// `resilience.return-delay`.
    pub fn return_delay(&self) -> Duration {
        self.duration("resilience.return-delay", None)
    }

    /// `resilience.max-moves`: how many, and within how long.
    pub fn max_moves(&self) -> (usize, Duration) {
        match self.known("resilience.max-moves", None) {
            Value::Rate(count, span) => (
                usize::try_from(*count).unwrap_or(usize::MAX),
                Duration::from_millis(*span),
            ),
            other => unreachable!("invariant: a rate in the catalogue, found {other:?}"),
        }
    }

    /// `backends.check-interval`.
    pub fn backend_check_interval(&self) -> Duration {
        self.duration("backends.check-interval", None)
    }

    /// `backends.fall`, in checks.
    pub fn backend_fall(&self) -> u32 {
        u32::try_from(self.integer("backends.fall")).unwrap_or(u32::MAX)
    }

    /// `backends.rise`, in checks.
    pub fn backend_rise(&self) -> u32 {
        u32::try_from(self.integer("backends.rise")).unwrap_or(u32::MAX)
    }

    /// `gateway.retain`, of one server or the group.
    pub fn gateway_retain(&self, on: Option<ServerId>) -> Duration {
        self.duration("gateway.retain", on)
    }

    /// `sessions.history`, in sessions.
    pub fn sessions_history(&self) -> usize {
        usize::try_from(self.integer("sessions.history")).unwrap_or(usize::MAX)
    }

    /// `sessions.start-retry`, of one server or the group.
    pub fn start_retry(&self, on: Option<ServerId>) -> Duration {
        self.duration("sessions.start-retry", on)
    }

    /// `sessions.ticket-lifetime`.
    pub fn ticket_lifetime(&self) -> Duration {
        self.duration("sessions.ticket-lifetime", None)
    }

    /// `trust.certificate-lifetime`.
    pub fn certificate_lifetime(&self) -> Duration {
        self.duration("trust.certificate-lifetime", None)
    }

    /// `trust.client-overlap`.
    pub fn client_overlap(&self) -> Duration {
        self.duration("trust.client-overlap", None)
    }

    /// `trust.ticket-overlap`; none where tickets of a key that is replaced do not hold.
    pub fn ticket_overlap(&self) -> Duration {
        self.duration("trust.ticket-overlap", None)
    }

    /// `trust.cipher-suites`: at least one.
    pub fn cipher_suites(&self) -> &[String] {
        match self.known("trust.cipher-suites", None) {
            Value::List(suites) => suites,
            other => unreachable!(
                "invariant: the cipher suites are a list in the catalogue, found {other:?}"
            ),
        }
    }

    /// `tunnel.dead-after`.
    pub fn dead_after(&self) -> Duration {
        self.duration("tunnel.dead-after", None)
    }

    /// `tunnel.max-per-user`, in tunnels.
    pub fn tunnels_per_user(&self) -> u32 {
        u32::try_from(self.integer("tunnel.max-per-user")).unwrap_or(u32::MAX)
    }

    /// `tunnel.retain`, of one server or the group.
    pub fn retain(&self, on: Option<ServerId>) -> Duration {
        self.duration("tunnel.retain", on)
    }

    /// `users.address-attempts`.
    pub fn address_attempts(&self) -> u32 {
        u32::try_from(self.integer("users.address-attempts")).unwrap_or(u32::MAX)
    }

    /// `users.lockout-attempts`.
    pub fn lockout_attempts(&self) -> u32 {
        u32::try_from(self.integer("users.lockout-attempts")).unwrap_or(u32::MAX)
    }

    /// `users.lockout-time`.
    pub fn lockout_time(&self) -> Duration {
        self.duration("users.lockout-time", None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::CATALOGUE;

    #[test]
    fn every_setting_has_an_accessor_and_every_accessor_its_setting() {
        let sources = concat!(
            include_str!("typed.rs"),
            include_str!("choices.rs"),
            include_str!("authentication.rs")
        );
        for setting in CATALOGUE {
            let quoted = format!("\"{}\"", setting.key);
            assert!(sources.contains(&quoted), "nobody asks for {}", setting.key);
        }
        // Each panics where its key or kind is not the catalogue's.
        let set = Settings::default();
        let spans = [
            set.island_after(),
            set.monitor_interval(),
            set.grace_period(),
            set.rank_delay(),
            set.return_delay(),
            set.backend_check_interval(),
            set.gateway_retain(None),
            set.start_retry(None),
            set.ticket_lifetime(),
            set.certificate_lifetime(),
            set.client_overlap(),
            set.dead_after(),
            set.retain(None),
            set.lockout_time(),
            set.max_moves().1,
        ];
        assert!(spans.iter().all(|span| !span.is_zero()), "{spans:?}");
        let counts = [
            set.audit_history(),
            set.events_history(),
            set.sessions_history(),
            set.monitor_attempts() as usize,
            set.backend_fall() as usize,
            set.backend_rise() as usize,
            set.tunnels_per_user() as usize,
            set.lockout_attempts() as usize,
        ];
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        assert!(set.failover() && set.tie_breakers().is_empty() && set.fence_command().is_none());
        assert_eq!(set.cipher_suites().len(), 3);
        assert_eq!(set.primary_return(), PrimaryReturn::Accept);
        assert_eq!(set.mode_choice(), ModeChoice::Auto);
    }
}
