//! The seal key while it changes: every server that may lead fetches it from another, then it is in force with a ticket key of its own,
//! and the primary seals anew what the one before sealed.
//!
//! Always true: a key is on disk here before this server says that it has it, and nothing is sealed under one that members which may
//! lead and are reached do not have. What `policy::sealing` decides is done here; start at [`run`].

use crate::clock;
use crate::keys::{self, KeysError};
use crate::node::{Consistency, Node};
use crate::renewing;
use crate::submit::SubmitError;
use crate::trusting::TakingError;
use model::trust::{Resealed, Sealed};
use model::{Author, Command, Directory, SealChange, SealMark, ServerId};
use peer::seal::SealKey;
use policy::sealing::{self, Holder, Sight, Step};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use wire::credentials::{CredentialsAnswer, CredentialsRefusal, CredentialsRequest, SecretBytes};
use zeroize::Zeroizing;

const LOOK: Duration = Duration::from_millis(500);
/// The pause before a key is asked for again that nobody gave.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The most bytes of one change that seals values anew: well below the most that a change may have.
const AGAIN_BYTES: usize = 512 * 1024;

/// Headers of what does not open although its key is here: it is told once, and left as it is.
type Damaged = BTreeSet<Vec<u8>>;

/// Why a seal key is not here that should be.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no member gave it")]
    Asked(#[from] renewing::RenewalError),
    #[error("{server} answered something else")]
    Nonsense { server: String },
    #[error("it cannot be taken into use")]
    Taking(#[from] TakingError),
}

/// Keeps this server's seal keys in step as long as it runs, and has a change go on where it acts as primary.
pub(crate) async fn run(node: Node) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked: Option<Instant> = None;
    let mut damaged = Damaged::new();
    loop {
        tick.tick().await;
        if asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN)
            && let Some(mark) = node.lacking_seal_key().await
        {
            match node.fetch_seal_key(mark).await {
                Ok(()) => asked = None,
                Err(error) => {
                    asked = Some(Instant::now());
                    tracing::warn!(seal_key = %mark, error = &error as &dyn std::error::Error, "a seal key is not here yet");
                }
            }
        }
        if let Err(error) = node.go_on_with_seal(&mut damaged).await {
            tracing::debug!(%error, "the change of the seal key does not go on yet");
        }
    }
}

impl Node {
    /// The seal key in force, where this server has it.
    pub(crate) fn seal_key(&self) -> Option<SealKey> {
        let mark = self.directory().group().seal.mark;
        self.trust().seals.in_force(mark).cloned()
    }

    /// A key that this server should have and has not.
    async fn lacking_seal_key(&self) -> Option<SealMark> {
        let lacking = || {
            let directory = self.directory();
            let me = directory.server(self.me())?;
            let own = self.trust().seals.marks();
            let before = marks_before(&directory);
            let wanted = sealing::wanted(&directory.group().seal, &before, &own);
            wanted.first().copied().filter(|_| me.standing.may_lead())
        };
        lacking()?;
        // What was true a while ago may name keys that nobody has any more.
        self.leader()?;
        self.catch_up(Consistency::Linearizable).await.ok()?;
        lacking()
    }

    async fn fetch_seal_key(&self, mark: SealMark) -> Result<(), FetchError> {
        let read = |answer: &CredentialsAnswer| match answer {
            CredentialsAnswer::SealKey(bytes) => {
                let bytes: [u8; 32] = bytes.0.as_slice().try_into().ok()?;
                let key = SealKey::from_bytes(Zeroizing::new(bytes));
                (key.mark() == mark).then_some(key)
            }
            _ => None,
        };
        let request = CredentialsRequest::SealKey { mark };
        let fits = |answer: &_| read(answer).is_some();
        let (server, answer) = renewing::ask_others(self, &request, fits).await?;
        let key = read(&answer).ok_or(FetchError::Nonsense { server })?;
        self.keep_seal_key(key).await?;
        tracing::info!(seal_key = %mark, "this server has a seal key that the group uses");
        Ok(())
    }

