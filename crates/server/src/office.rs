//! The office of primary: saying that it was taken, and handing it over as planned.

use crate::clock;
use crate::node::Node;
use crate::submit::{AskError, Attempt, SubmitError};
use model::{Author, BackupEdit, Change, ChangeId, Command, ResilienceMode, ServerId, UnixMillis};
use policy::Plan;
use policy::campaign::Timeline;
use policy::office::Taking;
use std::sync::PoisonError;
use std::time::Duration;
use wire::control::{Answer, Request};

/// How long a planned change of primary may take.
pub const TRANSFER_LIMIT: Duration = Duration::from_secs(2);
/// How long each backup may take to catch up before an orderly stop.
const HAND_OVER_LIMIT: Duration = Duration::from_millis(500);
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// An offer of the office that is older than this when the server begins to lead was another one.
const OFFER_LIMIT: Duration = Duration::from_secs(1);

/// A change of primary that somebody asked for.
#[derive(Debug, Clone)]
pub struct Promotion {
    /// Who is to be primary.
    pub server: ServerId,
    /// Who asked.
    pub author: Author,
    /// Why, in words.
    pub reason: Option<String>,
    /// Whether the original primary stays the original one, and takes over again by itself.
    pub temporary: bool,
}

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
pub(crate) async fn take(node: &Node, taking: Taking) -> Result<Won, NotTaken> {
    let Taking {
        term,
        timeline,
        explanation,
    } = taking;
    node.open_ticket_key();
    let (now, calendar) = (clock::steady(), clock::calendar());
    let stamp =
        |at: Duration| UnixMillis(calendar.0.saturating_sub(millis(now.saturating_sub(at))));
    let planned = timeline.was_handed_over();
    let offered = planned.then(|| offered(node, &timeline, now)).flatten();
    let outage = offered
        .or(timeline.last_heard)
        .map_or(Duration::ZERO, |heard| now.saturating_sub(heard));
    let named = [
        ("last-heard", timeline.last_heard),
        ("offered", offered),
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
    let outage_ms = millis(outage);
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

/// When this server was offered the office that it takes; none where the only vote was passed on to it and it led before it
/// was asked to.
fn offered(node: &Node, timeline: &Timeline, now: Duration) -> Option<Duration> {
    let offered = now.saturating_sub(node.replica().last_offer()?.ago());
    let before = timeline.elected?.saturating_sub(OFFER_LIMIT);
    (before <= offered && offered <= now).then_some(offered)
}

impl Node {
    /// What promoting a server would do, and what would refuse it.
    pub fn promotion_plan(&self, server: ServerId, temporary: bool) -> Plan {
        self.with_view(|view| match temporary {
            true => policy::promotion::temporary_promotion(view, server),
            false => policy::promotion::promotion(view, server),
        })
    }

    /// What a change of the list of backup primaries would do, and what would refuse it.
    pub fn backups_plan(&self, edit: BackupEdit) -> Plan {
        self.with_view(|view| policy::backups::edit(view, edit))
    }

    /// Makes a server primary, from wherever it is asked. Without a primary the server is told to campaign at once.
    ///
    /// # Errors
    /// What refuses it, or that it did not come about.
    pub async fn promote(&self, wish: Promotion) -> Result<(), SubmitError> {
        let Promotion { server, .. } = wish;
        let request = Request::Promote {
            server,
            author: wish.author.clone(),
            reason: wish.reason.clone(),
            temporary: wish.temporary,
        };
        match self.leader() {
            Some(_) => {
                self.at_primary(request, || self.promote_here(&wish))
                    .await?;
                self.wait_for_primary(server).await
            }
            None => {
                self.check_promotion(server)?;
                if server == self.me() {
                    self.order_campaign();
                } else {
                    let answer = self.call(server, &request, ASK_LIMIT).await;
                    done(self, answer)?;
                }
                self.wait_for_primary(server).await?;
                self.make_original(&wish).await
            }
        }
    }

    fn check_promotion(&self, server: ServerId) -> Result<(), SubmitError> {
        let plan = self.promotion_plan(server, false);
        if plan.is_possible() {
            return Ok(());
        }
        Err(SubmitError::Unfit {
            decision: plan.refusals.join("; "),
            candidates: Vec::new(),
        })
    }

    /// Hands the office over to a server. Who holds it does; where nobody does, the server itself campaigns.
    pub(crate) async fn promote_here(&self, wish: &Promotion) -> Result<(), SubmitError> {
        let server = wish.server;
        self.check_promotion(server)?;
        if self.leader().is_none() && server == self.me() {
            self.order_campaign();
            return Ok(());
        }
        tracing::info!(%server, reason = wish.reason, temporary = wish.temporary, "the office of primary is handed over as asked");
        self.make_original(wish).await?;
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

    /// The original primary is the head of the list: whoever is promoted for good goes there.
    async fn make_original(&self, wish: &Promotion) -> Result<(), SubmitError> {
        let before = self.directory().group().backups.clone();
        let backups = match wish.temporary {
            true => before.clone(),
            false => policy::promotion::backups_after(&before, wish.server),
        };
        if backups == before && wish.reason.is_none() {
            return Ok(());
        }
        let (reason, author) = (wish.reason.clone(), wish.author.clone());
        let command = Command::SetBackups { backups, reason };
        self.submit(None, author, command).await.map(|_| ())
    }

    /// Has this server campaign at once, whatever its rank.
    fn order_campaign(&self) {
        let until = clock::steady() + ASK_LIMIT;
        *self
            .0
            .ordered
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(until);
        // Where the primary alone counts, there is nobody to elect another: this server goes on alone.
        if self.directory().group().mode == ResilienceMode::Availability {
            self.0.formations.order(until);
        }
    }

    /// Until when this server was told to campaign, if it was since the last look.
    pub(crate) fn take_order(&self) -> Option<Duration> {
        let mut ordered = self.0.ordered.lock();
        let ordered = ordered.as_deref_mut().ok()?;
        ordered.take()
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
            Some(leader) => done(self, self.call(leader, &request, ASK_LIMIT * 2).await),
            None => Err(SubmitError::NoPrimary {
                detail: self.missing(),
            }),
        }
    }
}

/// What a member answered to a request that it can only do or refuse.
fn done(node: &Node, answer: Result<Answer, AskError>) -> Result<(), SubmitError> {
    match answer {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Failed(failure)) => Err(SubmitError::of_failure(failure, node)),
        Ok(_) => Err(SubmitError::Invalid {
            why: "the member's answer makes no sense".to_owned(),
        }),
        Err(_) => Err(SubmitError::OutcomeUnknown),
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
