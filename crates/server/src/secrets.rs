//! The group secret while it rotates: every server takes the one that the directory names, keeps accepting the one before until
//! all have, and fetches the current one where it was away meanwhile.
//!
//! Always true: no server stops accepting a secret before the directory says that all members, or an administrator, can do
//! without it. Start at [`run`]; [`Node::rotate_secret`] begins.

use crate::clock;
use crate::keys;
use crate::node::Node;
use crate::renewing;
use crate::submit::SubmitError;
use crate::trusting::TakingError;
use model::{Author, Command, Directory, SecretChange, SecretMark, ServerId};
use peer::secret::Secret;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use wire::credentials::{CredentialsAnswer, CredentialsRequest};
use zeroize::Zeroizing;

const LOOK: Duration = Duration::from_millis(500);

/// Why the secret in force is not in use here.
#[derive(Debug, thiserror::Error)]
enum SecretError {
    #[error(transparent)]
    Keys(#[from] keys::KeysError),
    #[error("no member gave it")]
    Asked(#[from] renewing::RenewalError),
    #[error("{server} answered something else")]
    Nonsense { server: String },
    #[error("it cannot be taken into use")]
    Taking(#[from] TakingError),
}

/// What is to be done about the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is taken from the directory, or fetched where this server cannot open it there.
    Take,
    /// It is fetched: what the directory here says is older than what others have.
    Fetch,
    /// The one before is not accepted any more.
    Settle,
}

/// What this server knows of the secret.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The one that it proves.
    own: SecretMark,
    /// Whether it accepts the one before.
    accepts_before: bool,
    /// The one that the directory names, and whether it rotates.
    named: SecretMark,
    rotating: bool,
    /// Whether what the directory says is what the group knows: the leader is heard.
    current: bool,
    /// Whether a member refused the one that this server proves, as one of before.
    told_old: bool,
}

fn step(known: Known) -> Option<Step> {
    let named = known.named != SecretMark::default();
    if known.current && named && known.named != known.own {
        Some(Step::Take)
    } else if known.told_old {
        Some(Step::Fetch)
    } else if known.current && named && known.accepts_before && !known.rotating {
        Some(Step::Settle)
    } else {
        None
    }
}

/// Keeps this server's secret in step as long as it runs, and finishes a rotation where it acts as primary.
pub(crate) async fn run(node: Node) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Some(step) = node.secret_step()
            && let Err(error) = node.follow_secret(step).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the group secret that is in force is not in use here yet"
            );
        }
        node.finish_secret().await;
    }
}

impl Node {
    fn secret_step(&self) -> Option<Step> {
        let trust = self.trust();
        let directory = self.directory();
        let secret = &directory.group().secret;
        step(Known {
            own: trust.secrets.current.mark(),
            accepts_before: trust.secrets.previous.is_some(),
            named: secret.mark,
            rotating: secret.rotating,
            current: self.leader().is_some(),
            told_old: self.0.peers.take_old_secret(),
        })
    }

    async fn follow_secret(&self, step: Step) -> Result<(), SecretError> {
        let secret = match step {
            Step::Settle => return Ok(self.settle_secret().await?),
            Step::Take => match self.seal_key() {
                Some(_) => keys::open_secret(&self.directory(), &self.trust().seals)?,
                None => self.fetch_secret().await?,
            },
            Step::Fetch => self.fetch_secret().await?,
        };
        let mark = secret.mark();
        self.take_secret(secret).await?;
        tracing::info!(secret = %mark, "this server has the group secret that is in force");
        Ok(())
    }

    async fn fetch_secret(&self) -> Result<Secret, SecretError> {
        let own = self.trust().secrets.current.mark();
        let secret = |answer: &CredentialsAnswer| match answer {
            CredentialsAnswer::Secret(bytes) => Some(Secret::from_bytes(Zeroizing::new(*bytes))),
            _ => None,
        };
        // Whoever was away too has nothing else to give.
        let fits = |answer: &_| secret(answer).is_some_and(|secret| secret.mark() != own);
        let asked = renewing::ask_others(self, &CredentialsRequest::Secret, fits).await?;
        let (server, answer) = asked;
        secret(&answer).ok_or(SecretError::Nonsense { server })
    }