    async fn keep_seal_key(&self, key: SealKey) -> Result<(), TakingError> {
        let directory = self.directory();
        let seal = &directory.group().seal;
        let other = seal.rotation.as_ref().map(|rotation| rotation.other);
        let mut needed: Vec<SealMark> = marks_before(&directory).into_iter().flatten().collect();
        needed.extend([Some(seal.mark), other].into_iter().flatten());
        self.take_seal_key(key, needed).await
    }

    /// Draws another seal key and introduces it.
    ///
    /// # Errors
    /// When this server does not have the one in force, one is being changed already, or the change is not accepted.
    pub async fn rotate_seal(
        &self,
        author: Author,
        reason: Option<String>,
        waits: bool,
    ) -> Result<(), SubmitError> {
        self.seal_key().ok_or(SubmitError::NoSealKey)?;
        let key = SealKey::make().map_err(|_| crate::random::NoRandomness)?;
        let next = key.mark();
        // On disk before anybody is told of it.
        let kept = self.keep_seal_key(key).await;
        kept.map_err(|error| SubmitError::Invalid {
            why: peer::InFull(&error).to_string(),
        })?;
        let change = SealChange::Begin {
            next,
            waits,
            reason,
        };
        self.change_seal(author, change).await
    }

    /// Puts the key in force that was introduced, whoever of those that may lead has not fetched it.
    ///
    /// # Errors
    /// When none was introduced, this server does not have it, or the change is not accepted.
    pub async fn force_seal(&self, author: Author) -> Result<(), SubmitError> {
        let left = self.seal_unconfirmed();
        self.seal_with_next(author, left).await
    }

    /// Members that may lead and do not have the key that was introduced.
    pub fn seal_unconfirmed(&self) -> Vec<ServerId> {
        let directory = self.directory();
        let Some(rotation) = &directory.group().seal.rotation else {
            return Vec::new();
        };
        let mark = match rotation.phase {
            model::SealPhase::Introduced => rotation.other,
            model::SealPhase::Sealing => directory.group().seal.mark,
        };
        let holders = self.seal_holders();
        sealing::unconfirmed(mark, &holders)
            .map(|holder| holder.server)
            .collect()
    }

    fn seal_holders(&self) -> Vec<Holder> {
        let (reports, hears) = (self.reports(), self.hears());
        let directory = self.directory();
        let able = directory
            .servers()
            .filter(|server| server.standing.may_lead());
        let holder = |server: ServerId| match server == self.me() {
            true => Holder {
                server,
                reachable: true,
                holds: self.trust().seals.marks(),
            },
            false => Holder {
                server,
                reachable: hears.contains(&server),
                holds: reports
                    .get(&server)
                    .map_or_else(Vec::new, |report| report.seals.clone()),
            },
        };
        able.map(|server| holder(server.id)).collect()
    }

    /// What the acting primary does by itself.
    async fn go_on_with_seal(&self, damaged: &mut Damaged) -> Result<(), SubmitError> {
        if !self.acting() {
            return Ok(());
        }
        let directory = self.directory();
        let group = directory.group();
        let before = directory.sealed_before();
        let whole = |sealed: &Sealed| !damaged.contains(sealed.header());
        let before: Vec<Option<SealMark>> = before
            .map(|(_, sealed)| sealed.mark().filter(|_| whole(sealed)))
            .collect();
        let exposed = group.succession.exposed.as_ref();
        let step = sealing::step(&Sight {
            seal: &group.seal,
            exposed,
            own: &self.trust().seals.marks(),
            holders: &self.seal_holders(),
            before: &before,
        });
        match step {
            None => Ok(()),
            Some(Step::Begin) => {
                let left = |exposed: &model::trust::Exposed| {
                    format!("{} was removed, which had it", exposed.by)
                };
                let rotation = group.seal.rotation.as_ref();
                let waits = rotation.is_none_or(|it| it.waits) && exposed.is_none();
                let why = match rotation {
                    Some(rotation) => rotation.reason.clone(),
                    None => exposed.map(left),
                };
                self.rotate_seal(self.author(), why, waits).await
            }
            Some(Step::Seal { left }) => self.seal_with_next(self.author(), left).await,
            Some(Step::Again) => self.seal_again(&directory, damaged).await,
            Some(Step::Finish { lost }) => {
                let change = SealChange::Finish {
                    before: group
                        .seal
                        .rotation
                        .as_ref()
                        .map(|it| it.other)
                        .unwrap_or_default(),
                    lost: u32::try_from(lost).unwrap_or(u32::MAX),
                };
                self.change_seal(self.author(), change).await
            }
        }
    }

