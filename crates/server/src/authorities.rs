//! The group's authority while it rotates: every server accepts what the directory names, shows certificates of the one in force,
//! and says so; the primary goes on to the next phase when `policy::rotation` says so.
//!
//! Always true: what this server accepts is on disk before it is said to be accepted, and follows a directory that is as new as the
//! leader's. A server that was away longer than an authority was accepted is told so, and fetches what is accepted now.

use crate::clock;
use crate::keys;
use crate::node::{Consistency, Node};
use crate::renewing;
use crate::submit::SubmitError;
use crate::trusting::TakingError;
use model::record::Group;
use model::trust::OtherAuthority;
use model::{
    Author, AuthorityChange, AuthorityMark, Command, RotationPhase, SealMark, ServerId, Succession,
};
use peer::authority::Authority;
use peer::identity::{CertificateFacts, authority_mark};
use peer::trust_store::Trust;
use policy::rotation::{self, Member, Pair};
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use wire::credentials::{CredentialsAnswer, CredentialsRequest};

const LOOK: Duration = Duration::from_millis(500);

/// Why what is accepted elsewhere is not accepted here.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("no member said which authorities are accepted")]
    Asked(#[from] renewing::RenewalError),
    #[error("{server} answered something else")]
    Nonsense { server: String },
    #[error("they cannot be taken into use")]
    Taking(#[from] TakingError),
}

/// The authorities that a server is to accept and to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Those that are accepted, the one in force first.
    pub(crate) accepted: Vec<CertificateDer<'static>>,
    /// Those of before.
    pub(crate) former: Vec<CertificateDer<'static>>,
    /// What leads from those of before to the one in force, and what clients of before know it by.
    pub(crate) links: Vec<CertificateDer<'static>>,
}

impl Accepted {
    /// As the directory has it; nothing where it names no authority.
    fn of(group: &Group) -> Option<Self> {
        let certificate = |der: &[u8]| CertificateDer::from(der.to_vec());
        if group.authority.certificate.is_empty() {
            return None;
        }
        let Succession {
            rotation, former, ..
        } = &*group.succession;
        let mut accepted = vec![certificate(&group.authority.certificate)];
        let mut links = Vec::new();
        if let Some(rotation) = rotation {
            let other = certificate(&rotation.other.certificate);
            match rotation.phase {
                RotationPhase::Pinned => links.push(other),
                _ => accepted.push(other),
            }
            // Before the next one issues anything, nothing of its has to be trusted for another's sake.
            if rotation.phase != RotationPhase::Introduced {
                links.push(certificate(&rotation.bridge));
            }
        }
        let bridges = former.iter().filter(|former| !former.bridge.is_empty());
        links.extend(bridges.map(|former| certificate(&former.bridge)));
        let mut unique: Vec<CertificateDer<'static>> = Vec::new();
        for link in links {
            if !unique.contains(&link) {
                unique.push(link);
            }
        }
        let former = former.iter().map(|former| certificate(&former.certificate));
        Some(Self {
            former: former.filter(|it| !accepted.contains(it)).collect(),
            accepted,
            links: unique,
        })
    }

    fn held(trust: &Trust) -> Self {
        Self {
            accepted: trust.authorities.clone(),
            former: trust.former.clone(),
            links: trust.links.clone(),
        }
    }
}

/// Keeps what this server accepts in step as long as it runs, and has a rotation go on where it acts as primary.
pub(crate) async fn run(node: Node) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = node.follow_authorities().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the authorities that the group accepts are not accepted here yet"
            );
        }
        node.go_on_with_authority().await;
    }
}

