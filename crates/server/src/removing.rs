//! Removing a server: consensus first, then the directory, so that it never counts as a stranger.
//!
//! A server that leaves stands alone: its primary tells it beforehand who removes it and why, and once members refuse it, it forgets
//! the group as by `stead group reset`. Neither is enough by itself: what was begun may not come about, and what another formation
//! removed may be a member of the one that stands in the end.

use crate::api::author_in_words;
use crate::node::Node;
use crate::submit::SubmitError;
use model::{Author, Command, FormationId, ResilienceMode, ServerId};
use peer::InFull;
use peer::pool::Channel;
use policy::Plan;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use wire::control::Request;

/// How long leaving consensus may take.
const LIMIT: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(20);
/// How long the server that is removed may take to answer that it knows.
const TOLD: Duration = Duration::from_millis(500);
/// How long the word holds that this server is being removed: within this, members refuse it.
const WORD: Duration = Duration::from_mins(1);

impl Node {
    /// What removing a server would do, and what would refuse it.
    pub fn removal_plan(&self, server: ServerId, mode: Option<ResilienceMode>) -> Plan {
        self.with_view(|view| policy::removal::removal(view, server, mode))
    }

    /// Removes a server from the group, from wherever it is asked.
    ///
    /// # Errors
    /// What refuses it, or that it did not come about.
    pub async fn remove_server(
        &self,
        server: ServerId,
        author: Author,
        reason: Option<String>,
    ) -> Result<(), SubmitError> {
        let request = Request::RemoveServer {
            server,
            author: author.clone(),
            reason: reason.clone(),
        };
        self.at_primary(request, || {
            self.remove_here(server, author.clone(), reason.clone())
        })
        .await
    }

    /// The server that is being removed, if one is.
    pub(crate) fn leaving(&self) -> Option<ServerId> {
        *self
            .0
            .leaving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn set_leaving(&self, server: Option<ServerId>) {
        *self
            .0
            .leaving
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = server;
    }

    /// Removes a server; this one must be primary.
    pub(crate) async fn remove_here(
        &self,
        server: ServerId,
        author: Author,
        reason: Option<String>,
    ) -> Result<(), SubmitError> {
        let plan = self.removal_plan(server, None);
        if !plan.is_possible() {
            return Err(SubmitError::Unfit {
                decision: plan.refusals.join("; "),
                candidates: Vec::new(),
            });
        }
        if let Some(other) = self.leaving() {
            let decision = format!(
                "{} is still leaving: wait until it has finished",
                self.directory().name_of(other)
            );
            return Err(SubmitError::Unfit {
                decision,
                candidates: Vec::new(),
            });
        }
        self.set_leaving(Some(server));
        let name = self.directory().name_of(server);
        let leads = self.directory().server(server).map(|it| it.standing);
        self.tell_who_leaves(server, &author, reason.clone()).await;
        let removed = self
            .leave_consensus_then_directory(server, author, reason)
            .await;
        self.set_leaving(None);
        removed?;
        // It knows the secret. Its certificate is refused already, so a rotation that fails leaves nothing open.
        let why = format!("{name} was removed");
        // Until the authority has changed too, it could make itself a certificate of any member.
        let hurried = leads.is_some_and(|standing| standing.may_lead());
        if let Err(error) = self.rotate_secret(self.author(), Some(why), hurried).await {
            tracing::warn!(%error, "the group secret that a removed server knows is still in force; stead trust rotate-secret");
        }
        Ok(())
    }

    /// The loop takes it out of consensus, as it does with every difference; here that is waited for.
    async fn leave_consensus_then_directory(
        &self,
        server: ServerId,
        author: Author,
        reason: Option<String>,
    ) -> Result<(), SubmitError> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = self.replica().status();
            if !status.voters.contains(&server) && !status.learners.contains(&server) {
                break;
            }
            if Instant::now() >= deadline {
                let decision =
                    "it did not leave consensus in time: too few voters answer".to_owned();
                return Err(SubmitError::Unfit {
                    decision,
                    candidates: Vec::new(),
                });
            }
            sleep(LOOK).await;
        }
        self.submit(None, author, Command::RemoveServer { server, reason })
            .await
            .map(|_| ())
    }

    /// One that is not reached is told by whoever refuses it; then somebody says on it that it is to stand alone.
    async fn tell_who_leaves(&self, server: ServerId, author: &Author, reason: Option<String>) {
        let request = Request::StandAlone {
            formation: self.replica().formation(),
            by: author_in_words(author, &self.directory()),
            reason,
        };
        let request = wire::encode(&request).into();
        let pool = self.0.peers.pool();
        if let Err(error) = pool.ask(server, Channel::Control, request, TOLD).await {
            tracing::info!(%server, error = %InFull(&error), "the server that is removed was not told so beforehand");
        }
    }

    /// The primary says that it removes this server.
    ///
    /// # Errors
    /// It is not this server's primary who says so.
    pub(crate) fn leave_soon(
        &self,
        from: ServerId,
        formation: FormationId,
        by: String,
        reason: Option<String>,
    ) -> Result<(), SubmitError> {
        let replica = self.replica();
        if replica.formation() != formation || replica.status().leader != Some(from) {
            return Err(SubmitError::Invalid {
                why: "who says so is not this server's primary".to_owned(),
            });
        }
        let node = self.clone();
        tokio::spawn(async move {
            let removed = async {
                while !node.was_removed() {
                    sleep(LOOK).await;
                }
            };
            if timeout(WORD, removed).await.is_err() {
                return;
            }
            if node.replica().formation() != formation {
                tracing::warn!("this server was removed, and is in another formation by now");
                return;
            }
            if let Err(error) = node.reset(by, reason).await {
                let error = InFull(&error);
                tracing::error!(%error, "this server was removed and cannot stand alone by itself; stead group reset");
            }
        });
        Ok(())
    }
}
