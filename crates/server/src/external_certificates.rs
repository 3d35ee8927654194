//! The operator's certificates for external names: put into the directory with their keys sealed, and kept ready in memory on each
//! server to be shown on its client port.
//!
//! Always true: a key is opened here with the seal key, or asked of a member that holds that; it is never written to this
//! server's disk. Start at [`run`]; [`Node::put_certificate`] puts one in.

use crate::clock;
use crate::keys::{self, KeysError};
use crate::node::Node;
use crate::renewing::{self, RenewalError};
use crate::submit::SubmitError;
use model::{Author, Command, Directory, ExternalCertificate, ExternalName, ServerId};
use peer::operator::{OperatorCertificate, OperatorError, Showable, showable};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use wire::credentials::{CredentialsAnswer, CredentialsRefusal, CredentialsRequest};
use zeroize::Zeroizing;

/// Changes of the directory are gathered this long.
const GATHER: Duration = Duration::from_millis(50);
/// The longest pause between two attempts to get a key.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Why a certificate cannot be shown here.
#[derive(Debug, thiserror::Error)]
enum ReadyError {
    #[error("its key cannot be had")]
    Asked(#[from] RenewalError),
    #[error("{server} answered something else")]
    Nonsense { server: String },
    #[error(transparent)]
    Unfit(#[from] OperatorError),
}

/// Why a certificate is not put in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    /// It, or its key, is not one for that name.
    #[error(transparent)]
    Unfit(#[from] OperatorError),
    /// The change was not made.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// Names whose certificates cannot be shown here yet, and why.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<ExternalName, String>>);

impl Troubles {
    /// For people.
    pub(crate) fn told(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = all.iter().map(|(name, why)| {
            format!("the certificate for {name} is not shown here, but the group's own: {why}")
        });
        told.collect()
    }

    fn set(&self, troubles: BTreeMap<ExternalName, String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = troubles;
    }
}

/// Those that are ready to be shown.
type Ready = BTreeMap<ExternalName, (Arc<ExternalCertificate>, Showable)>;

/// Keeps certificates ready as long as the server runs.
pub(crate) async fn run(node: Node) {
    let mut changed = node.directory_changed();
    let (mut ready, mut seen) = (Ready::new(), None::<Directory>);
    let mut pause = FIRST_PAUSE;
    // When what failed is tried again.
    let mut again = None;
    loop {
        let directory = Directory::clone(&node.directory());
        let same = |seen: &Directory| directory.has_certificates_of(seen);
        let known = seen.as_ref().is_some_and(same);
        let due = again.is_some_and(|again| again <= Instant::now());
        if !known || due {
            let troubles = follow(&node, &directory, &mut ready).await;
            pause = match known {
                true => (pause * 2).min(LONGEST_PAUSE),
                false => FIRST_PAUSE,
            };
            again = (!troubles.is_empty()).then(|| Instant::now() + pause);
            node.0.troubles_of_certificates.set(troubles);
            seen = Some(directory);
        }
        sleep(GATHER).await;
        let later = async {
            match again {
                Some(again) => sleep_until(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            news = changed.changed() => if news.is_err() { return },
            () = later => {}
        }
    }
}

/// Makes ready what the directory has; gives what could not be.
async fn follow(
    node: &Node,
    directory: &Directory,
    ready: &mut Ready,
) -> BTreeMap<ExternalName, String> {
    let mut troubles = BTreeMap::new();
    let before = std::mem::take(ready);
    for certificate in directory.certificates() {
        let name = certificate.name.clone();
        if let Some(known) = before.get(&name).filter(|it| it.0.is_same(certificate)) {
            ready.insert(name, known.clone());
            continue;
        }
        match make_ready(node, directory, certificate).await {
            Ok(made) => {
                tracing::info!(%name, fingerprint = certificate.fingerprint, "the operator's certificate is shown on the client port");
                ready.insert(name, (certificate.clone(), made));
            }
            Err(error) => {
                let why = peer::InFull(&error).to_string();
                tracing::warn!(%name, why, "the operator's certificate cannot be shown yet");
                troubles.insert(name, why);
            }
        }
    }
    let named = ready.iter();
    let named = named.map(|(name, (_, made))| (name.to_string(), made.clone()));
    node.0.shown.client.show_for_names(named.collect());
    troubles
}

async fn make_ready(
    node: &Node,
    directory: &Directory,
    certificate: &ExternalCertificate,
) -> Result<Showable, ReadyError> {
    let key = match opened(node, directory, certificate) {
        Some(Ok(key)) => key,
        // Without the seal key, or with one that is not in force any more.
        _ => fetched(node, certificate).await?,
    };
    Ok(showable(certificate.chain.clone(), &key)?)
}

/// The key, opened here; none where this server does not hold the seal key.
fn opened(
    node: &Node,
    directory: &Directory,
    certificate: &ExternalCertificate,
) -> Option<Result<Zeroizing<Vec<u8>>, KeysError>> {
    node.seal_key()?;
    let (seals, group) = (&node.trust().seals, directory.group().id);
    Some(keys::open_external(group, seals, &certificate.key))
}

async fn fetched(
    node: &Node,
    certificate: &ExternalCertificate,
) -> Result<Zeroizing<Vec<u8>>, ReadyError> {
    let request = CredentialsRequest::ExternalKey {
        name: certificate.name.clone(),
        fingerprint: certificate.fingerprint.clone(),
    };
    let fits = |answer: &_| matches!(answer, CredentialsAnswer::ExternalKey(_));
    match renewing::ask_others(node, &request, fits).await? {
        (_, CredentialsAnswer::ExternalKey(key)) => Ok(Zeroizing::new(key)),
        (server, _) => Err(ReadyError::Nonsense { server }),
    }
}

/// The key of an operator's certificate, for a member that does not hold the seal key.
pub(crate) fn key_for(
    node: &Node,
    from: ServerId,
    name: &ExternalName,
    fingerprint: &str,
) -> Result<CredentialsAnswer, CredentialsRefusal> {
    let directory = node.directory();
    if directory.server(from).is_none() {
        return Err(CredentialsRefusal::Unknown);
    }
    let certificate = directory.certificate(name);
    let certificate = certificate.filter(|it| it.fingerprint == fingerprint);
    let certificate = certificate.ok_or_else(|| CredentialsRefusal::Invalid {
        why: format!("that server does not have this certificate for {name}"),
    })?;
    match opened(node, &directory, certificate) {
        Some(Ok(key)) => Ok(CredentialsAnswer::ExternalKey(key.to_vec())),
        Some(Err(error)) => Err(CredentialsRefusal::Invalid {
            why: peer::InFull(&error).to_string(),
        }),
        None => Err(CredentialsRefusal::NoSealKey),
    }
}

impl Node {
    /// Checks a chain and its key (PEM) for an external name, and puts them in, the key sealed.
    ///
    /// # Errors
    /// What stands against them; this server holds no seal key; or the change is not accepted.
    pub(crate) async fn put_certificate(
        &self,
        author: Author,
        name: ExternalName,
        chain: &str,
        key: &str,
    ) -> Result<(), PutError> {
        let (now, text) = (clock::calendar(), name.as_str());
        let read = OperatorCertificate::read(chain.as_bytes(), key.as_bytes(), text, now)?;
        let seal = self.seal_key().ok_or(SubmitError::NoSealKey)?;
        let group = self.directory().group().id;
        let sealed = keys::seal_external(group, &seal, &read.key);
        let key = sealed.map_err(|error| SubmitError::Keys(Arc::new(error)))?;
        let certificate = ExternalCertificate {
            name,
            chain: read.chain.iter().map(|der| der.to_vec()).collect(),
            key,
            fingerprint: read.fingerprint.to_string(),
            issuer: one_line(&read.issuer),
            expires: read.expires,
            version_number: 0,
        };
        let certificate = Box::new(certificate);
        self.submit(None, author, Command::PutCertificate { certificate })
            .await?;
        Ok(())
    }
}

impl Node {
    /// Whether a certificate whose key is sealed already would be put in now.
    ///
    /// # Errors
    /// What stands against it, or this server cannot open its key.
    pub(crate) fn check_certificate(
        &self,
        certificate: &ExternalCertificate,
    ) -> Result<(), PutError> {
        let opened = opened(self, &self.directory(), certificate).ok_or(SubmitError::NoSealKey)?;
        let key = opened.map_err(|error| SubmitError::Keys(Arc::new(error)))?;
        let (now, name) = (clock::calendar(), certificate.name.as_str());
        let chain = certificate.chain.iter().cloned().map(Into::into).collect();
        OperatorCertificate::checked(chain, key, name, now)?;
        Ok(())
    }
}

/// What a certificate says of its issuer may be anything.
fn one_line(text: &str) -> String {
    let plain = text.chars().filter(|character| !character.is_control());
    plain.take(200).collect()
}
