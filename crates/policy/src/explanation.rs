//! What was decided and why, candidate by candidate: the one form in which every decision is shown and kept.

use model::{Reason, ServerId, UnixMillis};
use serde::Serialize;
use std::fmt;

/// A decision with its reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What was decided, in one sentence.
    pub decision: String,
    /// When, on the calendar.
    pub at: UnixMillis,
    /// Everybody who was looked at, the best first where there is an order.
    pub candidates: Vec<Candidate>,
}

/// One server that was looked at for a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Which.
    pub server: ServerId,
    /// Its name.
    pub name: String,
    /// Whether it could be chosen.
    pub eligible: bool,
    /// What spoke for and against it.
    pub reasons: Vec<Reason>,
}

impl Candidate {
    /// A candidate that is eligible when every reason speaks for it.
    pub fn judged(server: ServerId, name: String, reasons: Vec<Reason>) -> Self {
        Self {
            server,
            name,
            eligible: reasons.iter().all(|reason| reason.pass),
            reasons,
        }
    }

    /// What speaks against it.
    pub fn objections(&self) -> impl Iterator<Item = &Reason> + '_ {
        self.reasons.iter().filter(|reason| !reason.pass)
    }
}

impl Explanation {
    /// The candidate of a server.
    pub fn of(&self, server: ServerId) -> Option<&Candidate> {
        self.candidates
            .iter()
            .find(|candidate| candidate.server == server)
    }
}

/// For people: the decision, then a line for each candidate.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.decision)?;
        for candidate in &self.candidates {
            let mark = if candidate.eligible { '+' } else { '-' };
            write!(f, "\n  {mark} {}", candidate.name)?;
            for reason in &candidate.reasons {
                let mark = if reason.pass { "ok" } else { "no" };
                write!(f, "\n      {mark} {}: {}", reason.rule, reason.detail)?;
            }
        }
        Ok(())
    }
}

/// A reason, for or against.
pub(crate) fn reason(rule: &str, pass: bool, detail: impl Into<String>) -> Reason {
    Reason {
        rule: rule.to_owned(),
        pass,
        detail: detail.into(),
    }
}
