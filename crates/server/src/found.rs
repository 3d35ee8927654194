//! `stead init`: a group of one, its own primary.
//!
//! The identity is written last: a folder without it is not a server's yet, and what an interrupted attempt
//! left there is replaced by the next one.

use crate::clock;
use crate::endpoint::{self, EndpointError, Listen};
use crate::identity::{Endpoint, Identity, IdentityError};
use crate::keys::{self, KeysError, Reached};
use crate::login::{LoginError, Logins};
use crate::random::NoRandomness;
use model::record::Group;
use model::{
    Authority as AuthorityRecord, Cause, Directory, FEATURE_LEVEL, Formation, FormationId,
    FormationRef, GroupId, GroupName, GroupSecret, IncarnationId, Mode, Role, SealRecord, Server,
    ServerId, ServerName, Standing, UnixMillis, User,
};
use peer::authority::Validity;
use peer::key::{KeyError, PrivateKey};
use peer::seal::{SealKey, SealKeys};
use peer::secret::{GroupSecrets, Secret};
use peer::trust_store::{Credential, Trust, TrustStore};
use replica::LogOptions;
use replica::disk::{RealDisk, SharedDisk};
use replica::formation::{self, FormationError, Founder};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wire::client::Hidden;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `stead init` was asked for.
#[derive(Debug)]
pub struct InitOptions {
    /// The data folder.
    pub data: PathBuf,
    /// The server's name.
    pub name: ServerName,
    /// The group's name.
    pub group: GroupName,
    /// Where other servers reach it; port 0 for any.
    pub peer: String,
    /// Where clients reach it; port 0 for any.
    pub client: String,
    /// Where it listens, if not where it is reached.
    pub listen: Listen,
    /// The password of the account `admin`.
    pub administrator_password: Hidden,
}

/// What `stead init` made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitDone {
    /// The group.
    pub group: GroupId,
    /// The server.
    pub server: ServerId,
    /// `sha256:HEX` of the group's authority.
    pub ca_fingerprint: String,
    /// Where other servers reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
}

