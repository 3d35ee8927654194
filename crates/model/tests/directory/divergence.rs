//! Divergences: what a three-way comparison finds, what is kept of it, and what comes of applying and discarding it.

use crate::common::*;
use crate::stories::Transcript;
use model::divergence::{DIVERGENCES, EditedServer, RECORDS};
use model::server::Offline;
use model::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn formation(number: u8) -> FormationRef {
    FormationRef {
        id: FormationId::from_bytes([number; 16]),
        number: u64::from(number),
        fork_point: 40,
    }
}

/// The same group at a fork: what both sides have, and a side of its own that goes on from it.
struct Split {
    fork: Directory,
    winner: Told,
    loser: Told,
}

impl Split {
    fn now() -> Self {
        let told = Told::four_servers();
        let fork = told.directory.clone();
        let mut loser = Told::four_servers();
        // The losing side is a formation of its own.
        let records = loser.directory.records().map(|record| match record {
            Record::Group(group) => {
                let mut group = (*group).clone();
                group.formation.ancestors.push(group.formation.this);
                group.formation.this = formation(2);
                Record::Group(group.into())
            }
            other => other,
        });
        loser.directory = Directory::from_records(records.collect::<Vec<_>>()).unwrap();
        Self {
            fork,
            winner: told,
            loser,
        }
    }

    fn found(&self) -> Vec<Diverged> {
        three_way(
            Some(&self.fork),
            &self.loser.directory,
            Some(&self.winner.directory),
        )
    }

    fn subjects(&self) -> Vec<String> {
        self.found()
            .iter()
            .map(|one| one.subject.to_string())
            .collect()
    }

    /// What the losing side reports, in one piece.
    fn report(&self) -> Command {
        let fork_point = self.fork.group().number;
        keep(
            Divergence::of(&self.loser.directory, fork_point, true),
            self.found(),
            true,
        )
    }

    fn left(&self) -> Vec<String> {
        self.winner
            .directory
            .diverged(formation(2).id)
            .map(|one| one.subject.to_string())
            .collect()
    }
}

fn keep(divergence: Divergence, records: Vec<Diverged>, last: bool) -> Command {
    Command::KeepDivergence {
        within: FormationId::from_bytes([9; 16]),
        divergence: Box::new(divergence),
        records,
        last,
    }
}

fn apply(subjects: &[Subject]) -> Command {
    Command::ApplyDiverged {
        formation: formation(2).id,
        subjects: subjects.to_vec(),
        reason: Some("the better one".to_owned()),
    }
}

fn discard(subjects: &[Subject]) -> Command {
    Command::DiscardDiverged {
        formation: formation(2).id,
        subjects: subjects.to_vec(),
        reason: None,
    }
}

fn set(key: &str, value: &str) -> Command {
    Command::SetSetting {
        key: key.to_owned(),
        value: value.to_owned(),
        on: None,
    }
}

fn setting(key: &str) -> Subject {
    Subject::Setting(key.to_owned(), None)
}

fn remove_user(name: &str) -> Command {
    Command::RemoveUser {
        name: user_name(name),
    }
}

fn offline(server: ServerId, until: Option<UnixMillis>) -> Command {
    Command::SetMode {
        servers: vec![server],
        mode: Mode::Offline(Offline {
            by: "ann".to_owned(),
            reason: None,
            since: START,
            until,
            drain: None,
        }),
    }
}

fn pause(span_ms: u64) -> Command {
    Command::ChangePause {
        change: PauseChange::Begin {
            reason: "new disks".to_owned(),
            span_ms,
        },
    }
}

fn changed_user(told: &Told, name: &str, role: Role) -> Command {
    let version = told.directory.user(&user_name(name)).unwrap();
    put_user(user(name, role), Some(version.version_number))
}

