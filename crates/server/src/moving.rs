//! Sessions that go on on another server: the primary places each, and proposes the change.

use crate::clock;
use crate::node::Node;
use crate::placing::{Question, new_session, unfit};
use crate::submit::{Attempt, SubmitError};
use model::change::Kind;
use model::{
    Applied, Author, Change, ChangeId, Command, Directory, Refusal, ServerId, Session, SessionId,
};
use std::sync::Arc;
use wire::control::Request;

/// A session that is to be moved.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    /// The idempotency key.
    pub(crate) id: ChangeId,
    /// Who asks.
    pub(crate) author: Author,
    /// Which session.
    pub(crate) session: SessionId,
    /// A server that was asked for by name; the best one where none was.
    pub(crate) to: Option<ServerId>,
    /// Who wants it, in words.
    pub(crate) by: String,
    /// Whether a server that is offline is not even the last resort: of a drain.
    pub(crate) online_only: bool,
}

impl Node {
    /// Has the primary move a session, wherever the primary is.
    ///
    /// # Errors
    /// What the directory refuses, that no other server is fit, or that there is no primary.
    pub(crate) async fn move_session(&self, wish: Move) -> Result<Applied, SubmitError> {
        let request = Request::MoveSession {
            id: wish.id,
            author: wish.author.clone(),
            session: wish.session,
            to: wish.to,
            by: wish.by.clone(),
        };
        let applied = self
            .carry(request, || self.move_session_here(&wish))
            .await?;
        self.settle(applied).await
    }

    /// Places and proposes a move; this server must act as primary.
    pub(crate) async fn move_session_here(&self, wish: &Move) -> Attempt {
        if !self.acting() {
            return Attempt::Again { unknown: false };
        }
        let directory = self.directory();
        let to = match self.place_elsewhere(&directory, wish) {
            Ok(to) => to,
            Err(error) => return Attempt::Settled(Err(error)),
        };
        let at = clock::calendar();
        let command = Command::MoveSession {
            session: wish.session,
            new: new_session(at),
            to,
            by: wish.by.clone(),
        };
        let change = Change {
            id: wish.id,
            at,
            author: wish.author.clone(),
            command,
        };
        self.propose_here(change).await
    }

    fn place_elsewhere(&self, directory: &Directory, wish: &Move) -> Result<ServerId, SubmitError> {
        let missing = |kind, name: String| SubmitError::Refused(Refusal::NotFound { kind, name });
        let session: &Arc<Session> = directory
            .session(wish.session)
            .ok_or_else(|| missing(Kind::Session, wish.session.to_string()))?;
        // The directory has words for these.
        if !session.is_live() || wish.to == Some(session.host) {
            return Ok(wish.to.unwrap_or(session.host));
        }
        let app = directory
            .app(&session.app)
            .ok_or_else(|| missing(Kind::Application, session.app.to_string()))?;
        let question = Question {
            app,
            user: Some(&session.user),
            asked: wish.to,
            leaving: Some(session),
            online_only: wish.online_only,
            client: session.client_address(),
        };
        self.place(directory, &question).map_err(unfit)
    }
}
