//! The office of primary: saying that it was taken, and handing it over as planned.

use crate::clock;
use crate::node::Node;
use crate::submit::{Attempt, SubmitError};
use model::{Author, Change, ChangeId, Command, ServerId, UnixMillis};
use policy::campaign::Timeline;
use policy::{Explanation, Plan};
use std::time::Duration;
use wire::control::{Answer, Request};

/// How long a planned change of primary may take.
pub const TRANSFER_LIMIT: Duration = Duration::from_secs(2);
/// How long each backup may take to catch up before an orderly stop.
const HAND_OVER_LIMIT: Duration = Duration::from_millis(500);
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// An office that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Won {
    /// For which term.
    pub term: u64,
}

/// Why an office was not taken; it is tried again.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// It could not be said.
    Refused(SubmitError),
    /// It is not, or no longer, this server's; or it is not known whether it was said.
    Overtaken,
}

/// Says in the directory that this server is primary: the first change of a new primary.
pub(crate) async fn take(
    node: &Node,
    term: u64,
    timeline: Timeline,
    explanation: Explanation,
) -> Result<Won, NotTaken> {
    node.open_ticket_key();
    let (now, calendar) = (clock::steady(), clock::calendar());
    let stamp =
        |at: Duration| UnixMillis(calendar.0.saturating_sub(millis(now.saturating_sub(at))));
    let planned = timeline.was_handed_over();
    let outage = timeline
        .last_heard
        .map_or(Duration::ZERO, |heard| now.saturating_sub(heard));
    let named = [
        ("last-heard", timeline.last_heard),
        ("suspected", timeline.suspected),
        ("campaigned", timeline.campaigned),
        ("elected", timeline.elected),
        ("accepting", Some(now)),
    ];
    let steps = named
        .into_iter()
        .filter_map(|(name, at)| Some((name.to_owned(), stamp(at?))))
        .collect();
    let reasons = explanation
        .of(node.me())
        .map(|candidate| candidate.reasons.clone())
        .unwrap_or_default();
    let outage_ms = if planned { 0 } else { millis(outage) };
    let command = Command::TakePrimary {
        server: node.me(),
        planned,
        outage_ms,
        steps,
        reasons,
    };
    let id = crate::random::bytes().map_err(|error| NotTaken::Refused(error.into()))?;
    let id = ChangeId::from_bytes(id);
    let change = Change {
        id,
        at: calendar,
        author: node.author(),
        command,
    };
    match node.propose_here(change).await {
        Attempt::Settled(Ok(applied)) if applied.outcome.is_ok() => {
            node.decided(explanation);
            tracing::info!(term, planned, outage_ms, "this server is primary");
            Ok(Won { term })
        }
        Attempt::Settled(Err(error)) => Err(NotTaken::Refused(error)),
        _ => Err(NotTaken::Overtaken),
    }
}

impl Node {
    /// What promoting a server would do, and what would refuse it.
    pub fn promotion_plan(&self, server: ServerId) -> Plan {
        self.with_view(|view| policy::promotion::promotion(view, server))
    }

    /// Makes a server primary, from wherever it is asked.
    ///
    /// # Errors
    /// What refuses it, or that it did not come about.
    pub async fn promote(
        &self,
        server: ServerId,
        author: Author,
        reason: Option<String>,
    ) -> Result<(), SubmitError> {
        self.at_primary(
            Request::Promote {
                server,
                author: author.clone(),
                reason: reason.clone(),
            },
            || self.promote_here(server, author.clone(), reason.clone()),
        )
        .await?;
        self.wait_for_primary(server).await
    }

    /// Hands the office over to a server; this one must hold it.
    pub(crate) async fn promote_here(
        &self,
        server: ServerId,
        author: Author,
        reason: Option<String>,
    ) -> Result<(), SubmitError> {
        let plan = self.promotion_plan(server);
        if !plan.is_possible() {
            return Err(SubmitError::Unfit {
                decision: plan.refusals.join("; "),
                candidates: Vec::new(),
            });
        }
        // The original primary is the head of the list: whoever is promoted for good goes there.
        let mut backups = self.directory().group().backups.clone();
        let is_first = backups.first() == Some(&server);
        if !is_first {
            backups.retain(|backup| *backup != server);
            backups.insert(0, server);
        }
        tracing::info!(%server, reason, "the office of primary is handed over as asked");
        if !is_first || reason.is_some() {
            let command = Command::SetBackups { backups, reason };
            self.submit(None, author, command).await?;
        }
        self.replica()
            .transfer_to(server, TRANSFER_LIMIT)
            .await
            .map_err(|error| SubmitError::Unfit {
                decision: format!(
                    "{} did not become primary: {error}",
                    self.directory().name_of(server)
                ),
                candidates: Vec::new(),
            })
    }

    async fn wait_for_primary(&self, server: ServerId) -> Result<(), SubmitError> {
        let mut changed = self.directory_changed();
        let seen = async {
            while self.directory().group().primary != Some(server) {
                if changed.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(ASK_LIMIT, seen)
            .await
            .map_err(|_| SubmitError::NoPrimary {
                detail: "the new primary has not said so yet".to_owned(),
            })
    }

    /// Has the primary do something that is no single change.
    pub(crate) async fn at_primary<F>(
        &self,
        request: Request,
        here: impl Fn() -> F,
    ) -> Result<(), SubmitError>
    where
        F: Future<Output = Result<(), SubmitError>>,
    {
        match self.leader() {
            Some(leader) if leader == self.me() => here().await,
            Some(leader) => match self.call(leader, &request, ASK_LIMIT * 2).await {
                Ok(Answer::Done) => Ok(()),
                Ok(Answer::Failed(failure)) => Err(SubmitError::of_failure(failure, self)),
                Ok(_) => Err(SubmitError::Invalid {
                    why: "the primary's answer makes no sense".to_owned(),
                }),
                Err(_) => Err(SubmitError::OutcomeUnknown),
            },
            None => Err(SubmitError::NoPrimary {
                detail: self.missing(),
            }),
        }
    }
}

/// Before an orderly stop a primary hands its office to the first backup that can take it.
pub(crate) async fn leave(node: &Node) {
    if !node.acting() {
        return;
    }
    let directory = node.directory();
    for backup in directory
        .group()
        .backups
        .iter()
        .filter(|backup| **backup != node.me())
    {
        match node.replica().transfer_to(*backup, HAND_OVER_LIMIT).await {
            Ok(()) => {
                tracing::info!(
                    to = directory.name_of(*backup),
                    "the office of primary is handed over before stopping"
                );
                return;
            }
            Err(error) => {
                tracing::debug!(to = directory.name_of(*backup), %error, "a backup did not take the office");
            }
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