/// Why a group cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The data folder.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The data folder cannot be made.
    #[error("the data folder {} cannot be made", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An address.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The administrator's password.
    #[error("the administrator's password cannot be used")]
    Password(#[from] LoginError),
    /// A key.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A certificate's key.
    #[error("a key cannot be made")]
    Key(#[from] KeyError),
    /// The keys cannot be stored.
    #[error("the keys cannot be stored")]
    Trust(#[from] peer::files::WriteError),
    /// Randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The directory cannot be stored.
    #[error("the directory cannot be stored")]
    Replica(#[from] FormationError),
}

/// Makes a group of one.
///
/// # Errors
/// What stands in the way; the data folder can then be used for another attempt.
pub async fn init(options: InitOptions) -> Result<InitDone, InitError> {
    let data = options.data.as_path();
    prepare_folder(data)?;
    let peer = endpoint::choose(&options.peer, options.listen.peer.as_deref())?;
    let client = endpoint::choose(&options.client, options.listen.client.as_deref())?;
    let password = Logins::new()?.hash(options.administrator_password).await?;
    let now = clock::calendar();
    let identity = Identity {
        format: Identity::FORMAT,
        name: options.name,
        server: keys::fresh(ServerId::from_bytes)?,
        group: keys::fresh(GroupId::from_bytes)?,
        group_name: options.group,
        standing: Standing::Voter,
        incarnation: keys::fresh(IncarnationId::from_bytes)?,
        peer,
        client,
        members: Vec::new(),
    };
    let administrator = User {
        name: "admin".parse().expect("a literal that is a user name"),
        password,
        role: Role::Admin,
        groups: Vec::new(),
        disabled: false,
        password_set: now,
        version_number: 0,
        api_tokens: Vec::new(),
        lock: None,
        origin: model::Origin::Directory,
    };
    let made = found_trust(&identity, now)?;
    let server = first_server(&identity, made.certificate_expires, now);
    let ca_fingerprint = made.authority.fingerprint.clone();
    let group = first_group(&identity, (made.authority, made.secret, made.seal), now)?;
    TrustStore::of(data).replace(&made.trust)?;
    found_directory(
        data,
        &identity,
        &Directory::founded(group, server, administrator),
    )?;
    identity.save(data)?;
    Ok(InitDone {
        group: identity.group,
        server: identity.server,
        ca_fingerprint,
        peer_address: identity.peer.advertise,
        client_address: identity.client.advertise,
    })
}

/// Makes the data folder if need be, and takes away what an interrupted attempt left.
///
/// # Errors
/// When a server has it already, or the system refuses.
pub fn prepare_folder(data: &Path) -> Result<(), InitError> {
    if Identity::exists(data) {
        return Err(IdentityError::Exists {
            folder: data.to_owned(),
        }
        .into());
    }
    let failed = |source| InitError::Folder {
        folder: data.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(failed)?;
    for left in ["formations", "trust", "trust.new"] {
        match std::fs::remove_dir_all(data.join(left)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn found_directory(
    data: &Path,
    identity: &Identity,
    directory: &Directory,
) -> Result<(), FormationError> {
    let disk: SharedDisk = Arc::new(RealDisk);
    let founder = Founder {
        server: identity.server,
        incarnation: identity.incarnation,
    };
    let made = formation::found(
        &disk,
        data,
        founder,
        directory,
        LogOptions::default().segment_size,
    )?;
    formation::select(&disk, data, made)
}

/// All that a group begins with to trust and be trusted.
pub(crate) struct Beginnings {
    /// What the first server keeps on disk.
    pub(crate) trust: Trust,
    /// What the directory keeps.
    pub(crate) authority: AuthorityRecord,
    /// When the first server's peer certificate expires.
    pub(crate) certificate_expires: UnixMillis,
    /// The group secret, as the directory keeps it.
    pub(crate) secret: GroupSecret,
    /// Which seal key is in force.
    pub(crate) seal: SealRecord,
}

/// Makes the authority, keys, certificates and secret of a new group and its first server.
///
/// # Errors
/// A key cannot be made.
pub(crate) fn found_trust(identity: &Identity, now: UnixMillis) -> Result<Beginnings, InitError> {
    let seal = SealKey::make().map_err(|_| NoRandomness)?;
    let (authority, record) = keys::make(identity.group, &seal, now)?;
    let (peer_key, client_key) = (PrivateKey::make()?, PrivateKey::make()?);
    let requests = (
        peer_key.certificate_request()?,
        client_key.certificate_request()?,
    );
    let reached = Reached {
        peer: &identity.peer.advertise,
        client: vec![&identity.client.advertise],
    };
    let pair = keys::issue(
        &authority,
        (identity.group, identity.server),
        &reached,
        (&requests.0, &requests.1),
        Validity::ordinary(now),
    )?;
    let certificate_expires = pair.peer.expires;
    let secret = Secret::make().map_err(|_| NoRandomness)?;
    let kept = GroupSecret {
        mark: secret.mark(),
        sealed: keys::seal_secret(identity.group, &seal, &secret)?,
        since: now,
        rotating: false,
        hurried: false,
    };
    let record_of_seal = SealRecord {
        mark: seal.mark(),
        since: now,
        ..SealRecord::default()
    };
    let trust = Trust {
        authorities: vec![authority.certificate().clone()],
        former: Vec::new(),
        links: Vec::new(),
        peer: Credential {
            certificate: pair.peer.certificate,
            key: peer_key,
        },
        client: Credential {
            certificate: pair.client.certificate,
            key: client_key,
        },
        secrets: GroupSecrets::only(secret),
        seals: SealKeys::only(seal),
    };
    Ok(Beginnings {
        trust,
        authority: record,
        certificate_expires,
        secret: kept,
        seal: record_of_seal,
    })
}

/// The first formation of a group of one.
///
/// # Errors
/// When the operating system has no randomness to give.
pub(crate) fn first_formation(
    server: ServerId,
    now: UnixMillis,
) -> Result<Formation, NoRandomness> {
    let formation = keys::fresh(FormationId::from_bytes)?;
    Ok(Formation {
        this: FormationRef {
            id: formation,
            number: 1,
            fork_point: 0,
        },
        ancestors: Vec::new(),
        cause: Cause::Founded,
        original: formation,
        original_members: vec![server],
        made: now,
    })
}

fn first_group(
    identity: &Identity,
    (authority, secret, seal): (AuthorityRecord, GroupSecret, SealRecord),
    now: UnixMillis,
) -> Result<Group, NoRandomness> {
    Ok(Group {
        id: identity.group,
        name: identity.group_name.clone(),
        formation: first_formation(identity.server, now)?,
        backups: vec![identity.server],
        primary: Some(identity.server),
        primary_since: now,
        last_failover: None,
        authority,
        clock: now,
        number: 0,
        last_event: 0,
        feature_level: FEATURE_LEVEL,
        pause: None,
        mode: model::ResilienceMode::Availability,
        last_user_change: 0,
        secret,
        succession: Arc::default(),
        seal: Arc::new(seal),
    })
}

/// The record of a group's first server.
pub(crate) fn first_server(
    identity: &Identity,
    certificate_expires: UnixMillis,
    now: UnixMillis,
) -> Server {
    let Endpoint {
        advertise: peer_address,
        ..
    } = identity.peer.clone();
    let Endpoint {
        advertise: client_address,
        ..
    } = identity.client.clone();
    Server {
        id: identity.server,
        name: identity.name.clone(),
        peer_address,
        client_address,
        standing: Standing::Voter,
        voting: true,
        mode: Mode::Online,
        power: 1000,
        labels: BTreeMap::new(),
        external: Vec::new(),
        version: VERSION.to_owned(),
        feature_level: FEATURE_LEVEL,
        incarnation: identity.incarnation,
        certificate_expires,
        joined: now,
        started: true,
        version_number: 0,
        peer_key: model::KeyMark::default(),
        revoked: Vec::new(),
    }
}