impl Node {
    async fn follow_authorities(&self) -> Result<(), FollowError> {
        let differs = || {
            let named = Accepted::of(self.directory().group())?;
            (named != Accepted::held(&self.trust())).then_some(named)
        };
        let named = match (self.leader(), differs()) {
            // What was true a while ago would undo what has come since.
            (Some(_), Some(_)) if self.catch_up(Consistency::Linearizable).await.is_ok() => {
                differs()
            }
            _ => None,
        };
        let named = match named {
            Some(named) => named,
            None if self.0.peers.take_former_authority() => self.fetch_authorities().await?,
            None => return Ok(()),
        };
        let first = named.accepted.first().map(|der| authority_mark(der));
        let Accepted {
            accepted,
            former,
            links,
        } = named;
        let count = accepted.len();
        self.take_authorities(accepted, former, links).await?;
        tracing::info!(authority = %first.unwrap_or_default(), count, "this server accepts the authorities that the group does");
        Ok(())
    }

    async fn fetch_authorities(&self) -> Result<Accepted, FollowError> {
        let own = self.authority_shown();
        let read = |answer: &CredentialsAnswer| match answer {
            CredentialsAnswer::Authorities {
                accepted,
                former,
                links,
            } => {
                let certificates = |ders: &[Vec<u8>]| {
                    let certificates = ders.iter().map(|der| CertificateDer::from(der.clone()));
                    certificates.collect()
                };
                Some(Accepted {
                    accepted: certificates(accepted),
                    former: certificates(former),
                    links: certificates(links),
                })
            }
            _ => None,
        };
        // Whoever was away too has nothing else to say.
        let fits = |answer: &_| {
            let first = read(answer).and_then(|it: Accepted| Some(it.accepted.first()?.clone()));
            first.is_some_and(|first| authority_mark(&first) != own)
        };
        let (server, answer) =
            renewing::ask_others(self, &CredentialsRequest::Authorities, fits).await?;
        read(&answer).ok_or(FollowError::Nonsense { server })
    }

    /// The authorities that this server accepts.
    pub(crate) fn authorities_accepted(&self) -> Vec<AuthorityMark> {
        let trust = self.trust();
        let marks = trust.authorities.iter().map(|der| authority_mark(der));
        marks.collect()
    }

    /// The authority that issued both certificates of this server.
    pub(crate) fn authority_shown(&self) -> AuthorityMark {
        let trust = self.trust();
        let shown = [&trust.peer, &trust.client]
            .map(|credential| CertificateFacts::read(&credential.certificate));
        let mut known = trust.authorities.iter().chain(&trust.former);
        let issuer = known.find(|authority| {
            let names = |facts: &Result<CertificateFacts, _>| {
                facts
                    .as_ref()
                    .is_ok_and(|facts| facts.names_issuer(authority))
            };
            shown.iter().all(names)
        });
        issuer.map_or_else(AuthorityMark::default, |der| authority_mark(der))
    }

    /// Introduces another authority: members accept it besides the present one, then it issues, then the one before is not accepted any more.
    ///
    /// # Errors
    /// When this server holds no seal key, one rotates already, or the change is not accepted.
    pub async fn rotate_authority(
        &self,
        author: Author,
        reason: Option<String>,
        clients: Option<Duration>,
        waits: bool,
    ) -> Result<(), SubmitError> {
        let seal = self.seal_key().ok_or(SubmitError::NoSealKey)?;
        let directory = self.directory();
        let (group, now) = (directory.group().id, clock::calendar());
        let clients = clients.unwrap_or(directory.settings().client_overlap());
        let made = keys::open_authority(&directory, &self.trust().seals).and_then(|present| {
            let next = Authority::make(group, now)?;
            let bridge = present.bridge_to(&next, now)?;
            Ok(AuthorityChange::Begin {
                next: OtherAuthority {
                    certificate: next.certificate().to_vec(),
                    fingerprint: next.fingerprint().to_string(),
                    key: keys::seal_authority(group, &seal, &next)?,
                    expires: next.expires(),
                },
                bridge: bridge.to_vec(),
                clients_ms: u64::try_from(clients.as_millis()).unwrap_or(u64::MAX),
                waits,
                reason,
            })
        });
        let change = made.map_err(|error| SubmitError::Keys(Arc::new(error)))?;
        self.change_authority(author, change).await
    }