    async fn seal_with_next(&self, author: Author, left: Vec<ServerId>) -> Result<(), SubmitError> {
        let directory = self.directory();
        let group = directory.group();
        let rotation = group.seal.rotation.as_ref();
        let rotation = rotation.filter(|it| it.phase == model::SealPhase::Introduced);
        let rotation = rotation.ok_or_else(|| SubmitError::Invalid {
            why: "no seal key is introduced that is not in force".to_owned(),
        })?;
        let key = self.trust().seals.get(rotation.other).cloned();
        let key = key.ok_or(SubmitError::NoSealKey)?;
        let tickets = keys::make_tickets(group.id, &key);
        let overlap = directory.settings().ticket_overlap();
        let change = SealChange::Seal {
            next: rotation.other,
            tickets: tickets.map_err(|error| SubmitError::Keys(Arc::new(error)))?,
            overlap_ms: u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX),
            unconfirmed: left,
        };
        self.change_seal(author, change).await
    }

    /// Seals as much as fits into one change.
    async fn seal_again(
        &self,
        directory: &Directory,
        damaged: &mut Damaged,
    ) -> Result<(), SubmitError> {
        let new = self.seal_key().ok_or(SubmitError::NoSealKey)?;
        let (seals, group) = (&self.trust().seals, directory.group().id);
        let (mut values, mut bytes) = (Vec::new(), 0);
        for (at, sealed) in directory.sealed_before() {
            let has = sealed.mark().is_some_and(|mark| seals.get(mark).is_some());
            if !has || damaged.contains(sealed.header()) {
                continue;
            }
            let again = match keys::sealed_again(group, seals, &new, (&at, sealed)) {
                Ok(again) => again,
                Err(KeysError::Seal(error)) => {
                    tracing::error!(?at, %error, "something in the directory does not open, and is left as it is");
                    damaged.insert(sealed.header().to_vec());
                    continue;
                }
                Err(error) => return Err(SubmitError::Keys(Arc::new(error))),
            };
            bytes += again.0.len();
            if values.len() == SealChange::AGAIN || (bytes > AGAIN_BYTES && !values.is_empty()) {
                break;
            }
            values.push(Resealed {
                before: sealed.header().to_vec(),
                sealed: again,
                at,
            });
        }
        if values.is_empty() {
            return Ok(());
        }
        self.change_seal(self.author(), SealChange::Again { values })
            .await
    }

    async fn change_seal(&self, author: Author, change: SealChange) -> Result<(), SubmitError> {
        let change = Box::new(change);
        let done = self.submit(None, author, Command::ChangeSeal { change });
        done.await.map(|_| ())
    }
}

/// Under which keys something is sealed that is not sealed under the one in force.
fn marks_before(directory: &Directory) -> Vec<Option<SealMark>> {
    let before = directory.sealed_before();
    before.map(|(_, sealed)| sealed.mark()).collect()
}

/// A seal key, for a member that may lead.
pub(crate) fn key_for(
    node: &Node,
    from: ServerId,
    mark: SealMark,
) -> Result<CredentialsAnswer, CredentialsRefusal> {
    let directory = node.directory();
    let server = directory.server(from).ok_or(CredentialsRefusal::Unknown)?;
    if !server.standing.may_lead() {
        return Err(CredentialsRefusal::MayNotLead);
    }
    let trust = node.trust();
    let key = trust.seals.get(mark);
    let key = key.ok_or(CredentialsRefusal::OtherSealKey)?;
    tracing::info!(to = %server.name, seal_key = %mark, at = %clock::calendar(), "a member is given a seal key");
    Ok(CredentialsAnswer::SealKey(SecretBytes(
        key.as_bytes().to_vec(),
    )))
}
