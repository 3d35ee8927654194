//! A change of the group's shape before it is made: every step, every refusal, what it does to sessions, and what the
//! group could lose afterwards. Dry runs print it; the executor follows its steps.

use crate::losses::Protection;
use crate::words;
use model::{Reason, Session};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The most sessions that an impact names one by one; the rest is counted.
pub const NAMED_LIMIT: usize = 1_000;

/// A change of the group's shape, planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What is planned, in words: `promote newyork`.
    pub what: String,
    /// What would be done, in order, in words. Empty when it is refused.
    pub steps: Vec<String>,
    /// Every check that was made; one that does not pass refuses the plan.
    pub checks: Vec<Reason>,
    /// The checks that refuse it, in words with what to do.
    pub refusals: Vec<String>,
    /// What it does to sessions.
    pub impact: Impact,
    /// How long changes are expected to wait, in milliseconds.
    pub expected_outage_ms: u64,
    /// What the group could lose afterwards.
    pub losses_after: Protection,
}

/// What a plan does to sessions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Impact {
    /// How many go on where they are.
    pub kept: u64,
    /// Those that move to another server.
    pub moved: Affected,
    /// Those that end, or are forgotten where it is asked.
    pub lost: Affected,
}

/// Sessions that something happens to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Affected {
    /// How many.
    pub count: u64,
    /// The first of them, at most [`NAMED_LIMIT`].
    pub sessions: Vec<NamedSession>,
}

/// A session by what people know it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedSession {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub token: String,
    /// Who logged in.
    pub user: String,
    /// What it runs.
    pub app: String,
    /// Where it is in its life.
    pub state: String,
}

impl Affected {
    /// Counts sessions and names the first of them.
    pub fn from_sessions<'a>(sessions: impl IntoIterator<Item = &'a Session>) -> Self {
        let mut affected = Self::default();
        for session in sessions {
            affected.count += 1;
            if affected.sessions.len() < NAMED_LIMIT {
                affected.sessions.push(NamedSession {
                    id: session.id.to_string(),
                    token: session.token.to_string(),
                    user: session.user.to_string(),
                    app: session.app.to_string(),
                    state: session.state.as_str().to_owned(),
                });
            }
        }
        affected
    }
}

impl Plan {
    /// Whether nothing refuses it.
    pub fn is_possible(&self) -> bool {
        self.refusals.is_empty()
    }

    pub(crate) fn new(
        what: String,
        checks: Vec<Check>,
        steps: Vec<String>,
        impact: Impact,
        after: Protection,
    ) -> Self {
        let refusals = checks
            .iter()
            .filter(|check| !check.reason.pass)
            .map(|check| format!("{}: {}", check.reason.detail, check.remedy))
            .collect::<Vec<_>>();
        Self {
            what,
            steps: if refusals.is_empty() {
                steps
            } else {
                Vec::new()
            },
            checks: checks.into_iter().map(|check| check.reason).collect(),
            refusals,
            impact,
            expected_outage_ms: 0,
            losses_after: after,
        }
    }

    pub(crate) fn with_outage(mut self, outage: Duration) -> Self {
        self.expected_outage_ms = u64::try_from(outage.as_millis()).unwrap_or(u64::MAX);
        self
    }
}

/// A check and what to do when it does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) reason: Reason,
    pub(crate) remedy: &'static str,
}

/// For people.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        for refusal in &self.refusals {
            writeln!(f, "  refused: {refusal}")?;
        }
        for (place, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {}. {step}", place + 1)?;
        }
        writeln!(f, "  sessions kept: {}", words::number(self.impact.kept))?;
        for (word, affected) in [("moved", &self.impact.moved), ("lost", &self.impact.lost)] {
            writeln!(f, "  sessions {word}: {}", words::number(affected.count))?;
            for session in &affected.sessions {
                let NamedSession {
                    id,
                    token,
                    user,
                    app,
                    state,
                } = session;
                writeln!(f, "    {app} of {user} ({token}), {state}, {id}")?;
            }
            let unnamed = affected
                .count
                .saturating_sub(words::len(affected.sessions.len()));
            if unnamed > 0 {
                writeln!(f, "    and {} more", words::number(unnamed))?;
            }
        }
        writeln!(
            f,
            "  changes wait for about: {} ms",
            self.expected_outage_ms
        )?;
        write!(f, "  afterwards: {}", self.losses_after.sentence)?;
        for warning in &self.losses_after.warnings {
            write!(f, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}
