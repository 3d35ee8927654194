//! A server that stands alone becomes a member of another group while it runs: what `stead group add` asks of it.
//!
//! Always true: only an administrator of the server has it do so; a crash at any point leaves the server that stood alone or the
//! member, never a mixture, by the one rename in [`crate::reset`]; what refuses it changes nothing, here or there. Start at
//! [`Node::enter`].

use crate::addresses::identity_at;
use crate::clock;
use crate::found::VERSION;
use crate::joining::identity_of;
use crate::keys;
use crate::node::Node;
use crate::random::NoRandomness;
use crate::reset::{Begins, NewGroup, Progress, ResetError, put_on_disk};
use model::{
    EventKind, FEATURE_LEVEL, GroupName, IncarnationId, ServerId, ServerName, Severity, Standing,
};
use peer::InFull;
use peer::fingerprint::Fingerprint;
use peer::join::{Applicant, JoinError, Joined, join_running};
use peer::tls::TlsBasis;
use policy::adding;
use wire::join::{JoinCode, JoinRefusal};

/// What an administrator of this server wants it to do.
#[derive(Debug)]
pub(crate) struct Wish {
    /// The code for the other group.
    pub(crate) code: JoinCode,
    /// The name that it is to have there, if not the one that it has.
    pub(crate) name: Option<ServerName>,
    /// Whether what people made here may be lost.
    pub(crate) discard: bool,
    /// Who asked, in words.
    pub(crate) by: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entered {
    /// The name that the server has from now on.
    pub(crate) name: ServerName,
    /// Its id from now on.
    pub(crate) server: ServerId,
    /// The group that it is in from now on.
    pub(crate) group: GroupName,
    /// `sha256:HEX` of that group's authority.
    pub(crate) ca_fingerprint: String,
    /// What it is there.
    pub(crate) standing: Standing,
}

/// Why this server stays what it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnteringError {
    /// Something here speaks against it.
    #[error("{}", refusals.join("; "))]
    Refused {
        /// What, with what to do about it.
        refusals: Vec<String>,
    },
    /// Another request has begun something like it already.
    #[error("this server is being reset, or joins another group, already")]
    UnderWay,
    /// The other group refused, or was not reached.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The other group made it a member, and it cannot be stored here.
    #[error("the other group made this server a member, and that cannot be stored here")]
    Disk(#[source] Box<ResetError>),
    /// Randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

impl Node {
    /// What speaks against this server becoming a member of another group now.
    pub(crate) fn objections(&self, discard: bool) -> Vec<String> {
        adding::objections(&self.directory(), self.me(), self.acting(), discard)
    }

    /// Joins another group: once this returns, the next life of this server is there, and the life that answers ends.
    ///
    /// # Errors
    /// What refuses it, or what could not be made; this server is then as it was.
    pub(crate) async fn enter(&self, wish: Wish) -> Result<Entered, EnteringError> {
        let refusals = self.objections(wish.discard);
        if !refusals.is_empty() {
            return Err(EnteringError::Refused { refusals });
        }
        if !self.begin_anew(Progress::Entering) {
            return Err(EnteringError::UnderWay);
        }
        let node = self.clone();
        // Not called off half-way when whoever asked goes away: the other group may have made it a member already.
        let entering = tokio::spawn(async move {
            let undecided = Undecided(&node);
            let by = wish.by.clone();
            let entered = node.enter_now(wish).await;
            match &entered {
                Ok(done) => {
                    undecided.decide();
                    tracing::warn!(group = %done.group, ca = done.ca_fingerprint, by, "this server joins another group");
                }
                Err(error) => {
                    drop(undecided);
                    node.note_stay(&by, error);
                }
            }
            entered
        });
        entering
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    async fn enter_now(&self, wish: Wish) -> Result<Entered, EnteringError> {
        let (directory, old) = (self.directory(), &self.0.identity);
        let me = directory.server(self.me());
        let reached = me.map_or_else(|| old.clone(), |me| identity_at(old, me));
        let applicant = Applicant {
            // Another one than before: what was ever removed under the old id stays removed.
            server: keys::fresh(ServerId::from_bytes)?,
            incarnation: keys::fresh(IncarnationId::from_bytes)?,
            name: wish.name.unwrap_or_else(|| self.name().clone()),
            peer_address: reached.peer.advertise.clone(),
            client_address: reached.client.advertise.clone(),
            version: VERSION.to_owned(),
            feature_level: FEATURE_LEVEL,
            clock: clock::calendar(),
            standalone: directory.servers().count() == 1,
            live_sessions: u64::try_from(directory.live_sessions()).unwrap_or(u64::MAX),
        };
        // Its peer port is open and shows the certificate that it has.
        let shown = Fingerprint::of(&self.trust().peer.key.public_key());
        let still = || match self.objections(wish.discard) {
            none if none.is_empty() => Ok(()),
            some => Err(JoinRefusal::Invalid {
                why: some.join("; "),
            }),
        };
        let basis = TlsBasis::default();
        let joined = join_running(&wish.code, &applicant, shown, &still, &basis).await?;
        let Joined { grant, trust } = joined;
        let identity = identity_of(applicant, &grant, (reached.peer, reached.client));
        let entered = Entered {
            name: identity.name.clone(),
            server: identity.server,
            group: grant.group_name.clone(),
            ca_fingerprint: Fingerprint::from_bytes(wish.code.authority).to_string(),
            standing: grant.standing,
        };
        let new = NewGroup {
            identity,
            trust,
            begins: Begins::Empty(grant.formation.id),
        };
        let data = self.0.data.clone();
        tokio::task::spawn_blocking(move || put_on_disk(&data, &new))
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
            .map_err(|error| EnteringError::Disk(Box::new(error)))?;
        Ok(entered)
    }

    /// The journal says that somebody wanted this server elsewhere.
    fn note_stay(&self, by: &str, error: &EnteringError) {
        let fields = [
            ("by", by.to_owned()),
            ("why", InFull(error).to_string()),
            ("into", "another group".to_owned()),
        ];
        self.record(
            EventKind::JoinRefused,
            Severity::Warning,
            self.name().to_string(),
            fields.into_iter().collect(),
            Vec::new(),
        );
    }
}

/// Whatever becomes of it, this server does not stay in between.
struct Undecided<'a>(&'a Node);

impl Undecided<'_> {
    fn decide(self) {
        self.0.0.reset.send_replace(Progress::Decided);
        std::mem::forget(self);
    }
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        self.0.0.reset.send_replace(Progress::Nothing);
    }
}