    /// Ends the phase that is under way, whoever has not confirmed it.
    ///
    /// # Errors
    /// When nothing rotates, or the change is not accepted.
    pub async fn force_authority(&self, author: Author) -> Result<(), SubmitError> {
        let directory = self.directory();
        let rotation = directory.group().succession.rotation.as_ref();
        let rotation = rotation.ok_or_else(|| SubmitError::Invalid {
            why: "the group's authority does not rotate".to_owned(),
        })?;
        let change = AuthorityChange::Advance {
            other: rotation.other.fingerprint.clone(),
            phase: rotation.phase,
            unconfirmed: self.authority_unconfirmed(),
        };
        self.change_authority(author, change).await
    }

    /// Takes the rotation back, while the authority of before is still accepted.
    ///
    /// # Errors
    /// When nothing rotates or it is too late, or the change is not accepted.
    pub async fn withdraw_authority(
        &self,
        author: Author,
        reason: Option<String>,
    ) -> Result<(), SubmitError> {
        let change = AuthorityChange::Withdraw { reason };
        self.change_authority(author, change).await
    }

    async fn change_authority(
        &self,
        author: Author,
        change: AuthorityChange,
    ) -> Result<(), SubmitError> {
        let change = Box::new(change);
        let command = Command::ChangeAuthority { change };
        self.submit(None, author, command).await.map(|_| ())
    }

    /// Members that have not confirmed the phase that is under way.
    pub fn authority_unconfirmed(&self) -> Vec<ServerId> {
        let directory = self.directory();
        let Some(rotation) = &directory.group().succession.rotation else {
            return Vec::new();
        };
        let members = self.authority_members();
        rotation::unconfirmed(rotation.phase, pair(directory.group(), rotation), &members)
            .map(|member| member.server)
            .collect()
    }

    fn authority_members(&self) -> Vec<Member> {
        let (reports, hears) = (self.reports(), self.hears());
        let member = |server: ServerId| match reports.get(&server) {
            _ if server == self.me() => Member {
                server,
                reachable: true,
                accepts: self.authorities_accepted(),
                shows: Some(self.authority_shown()),
            },
            report => Member {
                server,
                reachable: hears.contains(&server),
                accepts: report.map(|it| it.accepts.clone()).unwrap_or_default(),
                shows: report.map(|it| it.shows),
            },
        };
        let directory = self.directory();
        directory.servers().map(|it| member(it.id)).collect()
    }

    /// What the acting primary does by itself: it has the rotation go on, and begins one where a server left that knows the key.
    async fn go_on_with_authority(&self) {
        if !self.acting() {
            return;
        }
        let directory = self.directory();
        let succession = Arc::clone(&directory.group().succession);
        let done = match (&succession.rotation, &succession.exposed) {
            (Some(rotation), _) => {
                let pair = pair(directory.group(), rotation);
                let members = self.authority_members();
                let Some(left) = rotation::goes_on(rotation, pair, &members, self.now()) else {
                    return;
                };
                let change = AuthorityChange::Advance {
                    other: rotation.other.fingerprint.clone(),
                    phase: rotation.phase,
                    unconfirmed: left,
                };
                self.change_authority(self.author(), change).await
            }
            // What he left with would open its key too.
            (None, Some(exposed))
                if exposed.seal == directory.group().seal.mark
                    && exposed.seal != SealMark::default() =>
            {
                return;
            }
            (None, Some(exposed)) => {
                let why = format!("{} was removed, which could open its key", exposed.by);
                self.rotate_authority(self.author(), Some(why), None, false)
                    .await
            }
            (None, None) => return,
        };
        if let Err(error) = done {
            tracing::debug!(%error, "the rotation of the group's authority does not go on yet");
        }
    }
}

fn pair(group: &Group, rotation: &model::trust::AuthorityRotation) -> Pair {
    Pair {
        force: authority_mark(&group.authority.certificate),
        other: authority_mark(&rotation.other.certificate),
    }
}
