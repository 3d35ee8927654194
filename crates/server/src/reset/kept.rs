//! What stays of a directory when a server leaves its group: what people made, and the server's own sessions.
//!
//! Always true: no other server, nothing of theirs, no open invitation and no key of the old group is left; numbers and
//! stamps go on where they were, so that records keep their order. The journal stays, as what happened did happen.

use model::directory::LoadError;
use model::settings::ModeChoice;
use model::{
    Authority, Directory, Event, EventKind, Fields, Formation, GroupId, GroupName, GroupSecret,
    Record, ResilienceMode, SealRecord, Server, ServerId, Session, SessionId, Severity,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most names that the journal's entry has.
const NAMED: usize = 16;

/// What the journal is told.
#[derive(Debug)]
pub(crate) struct Told {
    /// What was done.
    pub(crate) kind: EventKind,
    /// The group's name from now on; as it was when absent.
    pub(crate) name: Option<GroupName>,
    /// Who asked.
    pub(crate) by: String,
    /// Why, in words.
    pub(crate) reason: Option<String>,
    /// The names whose operators' certificates are left out, as their keys could not be opened.
    pub(crate) certificates_lost: Vec<String>,
}

/// The names of operators' certificates that one directory has and the other has not.
pub(crate) fn certificates_lost(before: &Directory, after: &Directory) -> Vec<String> {
    let lost = before.certificates();
    let lost = lost.filter(|one| after.certificate(&one.name).is_none());
    lost.map(|one| one.name.to_string()).collect()
}

/// Whether people made it, or it tells of what happened: it stays when a server stands alone, and is in a backup.
pub(crate) fn stays(record: &Record) -> bool {
    matches!(
        record,
        Record::Group(_)
            | Record::Setting(..)
            | Record::User(_)
            | Record::Application(_)
            | Record::Event(_)
            | Record::Token(_)
            | Record::Gateway(_)
            | Record::Secret(_)
            | Record::Certificate(_)
            | Record::Profile(_)
            | Record::Preferences(_)
            | Record::Audited(_)
            // Somebody is still to decide on them.
            | Record::Divergence(_)
            | Record::Diverged(_)
    )
}

/// The directory of the group `id` of one, out of that of a group; `founder` is the server as it would found one.
///
/// # Errors
/// The records contradict each other.
pub(crate) fn alone(
    old: &Directory,
    (founder, id): (Server, GroupId),
    (authority, secret, seal): (Authority, GroupSecret, SealRecord),
    formation: Formation,
    told: Told,
) -> Result<Directory, LoadError> {
    let me = founder.id;
    let mut group = old.group().clone();
    let before = std::mem::replace(&mut group.id, id);
    let now = formation.made;
    let name = told.name.clone().unwrap_or_else(|| group.name.clone());
    let event = Event {
        seq: group.last_event + 1,
        at: now,
        server: Some(me),
        kind: told.kind,
        severity: Severity::Warning,
        subject: told.name.as_ref().unwrap_or(&group.name).to_string(),
        fields: fields(old, before, &founder, told),
        reasons: Vec::new(),
    };
    group.name = name;
    group.formation = formation;
    group.backups = vec![me];
    group.primary = Some(me);
    group.primary_since = now;
    group.last_failover = None;
    group.authority = authority;
    group.secret = secret;
    // What was accepted beside the authority of the group that is left is nothing here.
    group.succession = Arc::default();
    group.seal = Arc::new(seal);
    group.clock = group.clock.max(now);
    group.last_event = event.seq;
    group.feature_level = group.feature_level.min(founder.feature_level);
    group.pause = None;
    group.mode = match old.settings().mode_choice() {
        ModeChoice::Always(mode) => mode,
        ModeChoice::Auto => ResilienceMode::Availability,
    };
    let server = match old.server(me) {
        Some(known) => went_on(known, founder),
        None => founder,
    };
    let records = [
        Record::Group(Arc::new(group)),
        Record::Server(Arc::new(server)),
        Record::Event(Arc::new(event)),
    ];
    let stays = old.records().filter(|record| match record {
        Record::Setting(_, on, _) => on.is_none_or(|on| on == me),
        Record::Reported(server, _) => *server == me,
        // What takes its place is above.
        Record::Group(_) => false,
        record => stays(record),
    });
    let sessions = own_sessions(old, me).into_iter().map(Record::Session);
    Directory::from_records(records.into_iter().chain(stays).chain(sessions))
}

/// The other servers, by name.
pub(super) fn others(directory: &Directory, me: ServerId) -> Vec<String> {
    let others = directory.servers().filter(|server| server.id != me);
    let mut names: Vec<String> = others.map(|server| server.name.to_string()).collect();
    names.sort();
    names
}

/// A server keeps what people said of it.
fn went_on(known: &Server, founder: Server) -> Server {
    Server {
        mode: known.mode.clone(),
        power: known.power,
        labels: known.labels.clone(),
        external: known.external.clone(),
        joined: known.joined,
        version_number: known.version_number,
        ..founder
    }
}

fn fields(old: &Directory, before: GroupId, founder: &Server, told: Told) -> Fields {
    let me = founder.id;
    let (here, all) = (old.sessions_on(me).count(), old.live_sessions());
    let fields = [
        ("server", founder.name.to_string()),
        ("by", told.by),
        ("from_group", before.to_string()),
        ("from_formation", old.group().formation.this.id.to_string()),
        ("servers_forgotten", list(others(old, me))),
        ("sessions_kept", here.to_string()),
        ("sessions_forgotten", all.saturating_sub(here).to_string()),
    ];
    let reason = told.reason.map(|reason| ("reason", reason));
    let lost = told.certificates_lost;
    let lost = (!lost.is_empty()).then(|| ("certificates_lost", list(lost)));
    fields.into_iter().chain(reason).chain(lost).collect()
}

fn list(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

/// The sessions of this server, ended ones included. Where the current session of a token was elsewhere, the one here that
/// was used last takes its place.
fn own_sessions(old: &Directory, me: ServerId) -> Vec<Arc<Session>> {
    let mut own: BTreeMap<SessionId, Arc<Session>> = old
        .sessions()
        .filter(|session| session.host == me)
        .map(|session| (session.id, session.clone()))
        .collect();
    let used = |session: &Session| (session.last_attached.unwrap_or(session.created), session.id);
    let mut newest = BTreeMap::new();
    for session in own.values().filter(|session| session.is_live()) {
        let rank = (session.current, used(session));
        let best = newest
            .entry((session.token.clone(), session.app.clone()))
            .or_insert(rank);
        *best = rank.max(*best);
    }
    for (current, (_, id)) in newest.into_values() {
        if let (false, Some(session)) = (current, own.get_mut(&id)) {
            Arc::make_mut(session).current = true;
        }
    }
    own.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::nobody_in;
    use model::server::Offline;
    use model::trust::{Invitation, Sealed};
    use model::user::PasswordHash;
    use model::{
        Application, Cause, FormationId, FormationRef, IncarnationId, InvitationId, Mode, Outcome,
        Pause, Role, SessionState, Standing, UnixMillis, User,
    };

    const ME: ServerId = ServerId::from_bytes([1; 16]);
    const OTHER: ServerId = ServerId::from_bytes([2; 16]);
    const GONE: ServerId = ServerId::from_bytes([3; 16]);
    const OLD: GroupId = GroupId::from_bytes([8; 16]);
    const NEW: GroupId = GroupId::from_bytes([9; 16]);

    fn server(id: ServerId, name: &str) -> Server {
        Server {
            id,
            name: name.parse().unwrap(),
            peer_address: format!("{name}:5427"),
            client_address: format!("{name}:5443"),
            standing: Standing::Voter,
            voting: true,
            mode: Mode::Online,
            power: Server::POWER_DEFAULT,
            labels: BTreeMap::new(),
            external: Vec::new(),
            version: "1".to_owned(),
            feature_level: model::FEATURE_LEVEL,
            incarnation: IncarnationId::from_bytes([4; 16]),
            certificate_expires: UnixMillis(0),
            joined: UnixMillis(3),
            started: true,
            version_number: 7,
            peer_key: model::KeyMark::default(),
            revoked: Vec::new(),
        }
    }

    fn session(number: u8, token: &str, host: ServerId, state: SessionState) -> Session {
        let id = SessionId::from_bytes([number; SessionId::LEN]);
        let names = (
            &token.parse().unwrap(),
            &"ann".parse().unwrap(),
            &"desktop".parse().unwrap(),
        );
        let mut session = Session::to_start(id, names, host, UnixMillis(u64::from(number)), 90);
        session.ended = (state == SessionState::Ended).then_some(UnixMillis(50));
        session.state = state;
        session
    }

    fn current(session: Session) -> Session {
        Session {
            current: true,
            ..session
        }
    }

    fn authority(fingerprint: &str) -> Authority {
        Authority {
            certificate: Vec::new(),
            fingerprint: fingerprint.to_owned(),
            key: Sealed(Vec::new()),
            ticket_public: Vec::new(),
            ticket_key: Sealed(Vec::new()),
            expires: UnixMillis(0),
        }
    }

    fn formation() -> Formation {
        let this = FormationRef {
            id: FormationId::from_bytes([6; 16]),
            number: 1,
            fork_point: 0,
        };
        Formation {
            this,
            ancestors: Vec::new(),
            cause: Cause::Founded,
            original: this.id,
            original_members: vec![ME],
            made: UnixMillis(2_000),
        }
    }

    /// A group of two that has a bit of everything.
    fn old(sessions: Vec<Session>) -> Directory {
        let mut group = nobody_in(OLD, "east".parse().unwrap(), authority("old"));
        group.backups = vec![OTHER, ME];
        group.primary = Some(OTHER);
        group.number = 100;
        group.mode = ResilienceMode::Quorum;
        group.last_event = 40;
        group.clock = UnixMillis(1_000);
        group.pause = Some(Pause {
            by: "admin".to_owned(),
            reason: "switches".to_owned(),
            since: UnixMillis(900),
            until: UnixMillis(9_000),
        });
        let mut me = server(ME, "boston");
        me.mode = Mode::Offline(Offline {
            by: "admin".to_owned(),
            reason: None,
            since: UnixMillis(1),
            until: None,
            drain: None,
        });
        me.power = 2_000;
        me.standing = Standing::NonVoter;
        me.voting = false;
        let ann = User {
            name: "ann".parse().unwrap(),
            password: PasswordHash(String::new()),
            role: Role::User,
            groups: Vec::new(),
            disabled: false,
            password_set: UnixMillis(0),
            version_number: 12,
            api_tokens: Vec::new(),
            lock: None,
            origin: model::Origin::Directory,
        };
        let invitation = Invitation {
            id: InvitationId::from_bytes([5; 8]),
            secret: Sealed(vec![1]),
            standing: Standing::Voter,
            made: UnixMillis(900),
            expires: UnixMillis(9_000),
            by: "admin".to_owned(),
            used_by: None,
        };
        let event = Event {
            seq: 40,
            at: UnixMillis(900),
            server: Some(OTHER),
            kind: EventKind::ServerJoined,
            severity: Severity::Info,
            subject: "newyork".to_owned(),
            fields: Fields::default(),
            reasons: Vec::new(),
        };
        let setting =
            |on, value: &str| Record::Setting("tunnel.retain".to_owned(), on, value.to_owned());
        let records = vec![
            Record::Group(Arc::new(group)),
            Record::Server(Arc::new(me)),
            Record::Server(Arc::new(server(OTHER, "newyork"))),
            Record::Removed(GONE, UnixMillis(10)),
            Record::User(Arc::new(ann)),
            Record::Application(Arc::new(Application::named("desktop".parse().unwrap()))),
            setting(None, "20m"),
            setting(Some(ME), "30m"),
            setting(Some(OTHER), "40m"),
            Record::Invitation(Arc::new(invitation)),
            Record::Event(Arc::new(event)),
            Record::Reported(ME, 5),
            Record::Reported(OTHER, 6),
            Record::Answered(model::ChangeId::from_bytes([1; 16]), 99, Ok(Outcome::Done)),
        ];
        let sessions = sessions
            .into_iter()
            .map(|session| Record::Session(Arc::new(session)));
        Directory::from_records(records.into_iter().chain(sessions)).unwrap()
    }

    fn reset(old: &Directory) -> Directory {
        let told = Told {
            kind: EventKind::GroupReset,
            name: None,
            by: "root on boston".to_owned(),
            reason: Some("sold".to_owned()),
            certificates_lost: vec!["portal.example.org".to_owned()],
        };
        let founder = Server {
            version_number: 0,
            incarnation: IncarnationId::from_bytes([44; 16]),
            ..server(ME, "boston")
        };
        let made = alone(
            old,
            (founder, NEW),
            (
                authority("new"),
                GroupSecret::default(),
                SealRecord::default(),
            ),
            formation(),
            told,
        )
        .unwrap();
        assert_eq!(made.check(), Vec::<String>::new());
        made
    }

    #[test]
    fn nothing_of_the_others_is_left_and_what_people_made_is() {
        let old = old(Vec::new());
        let made = reset(&old);
        let group = made.group();
        assert_eq!((group.id, group.primary), (NEW, Some(ME)));
        assert_eq!((&*group.backups, &group.pause), (&[ME][..], &None));
        assert_eq!(group.authority.fingerprint, "new");
        assert_eq!(group.mode, ResilienceMode::Availability);
        assert_eq!((group.number, group.clock), (100, UnixMillis(2_000)));
        let me = made.server(ME).unwrap();
        assert_eq!(
            (me.standing, me.voting, me.power),
            (Standing::Voter, true, 2_000)
        );
        assert!(!me.mode.is_online(), "an administrator said so");
        assert_eq!(me.incarnation, IncarnationId::from_bytes([44; 16]));
        assert_eq!(made.servers().count(), 1);
        assert_eq!(made.removed(GONE), None);
        assert_eq!(made.invitations().count(), 0);
        assert_eq!((made.reported(ME), made.reported(OTHER)), (5, 0));
        assert_eq!(made.users().count(), old.users().count());
        assert_eq!(made.apps().count(), old.apps().count());
        let retain = |on| made.settings().retain(on).as_secs() / 60;
        assert_eq!(
            (retain(None), retain(Some(ME)), retain(Some(OTHER))),
            (20, 30, 20)
        );
    }

    #[test]
    fn the_journal_goes_on_and_says_who_asked_and_why() {
        let made = reset(&old(vec![
            session(1, "card.1", ME, SessionState::Suspended),
            session(2, "card.2", OTHER, SessionState::Active),
        ]));
        let told: Vec<_> = made.events_back().collect();
        assert_eq!((told[0].seq, told[1].seq), (41, 40));
        assert_eq!(
            (told[0].kind, told[0].subject.as_str()),
            (EventKind::GroupReset, "east")
        );
        let fields: Vec<String> = told[0]
            .fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            fields,
            [
                "by=root on boston".to_owned(),
                "certificates_lost=portal.example.org".to_owned(),
                format!("from_formation={}", FormationId::default()),
                format!("from_group={OLD}"),
                "reason=sold".to_owned(),
                "server=boston".to_owned(),
                "servers_forgotten=newyork".to_owned(),
                "sessions_forgotten=1".to_owned(),
                "sessions_kept=1".to_owned(),
            ]
        );
    }

    #[test]
    fn only_own_sessions_stay_and_each_token_has_a_current_one() {
        let old = old(vec![
            // The current one is elsewhere: of two here the one that was used last is it now.
            session(1, "card.1", ME, SessionState::Suspended),
            session(2, "card.1", ME, SessionState::Orphaned),
            current(session(3, "card.1", OTHER, SessionState::Active)),
            // It is here, and older than another here.
            current(session(4, "card.2", ME, SessionState::Active)),
            session(5, "card.2", ME, SessionState::Suspended),
            // Over.
            session(6, "card.3", ME, SessionState::Ended),
            session(7, "card.3", OTHER, SessionState::Suspended),
        ]);
        let made = reset(&old);
        let left: Vec<(u8, bool)> = made
            .sessions()
            .map(|session| (session.id.as_bytes()[0], session.current))
            .collect();
        let expected = [(1, false), (2, true), (4, true), (5, false), (6, false)];
        assert_eq!(left, expected);
        assert!(made.sessions().all(|session| session.heard_number == 90));
    }

    #[test]
    fn a_server_that_the_directory_does_not_have_is_there_afterwards() {
        let old = old(Vec::new());
        let without = old
            .records()
            .filter(|record| !matches!(record, Record::Server(server) if server.id == ME));
        let made = reset(&Directory::from_records(without).unwrap());
        assert!(made.server(ME).unwrap().mode.is_online());
    }
}
