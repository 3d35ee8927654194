//! The way of a gateway's client: from what it claims to a session, from there to its backend, on this server or another.
//!
//! While the host of its session is being lost, or changes are not accepted, a client waits for [`PATIENCE`] at most: ordinary
//! clients give up when they are sent away.

use crate::clock;
use crate::node::Node;
use crate::placing::{Whose, Wish};
use crate::random;
use crate::streams::StreamError;
use crate::submit::SubmitError;
use model::{ChangeId, Gateway, Outcome, ServerId, SessionId};
use relay::Pending;
use relay::gateway::{Claim, Far, Hosts, NoWay, Passing, Way};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long a way is looked for.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pause before it is tried again, unless the directory changes before.
const PAUSE: Duration = Duration::from_millis(250);

/// Leads the clients of one gateway.
pub(super) struct Guide<'a> {
    pub(super) node: &'a Node,
    pub(super) gateway: &'a Gateway,
}

/// Why there is no way now.
enum Obstacle {
    /// There will be none.
    ForGood(String),
    /// It may be another thing in a moment.
    ForNow(String),
}

impl Hosts for Guide<'_> {
    fn way(&self, claim: &Claim) -> Pending<'_, Result<Way, NoWay>> {
        let claim = claim.clone();
        Box::pin(async move { self.find(&claim).await })
    }
}

impl Guide<'_> {
    async fn find(&self, claim: &Claim) -> Result<Way, NoWay> {
        let deadline = Instant::now() + PATIENCE;
        let mut changed = self.node.directory_changed();
        loop {
            changed.borrow_and_update();
            let why = match self.try_once(claim).await {
                Ok(way) => return Ok(way),
                Err(Obstacle::ForGood(why)) => return Err(NoWay { why }),
                Err(Obstacle::ForNow(why)) => why,
            };
            let again = Instant::now() + PAUSE;
            if again >= deadline {
                return Err(NoWay { why });
            }
            // Whatever wakes it, it tries again.
            let _ = timeout_at(again, changed.changed()).await;
        }
    }

    async fn try_once(&self, claim: &Claim) -> Result<Way, Obstacle> {
        let (session, host) = self.session(claim).await?;
        let way = match host == self.node.me() {
            true => self.here(session, claim).await,
            false => self.there(session, host, claim).await,
        };
        way.map_err(|error| Obstacle::ForNow(error.to_string()))
    }

    /// The session of the token that is claimed; made where there is none.
    async fn session(&self, claim: &Claim) -> Result<(SessionId, ServerId), Obstacle> {
        let directory = self.node.directory();
        let claimed = directory.claimed(&claim.token);
        let (token, _) = claimed.map_err(|refusal| Obstacle::ForGood(refusal.to_string()))?;
        let current = directory.current_session(&token, &self.gateway.app);
        if let Some(current) = current.filter(|session| session.is_reachable()) {
            return Ok((current.id, current.host));
        }
        let pace = &self.node.0.gateways.pace;
        sleep(pace.wait(claim.client.ip(), clock::steady())).await;
        let wish = Wish {
            id: ChangeId::from_bytes(random::chance()),
            author: self.node.author(),
            token,
            whose: Whose::Claimed,
            app: self.gateway.app.clone(),
            host: None,
            client: Some(claim.client.ip()),
        };
        let applied = self.node.open_session(wish).await;
        match applied.map(|applied| applied.outcome) {
            Ok(Ok(Outcome::Session { session, host, .. })) => Ok((session, host)),
            Ok(Ok(other)) => Err(Obstacle::ForGood(format!("{other:?} is no session"))),
            Ok(Err(refusal)) | Err(SubmitError::Refused(refusal)) => {
                Err(Obstacle::ForGood(refusal.to_string()))
            }
            Err(error) => Err(Obstacle::ForNow(error.to_string())),
        }
    }

    async fn here(&self, session: SessionId, claim: &Claim) -> Result<Way, StreamError> {
        let node = self.node;
        let (far, visit) = node
            .local_backend(session, claim.client, claim.reached)
            .await?;
        let directory = node.directory();
        let visitors = &node.0.gateways.visitors;
        let (over, visitor) = visitors.enter(session, node.me(), &directory, node.me());
        Ok(Way {
            far: Far::Here(far),
            over,
            passing: visit.passing(),
            held: Box::new((visit, visitor)),
        })
    }

    async fn there(
        &self,
        session: SessionId,
        host: ServerId,
        claim: &Claim,
    ) -> Result<Way, StreamError> {
        let node = self.node;
        let directory = node.directory();
        let server = directory.server(host).ok_or(StreamError::NotHere)?;
        let far = node
            .remote_backend(server, session, claim.client, claim.reached)
            .await?;
        let visitors = &node.0.gateways.visitors;
        let (over, visitor) = visitors.enter(session, host, &node.directory(), node.me());
        Ok(Way {
            far: Far::There(Box::new(far)),
            over,
            // The host counts what passes there.
            passing: Passing::default(),
            held: Box::new(visitor),
        })
    }
}
