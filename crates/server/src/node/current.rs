//! The directory as a server has it at one moment, and what stands for it before it has one.

use crate::identity::Identity;
use model::record::Group;
use model::trust::Sealed;
use model::{
    Authority, Cause, Directory, Formation, FormationId, FormationRef, GroupId, GroupName, Record,
    UnixMillis,
};
use peer::trust_store::Trust;
use replica::State;
use std::ops::Deref;
use std::sync::Arc;

/// The directory at one moment; a cheap handle to an immutable value.
#[derive(Debug, Clone)]
pub struct Current {
    pub(super) state: Arc<State>,
    pub(super) before: Arc<Directory>,
}

impl Deref for Current {
    type Target = Directory;
    fn deref(&self) -> &Directory {
        self.state.directory.as_ref().unwrap_or(&self.before)
    }
}

/// What stands for the directory on a server that has joined and not received it yet: the group, and nobody in it.
pub(crate) fn empty_directory(identity: &Identity, trust: &Trust) -> Directory {
    let authority = trust
        .authorities
        .first()
        .map(|certificate| certificate.to_vec())
        .unwrap_or_default();
    let fingerprint = trust
        .fingerprint()
        .map(|fingerprint| fingerprint.to_string())
        .unwrap_or_default();
    let authority = Authority {
        certificate: authority,
        fingerprint,
        key: Sealed(Vec::new()),
        ticket_public: Vec::new(),
        ticket_key: Sealed(Vec::new()),
        expires: UnixMillis(0),
    };
    let group = nobody_in(identity.group, identity.group_name.clone(), authority);
    Directory::from_records([Record::Group(Arc::new(group))])
        .expect("a group's record alone makes a directory")
}

/// A group of which nothing is known but what it is called and who signs for it.
pub(crate) fn nobody_in(id: GroupId, name: GroupName, authority: Authority) -> Group {
    Group {
        id,
        name,
        formation: Formation {
            this: FormationRef {
                id: FormationId::default(),
                number: 0,
                fork_point: 0,
            },
            ancestors: Vec::new(),
            cause: Cause::Founded,
            original: FormationId::default(),
            original_members: Vec::new(),
            made: UnixMillis(0),
        },
        backups: Vec::new(),
        primary: None,
        primary_since: UnixMillis(0),
        last_failover: None,
        authority,
        clock: UnixMillis(0),
        number: 0,
        last_event: 0,
        feature_level: 0,
        pause: None,
        mode: model::ResilienceMode::Availability,
        last_user_change: 0,
        secret: model::trust::GroupSecret::default(),
        succession: Default::default(),
        seal: Default::default(),
    }
}
