//! What this server sees of the others, and how fresh its own directory is.

use super::{Node, millis};
use crate::clock;
use crate::submit::SubmitError;
use model::{ChangeName, FormationId, ServerId, Side};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::control::{Answer, Report, Request, View};

/// What is known of another server by having heard it, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// How long ago it was last heard, in milliseconds; never when absent.
    pub last_seen_ms: Option<u64>,
    /// Whether it was heard within the grace period.
    pub reachable: bool,
    /// How far its clock was ahead of this server's in its last report.
    pub clock_offset_ms: Option<i64>,
    /// How many changes it is behind, as far as is known.
    pub lag_changes: Option<u64>,
    /// The formation that it says it is in, where that is another one.
    pub elsewhere: Option<FormationId>,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// What this server has.
    Local,
    /// Everything that was acknowledged before the read began.
    Linearizable,
    /// At least this change.
    Change(ChangeName),
}

impl Node {
    /// What is known of every other member.
    pub fn heard(&self) -> BTreeMap<ServerId, Heard> {
        let directory = self.directory();
        let grace = directory.settings().grace_period();
        let newest = directory.group().number;
        let own = directory.group().formation.this.id;
        let (reports, sides) = (self.0.reports.all(), self.sides());
        let (calendar, now) = (clock::calendar(), clock::steady());
        let others = directory.servers().filter(|server| server.id != self.me());
        others
            .map(|server| {
                let silent = self.0.peers.silent_for(server.id);
                let report = reports.get(&server.id);
                let its = sides.get(&server.id).and_then(Side::formation);
                let elsewhere = its.map(|its| its.id).filter(|its| *its != own);
                let heard = Heard {
                    last_seen_ms: silent.map(millis),
                    reachable: silent.is_some_and(|silent| silent <= grace),
                    clock_offset_ms: report.and_then(|known| known.ahead_ms(calendar, now)),
                    lag_changes: report
                        .filter(|_| elsewhere.is_none())
                        .map(|known| newest.saturating_sub(known.report.applied.number)),
                    elsewhere,
                };
                (server.id, heard)
            })
            .collect()
    }

    /// The last known report of each server.
    pub fn reports(&self) -> BTreeMap<ServerId, Report> {
        self.0
            .reports
            .all()
            .into_iter()
            .map(|(server, known)| (server, known.report.clone()))
            .collect()
    }

    /// How each member sees the group, asked now.
    pub async fn views(&self, limit: Duration) -> Vec<(ServerId, Result<View, String>)> {
        let directory = self.directory();
        let asked = directory.servers().map(|server| async {
            let id = server.id;
            if id == self.me() {
                return (id, Ok(self.view()));
            }
            let view = match self.call(id, &Request::View, limit).await {
                Ok(Answer::View(view)) => Ok(*view),
                Ok(_) => Err("its answer makes no sense".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            (id, view)
        });
        futures_util::future::join_all(asked).await
    }

    /// How this server sees the group.
    pub fn view(&self) -> View {
        let directory = self.directory();
        let status = self.0.replica.status();
        View {
            server: self.me(),
            formation: directory.group().formation.this,
            leader: self.leader(),
            term: status.term,
            acting: self.acting(),
            voters: status.voters.iter().copied().collect(),
            applied: directory.newest(),
            hears: self.hears(),
            clock: clock::calendar(),
        }
    }

    /// Members that were heard within the grace period.
    pub(crate) fn hears(&self) -> Vec<ServerId> {
        self.heard()
            .into_iter()
            .filter(|(_, heard)| heard.reachable)
            .map(|(server, _)| server)
            .collect()
    }

    /// Whether a server is this one, or was heard within the grace period.
    pub(crate) fn is_heard(&self, server: ServerId) -> bool {
        let grace = self.directory().settings().grace_period();
        let silent = || self.0.peers.silent_for(server);
        server == self.me() || silent().is_some_and(|silent| silent <= grace)
    }

    /// Waits until what this server has is fresh enough; gives how old it may be, in milliseconds.
    ///
    /// # Errors
    /// When nobody can tell, or this server does not get there in time.
    pub async fn catch_up(&self, consistency: Consistency) -> Result<u64, SubmitError> {
        let name = match consistency {
            Consistency::Local => return Ok(self.age_ms()),
            Consistency::Change(name) => name,
            Consistency::Linearizable => self.read_index().await?,
        };
        if self.0.replica.wait_for(name, crate::submit::LIMIT).await {
            Ok(0)
        } else {
            Err(SubmitError::Behind { name })
        }
    }

    async fn read_index(&self) -> Result<ChangeName, SubmitError> {
        let no_primary = || SubmitError::NoPrimary {
            detail: self.missing(),
        };
        match self.leader() {
            Some(leader) if leader == self.me() => self
                .0
                .replica
                .read_index(crate::submit::LIMIT)
                .await
                .map_err(|_| no_primary()),
            Some(leader) => match self
                .call(leader, &Request::ReadIndex, crate::submit::LIMIT)
                .await
            {
                Ok(Answer::ReadIndex(name)) => Ok(name),
                _ => Err(no_primary()),
            },
            None => Err(no_primary()),
        }
    }
}