#[test]
fn a_side_that_changed_nothing_that_people_edit_has_nothing_to_keep() {
    let mut split = Split::now();
    split.loser.all([
        report(NEWYORK, 9),
        create(1, "card.1", "bob", "shell", BOSTON),
        Command::OrphanSessions {
            host: BOSTON,
            reasons: Vec::new(),
        },
        Command::RecordEvents {
            server: BOSTON,
            first: 1,
            events: Vec::new(),
        },
        Command::Invite {
            invitation: Box::new(invitation(
                20,
                Standing::Voter,
                split.winner.now().after(Duration::from_secs(900)),
            )),
        },
    ]);
    split.winner.all([set("sessions.history", "5")]);
    assert_eq!(split.subjects(), Vec::<String>::new());
    split.winner.all([split.report()]);
    assert_eq!(split.winner.directory.divergences().count(), 0);
}

#[test]
fn only_what_the_losing_side_changed_and_the_winner_has_not_is_found() {
    let mut split = Split::now();
    let both = [
        set("events.history", "7777"),
        put_app(shell("both"), None),
        remove_user("eve"),
    ];
    split.winner.all(both.clone());
    split.loser.all(both);
    split.winner.all([
        put_user(user("zoe", Role::User), None),
        set("sessions.history", "5"),
    ]);
    let bob = changed_user(&split.loser, "bob", Role::Operator);
    split.loser.all([
        set("sessions.history", "6"),
        set("tunnel.retain", "5m"),
        bob,
        put_user(user("max", Role::User), None),
        put_app(shell("new"), None),
        Command::RemoveApp {
            name: app_name("desktop"),
        },
        offline(NEWYORK, None),
        Command::RemoveServer {
            server: SEATTLE,
            reason: None,
        },
        pause(3_600_000),
    ]);
    let found = split.found();
    let told: Vec<_> = found
        .iter()
        .map(|one| {
            let word = |content: &Option<Content>| if content.is_some() { "+" } else { "-" };
            format!("{} {}{}", one.subject, word(&one.fork), word(&one.loser))
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
    assert!(found.iter().all(|one| one.formation == formation(2).id
        && one.number == split.loser.directory.group().number));
    // Without the fork, what only the winner changed differs as well.
    let unknown = three_way(None, &split.loser.directory, Some(&split.winner.directory));
    let more: Vec<_> = unknown
        .iter()
        .filter(|one| found.iter().all(|known| known.subject != one.subject))
        .map(|one| one.subject.to_string())
        .collect();
    assert_eq!(more, ["user:zoe"]);
    assert!(unknown.iter().all(|one| one.fork.is_none()));
    // Without the winner, what both did is left out only when it is kept.
    let alone = three_way(Some(&split.fork), &split.loser.directory, None);
    assert_eq!(alone.len(), found.len() + 3);
    let divergence = Divergence::of(&split.loser.directory, 40, true);
    split.winner.all([keep(divergence, alone, true)]);
    assert_eq!(split.left().len(), found.len());
}

#[test]
fn what_ended_by_itself_is_nobodys_change() {
    let mut split = Split::now();
    let soon = split.winner.now().after(Duration::from_secs(90));
    let both = [pause(60_000), offline(NEWYORK, Some(soon))];
    split.winner.all(both.clone());
    split.fork = split.winner.directory.clone();
    split.loser.all(both);
    split.loser.wait(120_000);
    // The losing side records the ends; the winner has not come to it.
    split.loser.all([
        Command::ChangePause {
            change: PauseChange::RunOut,
        },
        Command::SetMode {
            servers: vec![NEWYORK],
            mode: Mode::Online,
        },
    ]);
    assert_eq!(split.subjects(), Vec::<String>::new());
}

#[test]
fn a_story_of_keeping_and_deciding() {
    let mut split = Split::now();
    let mut eve = user("eve", Role::User);
    eve.disabled = true;
    let version = split.loser.directory.user(&user_name("eve")).unwrap();
    let version = version.version_number;
    split.loser.all([
        set("sessions.history", "6"),
        put_user(eve, Some(version)),
        put_user(user("max", Role::Admin), None),
        remove_user("ann"),
        Command::RemoveApp {
            name: app_name("desktop"),
        },
        Command::RemoveServer {
            server: SEATTLE,
            reason: None,
        },
        offline(NEWYORK, None),
        Command::SetBackups {
            backups: vec![DETROIT, BOSTON],
            reason: None,
        },
    ]);
    split.winner.all([
        remove_user("eve"),
        create(1, "card.1", "bob", "desktop", BOSTON),
    ]);
    let mut report = Some(split.report());
    let mut story = Transcript::of(split.winner);
    story.tell("the losing side reports", report.clone().unwrap());
    story.tell("and reports again", report.take().unwrap());
    story.tell(
        "nobody knows that one",
        discard(&[setting("events.history")]),
    );
    story.tell(
        "one setting is taken",
        apply(&[setting("sessions.history")]),
    );
    story.tell("and cannot be twice", apply(&[setting("sessions.history")]));
    let desktop = Subject::Application(app_name("desktop"));
    story.tell("desktop is in use", apply(std::slice::from_ref(&desktop)));
    let ann = Subject::User(user_name("ann"));
    story.tell("ann is the last", apply(std::slice::from_ref(&ann)));
    story.tell("the other way about it goes: max comes first", apply(&[]));
    story.tell("what is left is thrown away", discard(&[desktop]));
    story.tell("then there is nothing", discard(&[]));
    insta::assert_snapshot!(story.text);
    let directory = &story.told.directory;
    assert_eq!(directory.divergences().count(), 0);
    let newyork = directory.server(NEWYORK).unwrap();
    assert!(!newyork.mode.is_online());
    assert_eq!(directory.group().backups, [DETROIT, BOSTON]);
    assert!(directory.removed(SEATTLE).is_some());
    assert!(directory.user(&user_name("eve")).unwrap().disabled);
}

#[test]
fn labels_and_power_are_put_in_place_and_checked() {
    let mut split = Split::now();
    let edited = |power, id| {
        let mut server = EditedServer::from(&**split.fork.server(BOSTON).unwrap());
        server.power = power;
        server.labels = BTreeMap::from([("rack".to_owned(), "b".to_owned())]);
        Diverged {
            formation: formation(2).id,
            subject: Subject::Server(id),
            fork: None,
            loser: Some(Content::Server(server)),
            number: 50,
        }
    };
    let unknown = ServerId::from_bytes([77; 16]);
    let records = vec![
        edited(2_000, BOSTON),
        edited(3, NEWYORK),
        edited(1_000, unknown),
    ];
    let divergence = Divergence::of(&split.loser.directory, 40, true);
    split.winner.all([keep(divergence, records, true)]);
    let applied = split.winner.tell(apply(&[]));
    let Ok(Outcome::Divergence {
        done: 1,
        left: 2,
        refused,
    }) = applied.outcome
    else {
        panic!("{applied:?}")
    };
    let words: Vec<_> = refused.iter().map(|(_, why)| why.to_string()).collect();
    assert_eq!(
        words,
        [
            "power: it must be from 0.1 to 1000",
            "server boston: it is no member here: it may join by an invitation"
        ]
    );
    let boston = split.winner.directory.server(BOSTON).unwrap();
    assert_eq!((boston.power, boston.labels.len()), (2_000, 1));
}

/// What another side reports is held to what people are held to.
#[test]
fn what_an_ordinary_change_may_not_say_is_refused() {
    let mut split = Split::now();
    let of = |subject: Subject, content| Diverged {
        formation: formation(2).id,
        subject,
        fork: None,
        loser: Some(content),
        number: 50,
    };
    let pause = |reason: &str, days: u64| Pause {
        by: "ann".to_owned(),
        reason: reason.to_owned(),
        since: START,
        until: START.after(Duration::from_hours(24 * days)),
    };
    let portal = ExternalName::new("portal.example").unwrap();
    let lost = ExternalCertificate {
        key: trust::Sealed::default(),
        ..certificate(portal.clone(), 1)
    };
    let lost = Content::Certificate(lost.into());
    for (pause, why) in [
        (pause(" ", 2), "reason: a pause has one"),
        (pause("new disks", 30), "span: a pause lasts from 1m to 7d"),
    ] {
        let records = vec![
            of(Subject::Pause, Content::Pause(pause)),
            of(Subject::Certificate(portal.clone()), lost.clone()),
        ];
        let divergence = Divergence::of(&split.loser.directory, 40, true);
        split = Split::now();
        split.winner.all([keep(divergence, records, true)]);
        let refused = |told: &mut Told, subject| {
            let outcome = told.tell(apply(&[subject])).outcome;
            outcome.unwrap_err().to_string()
        };
        assert_eq!(refused(&mut split.winner, Subject::Pause), why);
        let key = refused(&mut split.winner, Subject::Certificate(portal.clone()));
        assert_eq!(key, "key: there is none");
    }
}

/// A value that waits for a decision was in the directory of a server that has left since.
#[test]
fn a_secret_that_is_put_in_place_is_still_to_be_changed() {
    let mut split = Split::now();
    let secret = |name: &str, exposed| StoredSecret {
        name: name.parse().unwrap(),
        description: None,
        sealed: trust::Sealed(vec![1]),
        created: START,
        set: START,
        by: "ann".to_owned(),
        exposed,
        version_number: 3,
    };
    let before = secret::Exposed {
        server: "chicago".to_owned(),
        at: START,
    };
    let of = |secret: StoredSecret| Diverged {
        formation: formation(2).id,
        subject: Subject::Secret(secret.name.clone()),
        fork: None,
        loser: Some(Content::Secret(secret.into())),
        number: 50,
    };
    let records = vec![of(secret("mail", None)), of(secret("shop", Some(before)))];
    let divergence = Divergence::of(&split.loser.directory, 40, true);
    split.winner.all([keep(divergence, records, true)]);
    split.winner.all([Command::RemoveServer {
        server: NEWYORK,
        reason: None,
    }]);
    split.winner.all([apply(&[])]);
    let directory = &split.winner.directory;
    let exposed = directory.secrets().map(|secret| {
        let exposed = secret.exposed.as_ref().unwrap();
        (secret.name.to_string(), exposed.server.clone())
    });
    let expected = [("mail", "newyork"), ("shop", "chicago")];
    let expected = expected.map(|(name, server)| (name.to_owned(), server.to_owned()));
    assert_eq!(exposed.collect::<Vec<_>>(), expected);
}

#[test]
fn several_servers_report_and_the_one_that_went_furthest_counts() {
    let mut told = Told::four_servers();
    let side = |number| Divergence {
        formation: formation(2),
        number,
        ..Divergence::of(&founded(), 40, true)
    };
    let says = |key: &str, value: &str, number| Diverged {
        formation: formation(2).id,
        subject: setting(key),
        fork: None,
        loser: Some(Content::Setting(value.to_owned())),
        number,
    };
    let value = |told: &Told| {
        let record = told
            .directory
            .diverged_record(formation(2).id, &setting("sessions.history"));
        record.map(|one| (one.loser.clone(), one.number))
    };
    let held = |text: &str, number| Some((Some(Content::Setting(text.to_owned())), number));
    told.all([keep(
        side(50),
        vec![says("sessions.history", "5", 50)],
        false,
    )]);
    assert_eq!(value(&told), held("5", 50));
    let divergence = |told: &Told| (**told.directory.divergence(formation(2).id).unwrap()).clone();
    assert!(!divergence(&told).complete);
    told.all([keep(
        side(45),
        vec![says("sessions.history", "4", 45)],
        true,
    )]);
    assert_eq!(value(&told), held("5", 50));
    assert!(divergence(&told).complete);
    // The first one was interrupted, and comes again as a whole.
    assert_eq!(divergence(&told).number, 45);
    told.all([keep(
        side(50),
        vec![
            says("sessions.history", "5", 50),
            says("sessions.default-app", "six", 46),
        ],
        true,
    )]);
    assert_eq!(divergence(&told).number, 50);
    assert_eq!(told.directory.diverged(formation(2).id).count(), 2);
    // What is meant for another formation is not kept in this one.
    let mut astray = keep(side(60), Vec::new(), true);
    if let Command::KeepDivergence { within, .. } = &mut astray {
        *within = formation(3).id;
    }
    assert!(told.tell(astray).outcome.is_err());
    told.all([keep(
        side(60),
        vec![says("sessions.history", "6", 60)],
        true,
    )]);
    assert_eq!(value(&told), held("6", 60));
    assert_eq!(divergence(&told).number, 60);
    let events = told.directory.events_back();
    let kept = events.filter(|event| event.kind == EventKind::DivergenceKept);
    assert_eq!(kept.count(), 3);
    // Once it is decided on, a server that comes late with less does not bring it back, and one with more does.
    told.all([discard(&[])]);
    assert!(told.directory.divergence(formation(2).id).is_none());
    told.all([keep(
        side(55),
        vec![says("sessions.history", "5", 55)],
        true,
    )]);
    assert_eq!(value(&told), None);
    told.all([keep(
        side(61),
        vec![says("sessions.history", "7", 61)],
        true,
    )]);
    assert_eq!(value(&told), held("7", 61));
    // The losing side went back to what the winner has.
    let mut back = says("sessions.history", "8", 62);
    back.loser = None;
    told.all([keep(side(62), vec![back], true)]);
    assert_eq!(value(&told), None);
    assert_eq!(told.directory.divergences().count(), 0);
}

#[test]
fn reports_that_contradict_themselves_are_refused() {
    let mut told = Told::four_servers();
    let side = Divergence {
        formation: formation(2),
        ..Divergence::of(&founded(), 40, true)
    };
    let record = |subject, loser| Diverged {
        formation: formation(2).id,
        subject,
        fork: None,
        loser: Some(loser),
        number: 1,
    };
    let bob = Content::User(user("bob", Role::User).into());
    let wrong = [
        record(setting("sessions.history"), bob.clone()),
        record(Subject::User(user_name("eve")), bob.clone()),
        record(Subject::Pause, Content::Backups(Vec::new())),
        Diverged {
            formation: formation(3).id,
            ..record(Subject::User(user_name("bob")), bob.clone())
        },
    ];
    for record in wrong {
        let refused = told.tell(keep(side.clone(), vec![record], true)).outcome;
        assert!(
            matches!(refused, Err(Refusal::Invalid { .. })),
            "{refused:?}"
        );
    }
    let own = Divergence::of(&told.directory, 40, true);
    let refused = told.tell(keep(own, Vec::new(), true)).outcome;
    assert!(
        matches!(refused, Err(Refusal::Invalid { .. })),
        "{refused:?}"
    );
    assert_eq!(told.directory.divergences().count(), 0);
    let many = vec![record(Subject::User(user_name("bob")), bob); Command::DIVERGED_LIMIT + 1];
    let refused = told.tell(keep(side, many, true)).outcome;
    assert!(
        matches!(refused, Err(Refusal::TooLarge { .. })),
        "{refused:?}"
    );
}

#[test]
fn tables_are_bounded_and_what_was_decided_on_is_forgotten_in_the_end() {
    let mut told = Told::four_servers();
    let side = |number: u8| Divergence {
        formation: formation(number),
        ..Divergence::of(&founded(), 40, true)
    };
    let records = |number: u8, from: usize, count: usize| {
        let record = |place: usize| Diverged {
            formation: formation(number).id,
            subject: Subject::User(user_name(&format!("user{place}"))),
            fork: None,
            loser: Some(Content::User(
                user(&format!("user{place}"), Role::User).into(),
            )),
            number: 1,
        };
        (from..from + count).map(record).collect::<Vec<_>>()
    };
    let most = u8::try_from(DIVERGENCES).unwrap();
    for number in 100..100 + most {
        told.all([keep(side(number), records(number, 0, 1), true)]);
    }
    let refused = told.tell(keep(side(2), records(2, 0, 1), true)).outcome;
    let full = |kind| {
        let limit = match kind {
            change::Kind::Divergence => DIVERGENCES,
            _ => RECORDS,
        } as u64;
        Err(Refusal::Full { kind, limit })
    };
    assert_eq!(refused, full(change::Kind::Divergence));
    for number in 100..100 + most {
        told.all([Command::DiscardDiverged {
            formation: formation(number).id,
            subjects: Vec::new(),
            reason: None,
        }]);
    }
    assert_eq!(told.directory.divergences().count(), 0);
    let remembered = |told: &Told| {
        let of_divergences = |record: &Record| matches!(record, Record::Divergence(_));
        told.directory.records().filter(of_divergences).count()
    };
    assert_eq!(remembered(&told), DIVERGENCES);
    for from in (0..RECORDS).step_by(Command::DIVERGED_LIMIT) {
        told.all([keep(
            side(2),
            records(2, from, Command::DIVERGED_LIMIT),
            false,
        )]);
    }
    assert_eq!(remembered(&told), DIVERGENCES);
    let refused = told
        .tell(keep(side(2), records(2, RECORDS, 1), true))
        .outcome;
    assert_eq!(refused, full(change::Kind::Diverged));
    let refused = told.tell(discard(&[])).outcome;
    assert!(
        matches!(refused, Err(Refusal::TooLarge { .. })),
        "{refused:?}"
    );
}

#[test]
fn changes_by_people_are_told_from_the_others() {
    let mut told = Told::four_servers();
    let last = |told: &Told| told.directory.group().last_user_change;
    let expect = |told: &mut Told, command: Command, counts: bool| {
        let before = last(told);
        told.all([command.clone()]);
        let number = told.directory.group().number;
        let wanted = if counts { number } else { before };
        assert_eq!(last(told), wanted, "{command:?}");
    };
    expect(&mut told, set("sessions.history", "5"), true);
    expect(&mut told, report(NEWYORK, 9), false);
    expect(&mut told, create(1, "card.1", "bob", "shell", BOSTON), true);
    // A login that finds its session there changes nothing.
    expect(
        &mut told,
        create(2, "card.1", "bob", "shell", BOSTON),
        false,
    );
    expect(&mut told, observe(BOSTON, 1, Seen::Suspended), false);
    expect(&mut told, offline(NEWYORK, None), true);
    expect(&mut told, pause(60_000), true);
    expect(
        &mut told,
        Command::ChangePause {
            change: PauseChange::RunOut,
        },
        false,
    );
    // A refused change is none.
    let before = last(&told);
    assert!(told.tell(remove_user("nobody")).outcome.is_err());
    assert_eq!(last(&told), before);
    // A server that puts another one online at the time that was said does so by itself.
    let change = |author| Change {
        id: ChangeId::from_bytes([0xee; 16]),
        at: told.now(),
        author,
        command: Command::SetMode {
            servers: vec![NEWYORK],
            mode: Mode::Online,
        },
    };
    assert!(!change(Author::Server(BOSTON)).is_user_change());
    let by_hand = Author::Local {
        server: BOSTON,
        uid: 0,
    };
    assert!(change(by_hand).is_user_change());
}

#[test]
fn no_password_hash_is_in_the_words_of_a_divergence() {
    let mut split = Split::now();
    split.loser.all([put_user(user("max", Role::User), None)]);
    let words = format!("{:?}", split.report());
    assert!(
        words.contains("max") && !words.contains("hash of"),
        "{words}"
    );
}