    /// Has the group prove another secret; the one before is accepted until all members have confirmed it, or where it is `hurried` all
    /// that are reached.
    ///
    /// # Errors
    /// When this server holds no seal key, or the change is not accepted.
    pub async fn rotate_secret(
        &self,
        author: Author,
        reason: Option<String>,
        hurried: bool,
    ) -> Result<(), SubmitError> {
        let seal = self.seal_key().ok_or(SubmitError::NoSealKey)?;
        let made = Secret::make().ok().and_then(|secret| {
            let group = self.directory().group().id;
            let sealed = keys::seal_secret(group, &seal, &secret).ok()?;
            Some((secret.mark(), sealed))
        });
        let (mark, sealed) = made.ok_or(SubmitError::NoSealKey)?;
        let change = SecretChange::Begin {
            mark,
            sealed,
            reason,
            hurried,
        };
        self.submit(None, author, Command::ChangeSecret { change })
            .await
            .map(|_| ())
    }

    /// The secret before the one in force is not accepted any more, whoever has not confirmed it.
    ///
    /// # Errors
    /// When it does not rotate, or the change is not accepted.
    pub async fn force_secret(&self, author: Author) -> Result<(), SubmitError> {
        let change = SecretChange::Finish {
            mark: self.directory().group().secret.mark,
            unconfirmed: self.unconfirmed(),
        };
        self.submit(None, author, Command::ChangeSecret { change })
            .await
            .map(|_| ())
    }

    /// Members that have not said that they prove the secret in force.
    pub fn unconfirmed(&self) -> Vec<ServerId> {
        let reports = self.reports();
        let directory = self.directory();
        unconfirmed(&directory, |server| {
            if server == self.me() {
                return Some(self.trust().secrets.current.mark());
            }
            reports.get(&server).map(|report| report.secret)
        })
    }

    async fn finish_secret(&self) {
        let directory = self.directory();
        let secret = &directory.group().secret;
        if !secret.rotating || !self.acting() {
            return;
        }
        let unconfirmed = self.unconfirmed();
        let hears = self.hears();
        // Who is away then fetches this one with the one before.
        if unconfirmed
            .iter()
            .any(|it| !secret.hurried || hears.contains(it))
        {
            return;
        }
        let change = SecretChange::Finish {
            mark: secret.mark,
            unconfirmed,
        };
        let command = Command::ChangeSecret { change };
        if let Err(error) = self.submit(None, self.author(), command).await {
            tracing::debug!(%error, at = %clock::calendar(), "the rotation of the group secret is not finished yet");
        }
    }
}

fn unconfirmed(
    directory: &Directory,
    proves: impl Fn(ServerId) -> Option<SecretMark>,
) -> Vec<ServerId> {
    let mark = directory.group().secret.mark;
    let servers = directory.servers().map(|server| server.id);
    servers.filter(|id| proves(*id) != Some(mark)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SecretMark = SecretMark([1; 16]);
    const TWO: SecretMark = SecretMark([2; 16]);

    fn settled() -> Known {
        Known {
            own: ONE,
            accepts_before: false,
            named: ONE,
            rotating: false,
            current: true,
            told_old: false,
        }
    }

    #[test]
    fn a_server_follows_what_the_group_says() {
        assert_eq!(step(settled()), None);
        let begun = Known {
            named: TWO,
            rotating: true,
            ..settled()
        };
        assert_eq!(step(begun), Some(Step::Take));
        let taken = Known {
            own: TWO,
            accepts_before: true,
            ..begun
        };
        assert_eq!(step(taken), None, "others may prove the one before");
        let finished = Known {
            rotating: false,
            ..taken
        };
        assert_eq!(step(finished), Some(Step::Settle));
    }

    #[test]
    fn a_server_that_was_away_fetches_and_is_not_misled_by_its_old_directory() {
        let away = Known {
            current: false,
            told_old: true,
            ..settled()
        };
        assert_eq!(step(away), Some(Step::Fetch));
        let fetched = Known {
            own: TWO,
            accepts_before: true,
            told_old: false,
            ..away
        };
        assert_eq!(
            step(fetched),
            None,
            "its directory still names the one before"
        );
        // In the directory of before there may be no name at all.
        let unnamed = Known {
            named: SecretMark::default(),
            current: true,
            ..fetched
        };
        assert_eq!(step(unnamed), None);
    }
}
