//! Removing a server: consensus first, then the directory, so that it never counts as a stranger.

use crate::node::Node;
use crate::submit::SubmitError;
use model::{Author, Command, ResilienceMode, ServerId};
use policy::Plan;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wire::control::Request;

/// How long leaving consensus may take.
const LIMIT: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(20);

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
}
