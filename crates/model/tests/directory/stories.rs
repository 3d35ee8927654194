//! What happens to a group of four servers, told as transcripts: each change, what came of it, and the events it made.

use crate::common::*;
use model::session::EndReason;
use model::*;
use std::fmt::Write;

/// A transcript that a reviewer can read.
pub(crate) struct Transcript {
    pub(crate) told: Told,
    pub(crate) text: String,
}

impl Transcript {
    pub(crate) fn of(told: Told) -> Self {
        Self {
            told,
            text: String::new(),
        }
    }

    /// One change: what it is in words, and what came of it.
    pub(crate) fn tell(&mut self, words: &str, command: Command) {
        let applied = self.told.tell(command);
        writeln!(self.text, "{words}").unwrap();
        match &applied.outcome {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Session {
                session,
                host,
                created,
            }) => {
                let what = if *created { "made" } else { "found" };
                let host = self.told.directory.name_of(*host);
                writeln!(
                    self.text,
                    "  = session {} {what} on {host}",
                    brief(*session)
                )
                .unwrap();
            }
            Ok(Outcome::Registered { end }) => {
                let end: Vec<_> = end.iter().map(|id| brief(*id)).collect();
                writeln!(self.text, "  = registered, to end: [{}]", end.join(", ")).unwrap();
            }
            Ok(Outcome::Divergence {
                done,
                left,
                refused,
            }) => {
                writeln!(self.text, "  = {done} done, {left} left").unwrap();
                for (subject, refusal) in refused {
                    writeln!(self.text, "  {subject} refused: {refusal}").unwrap();
                }
            }
            Err(refusal) => writeln!(self.text, "  refused: {refusal}").unwrap(),
        }
        for event in &applied.events {
            let fields: Vec<_> = event
                .fields
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let kind = event.kind.as_str();
            writeln!(
                self.text,
                "  #{} {kind} {} {}",
                event.seq,
                event.subject,
                fields.join(" ")
            )
            .unwrap();
        }
        assert_eq!(
            self.told.directory.check(),
            Vec::<String>::new(),
            "after {words}"
        );
    }

    /// The sessions as they stand.
    pub(crate) fn sessions(&mut self) {
        for session in self.told.directory.sessions() {
            let current = if session.current { "current" } else { "" };
            let reason = session
                .reason
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            let line = format!(
                "  | {} {} {} {} on {} {} {current} {reason}",
                brief(session.id),
                session.token,
                session.user,
                session.app,
                self.told.directory.name_of(session.host),
                session.state.as_str(),
            );
            writeln!(self.text, "{}", line.trim_end()).unwrap();
        }
    }
}

/// The first byte of an id: the stories number their sessions.
fn brief(id: SessionId) -> String {
    id.as_bytes()[0].to_string()
}

fn invite(number: u8, standing: Standing, now: UnixMillis) -> Command {
    let expires = now.after(std::time::Duration::from_secs(60));
    Command::Invite {
        invitation: Box::new(invitation(number, standing, expires)),
    }
}

fn admit(id: ServerId, name: &str, standing: Standing, code: u8) -> Command {
    Command::AdmitServer {
        server: Box::new(server(id, name, standing)),
        invitation: invitation_id(code),
    }
}

#[test]
fn an_invitation_is_taken_back_once_and_not_after_it_was_used() {
    let mut told = Told::founded();
    let withdraw = |number: u8| Command::WithdrawInvitation {
        invitation: invitation_id(number),
        reason: "detroit did not come".to_owned(),
    };
    told.all([
        invite(1, Standing::Voter, START),
        invite(2, Standing::Voter, START),
        admit(NEWYORK, "newyork", Standing::Voter, 1),
        withdraw(2),
    ]);
    let used = told.tell(withdraw(1)).outcome;
    assert!(
        matches!(used, Err(Refusal::InvitationUsed { .. })),
        "{used:?}"
    );
    for gone in [withdraw(2), admit(DETROIT, "detroit", Standing::Voter, 2)] {
        let gone = told.tell(gone).outcome;
        assert!(matches!(gone, Err(Refusal::NotFound { .. })), "{gone:?}");
    }
}

#[test]
fn joining() {
    let mut story = Transcript::of(Told::founded());
    story.tell("ann invites a voter", invite(1, Standing::Voter, START));
    story.tell(
        "newyork joins as a witness instead",
        admit(NEWYORK, "newyork", Standing::Witness, 1),
    );
    story.tell(
        "a server called Boston joins",
        admit(NEWYORK, "Boston", Standing::Voter, 1),
    );
    story.tell(
        "newyork joins",
        admit(NEWYORK, "newyork", Standing::Voter, 1),
    );
    story.tell(
        "detroit uses the same code",
        admit(DETROIT, "detroit", Standing::Voter, 1),
    );
    story.tell(
        "detroit uses a code that nobody made",
        admit(DETROIT, "detroit", Standing::Voter, 7),
    );
    story.tell("newyork starts", report(NEWYORK, 2));
    story.tell(
        "newyork has caught up",
        Command::SetVoting {
            server: NEWYORK,
            voting: true,
        },
    );
    story.tell("ann invites a witness", invite(2, Standing::Witness, START));
    story.tell(
        "a clone of newyork joins",
        admit(NEWYORK, "clone", Standing::Witness, 2),
    );
    story.tell(
        "seattle joins as witness",
        admit(SEATTLE, "seattle", Standing::Witness, 2),
    );
    story.tell(
        "seattle is put on the backup list",
        Command::SetBackups {
            backups: vec![BOSTON, SEATTLE],
            reason: None,
        },
    );
    story.told.wait(120_000);
    story.tell(
        "ann invites again",
        invite(3, Standing::Voter, story.told.now()),
    );
    story.told.wait(120_000);
    story.tell(
        "detroit joins too late",
        admit(DETROIT, "detroit", Standing::Voter, 3),
    );
    insta::assert_snapshot!(story.text);
}

#[test]
fn returning_and_leaving() {
    let mut story = Transcript::of(Told::four_servers());
    story.tell("newyork comes back without its log", report(NEWYORK, 22));
    story.tell("newyork reports again", report(NEWYORK, 22));
    story.tell(
        "newyork is put at the head",
        Command::SetBackups {
            backups: vec![NEWYORK, BOSTON, DETROIT],
            reason: None,
        },
    );
    story.tell(
        "newyork has caught up",
        Command::SetVoting {
            server: NEWYORK,
            voting: true,
        },
    );
    story.tell(
        "newyork gets a session",
        create(1, "card.1", "bob", "shell", NEWYORK),
    );
    story.tell(
        "boston is removed",
        Command::RemoveServer {
            server: BOSTON,
            reason: None,
        },
    );
    let reason = Some("sold".to_owned());
    story.tell(
        "newyork is removed",
        Command::RemoveServer {
            server: NEWYORK,
            reason,
        },
    );
    story.sessions();
    story.tell(
        "ann invites a voter",
        invite(9, Standing::Voter, story.told.now()),
    );
    story.tell(
        "newyork joins again with its old data",
        admit(NEWYORK, "newyork", Standing::Voter, 9),
    );
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_host_is_lost_and_returns() {
    let mut story = Transcript::of(Told::four_servers());
    let now = story.told.now();
    story.tell(
        "bob's card gets a shell on detroit",
        create(1, "card.7", "bob", "shell", DETROIT),
    );
    story.tell(
        "at the same moment, on another server",
        create(2, "card.7", "bob", "shell", SEATTLE),
    );
    story.tell(
        "eve takes bob's card",
        create(3, "card.7", "eve", "shell", SEATTLE),
    );
    story.tell("bob attaches", observe(DETROIT, 1, attached(now)));
    story.tell(
        "eve's pseudo-token gets one too",
        create(4, "pseudo.x", "eve", "shell", DETROIT),
    );
    story.tell("eve's runs", observe(DETROIT, 4, Seen::Suspended));
    story.sessions();
    let reasons = vec![Reason {
        rule: "silent".to_owned(),
        pass: true,
        detail: "silent for 1.6 s".to_owned(),
    }];
    story.tell(
        "detroit is silent",
        Command::OrphanSessions {
            host: DETROIT,
            reasons,
        },
    );
    story.tell(
        "bob's client comes to seattle",
        create(5, "card.7", "bob", "shell", SEATTLE),
    );
    story.tell("it attaches there", observe(SEATTLE, 5, attached(now)));
    story.sessions();
    let complete_to = Some(story.told.directory.group().number);
    story.tell(
        "a session is made on detroit just now",
        create(6, "card.9", "eve", "desktop", DETROIT),
    );
    story.tell(
        "detroit is back with bob's shell and one that nobody knew, without eve's",
        Command::RegisterSessions {
            host: DETROIT,
            sessions: vec![
                registration(1, "card.7", "bob", "shell"),
                registration(7, "card.5", "eve", "desktop"),
            ],
            complete_to,
        },
    );
    story.sessions();
    insta::assert_snapshot!(story.text);
}

/// Bob's card has a shell on detroit, which is lost, and another on seattle then.
fn moved_from_detroit_to_seattle() -> Transcript {
    let mut story = Transcript::of(Told::four_servers());
    story.told.all([
        create(1, "card.7", "bob", "shell", DETROIT),
        Command::OrphanSessions {
            host: DETROIT,
            reasons: Vec::new(),
        },
        create(5, "card.7", "bob", "shell", SEATTLE),
    ]);
    story
}

/// The report was under way when its host was lost, and came after the user had a session elsewhere.
#[test]
fn what_a_lost_host_saw_before_says_nothing_of_now() {
    let mut story = moved_from_detroit_to_seattle();
    let now = story.told.now();
    story.told.all([
        observe(SEATTLE, 5, Seen::Suspended),
        observe(DETROIT, 1, attached(now)),
    ]);
    let (token, app) = ("card.7".parse().unwrap(), "shell".parse().unwrap());
    let current = |story: &Transcript| {
        let current = story.told.directory.current_session(&token, &app);
        current.map(|session| session.host)
    };
    assert_eq!(current(&story), Some(SEATTLE));
    story.told.all([Command::RegisterSessions {
        host: DETROIT,
        sessions: vec![registration(1, "card.7", "bob", "shell")],
        complete_to: Some(100),
    }]);
    assert_eq!(current(&story), Some(SEATTLE));
}

#[test]
fn what_ended_by_hand_stays_ended() {
    let mut story = moved_from_detroit_to_seattle();
    story.told.all([Command::RegisterSessions {
        host: DETROIT,
        sessions: vec![registration(1, "card.7", "bob", "shell")],
        complete_to: Some(100),
    }]);
    story.sessions();
    story.tell(
        "bob ends the new shell",
        Command::EndSession {
            session: session_id(5),
            by: "bob".to_owned(),
        },
    );
    story.tell(
        "bob's card asks again: the old one is still there",
        create(8, "card.7", "bob", "shell", NEWYORK),
    );
    story.tell(
        "ann ends it while detroit does not listen",
        Command::EndSession {
            session: session_id(1),
            by: "ann".to_owned(),
        },
    );
    story.tell(
        "detroit registers it once more",
        Command::RegisterSessions {
            host: DETROIT,
            sessions: vec![registration(1, "card.7", "bob", "shell")],
            complete_to: None,
        },
    );
    story.sessions();
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_session_goes_on_on_another_server() {
    let mut story = Transcript::of(Told::four_servers());
    let go_on = |session: u8, new: u8, to| Command::MoveSession {
        session: session_id(session),
        new: session_id(new),
        to,
        by: "ann".to_owned(),
    };
    story.tell(
        "bob starts a shell",
        create(1, "card.7", "bob", "shell", NEWYORK),
    );
    story.tell("it is there already", go_on(1, 2, NEWYORK));
    story.tell("ann has it go on in boston", go_on(1, 2, BOSTON));
    story.tell("the first has ended", go_on(1, 3, SEATTLE));
    story.sessions();
    story.told.all([Command::OrphanSessions {
        host: BOSTON,
        reasons: Vec::new(),
    }]);
    story.tell(
        "boston is lost, and it need not be waited for",
        go_on(2, 3, SEATTLE),
    );
    story.tell("there is none", go_on(9, 4, SEATTLE));
    story.sessions();
    insta::assert_snapshot!(story.text);
}

#[test]
fn limits_and_permissions() {
    let mut story = Transcript::of(Told::four_servers());
    let version = |story: &Transcript, name: &str| {
        story
            .told
            .directory
            .app(&app_name(name))
            .map(|app| app.version_number)
    };
    let limited = Application {
        max_per_user: Some(1),
        max_per_server: Some(2),
        users: vec!["@staff".to_owned(), "eve".to_owned()],
        hosts: [("rack".to_owned(), "a".to_owned())].into(),
        ..shell("desktop")
    };
    let expect = version(&story, "desktop");
    story.tell("desktop gets limits", put_app(limited.clone(), expect));
    story.tell(
        "the same again, made for the old version",
        put_app(limited.clone(), expect),
    );
    story.tell(
        "bob is not staff",
        create(1, "card.1", "bob", "desktop", NEWYORK),
    );
    story.tell(
        "eve may, but newyork has no label",
        create(1, "card.2", "eve", "desktop", NEWYORK),
    );
    let expect = version(&story, "desktop");
    let unlabelled = Application {
        hosts: [].into(),
        ..limited
    };
    story.tell("desktop runs everywhere", put_app(unlabelled, expect));
    story.tell(
        "eve's first",
        create(1, "card.2", "eve", "desktop", NEWYORK),
    );
    story.tell(
        "eve's second, with another card",
        create(2, "card.3", "eve", "desktop", NEWYORK),
    );
    story.tell(
        "newyork is lost",
        Command::OrphanSessions {
            host: NEWYORK,
            reasons: Vec::new(),
        },
    );
    story.tell(
        "eve may have another now",
        create(2, "card.2", "eve", "desktop", BOSTON),
    );
    story.tell(
        "newyork returns: one is too many",
        Command::RegisterSessions {
            host: NEWYORK,
            sessions: vec![registration(1, "card.2", "eve", "desktop")],
            complete_to: Some(story.told.directory.group().number),
        },
    );
    story.sessions();
    insta::assert_snapshot!(story.text);
}

#[test]
fn what_is_needed_stays() {
    let mut story = Transcript::of(Told::four_servers());
    story
        .told
        .all([create(1, "card.2", "eve", "desktop", NEWYORK)]);
    story.tell(
        "the application is still in use",
        Command::RemoveApp {
            name: app_name("desktop"),
        },
    );
    story.tell(
        "ann is the only administrator",
        Command::RemoveUser {
            name: user_name("ann"),
        },
    );
    story.tell(
        "nobody knows mallory",
        create(9, "card.9", "mallory", "shell", BOSTON),
    );
    story.tell(
        "nobody knows this application",
        create(9, "card.9", "bob", "vnc", BOSTON),
    );
    story.tell(
        "an application without anything to run",
        put_app(Application::named(app_name("empty")), None),
    );
    insta::assert_snapshot!(story.text);
}

#[test]
fn settings_are_checked() {
    let mut story = Transcript::of(Told::four_servers());
    let set = |key: &str, value: &str, on| Command::SetSetting {
        key: key.to_owned(),
        value: value.to_owned(),
        on,
    };
    story.tell("faster", set("resilience.monitor-interval", "50 ms", None));
    story.tell(
        "faster, spelled right",
        set("resilience.monitor-interval", "50ms", None),
    );
    story.tell(
        "as fast as can be",
        set("resilience.monitor-interval", "20ms", None),
    );
    story.tell(
        "fewer attempts make it too hasty",
        set("resilience.monitor-attempts", "3", None),
    );
    story.tell(
        "misspelled",
        set("resilience.monitor-intervall", "50ms", None),
    );
    story.tell("out of range", set("tunnel.dead-after", "5m", None));
    story.tell(
        "one server's own",
        set("tunnel.retain", "120s", Some(NEWYORK)),
    );
    story.tell(
        "too short beside dead-after",
        set("tunnel.retain", "1s", Some(NEWYORK)),
    );
    story.tell(
        "not a server's own",
        set("balance.method", "round-robin", Some(NEWYORK)),
    );
    story.tell(
        "of a server that is none",
        set("tunnel.retain", "2m", Some(ServerId::from_bytes([99; 16]))),
    );
    story.tell("a word", set("balance.method", "roundrobin", None));
    story.tell("the right word", set("balance.method", "round-robin", None));
    story.tell("the same again", set("balance.method", "round-robin", None));
    story.tell(
        "back to the default",
        Command::UnsetSetting {
            key: "balance.method".to_owned(),
            on: None,
        },
    );
    story.tell(
        "a very patient second backup",
        set("resilience.rank-delay", "60s", None),
    );
    for (key, on, value) in story.told.directory.settings().entries() {
        let on = on
            .map(|on| format!(" on {}", story.told.directory.name_of(on)))
            .unwrap_or_default();
        writeln!(story.text, "  | {key}{on} = {value}").unwrap();
    }
    insta::assert_snapshot!(story.text);
}

#[test]
fn the_primary_changes() {
    let mut story = Transcript::of(Told::four_servers());
    let take = |server, planned, now: UnixMillis| Command::TakePrimary {
        server,
        planned,
        outage_ms: 471,
        steps: vec![
            ("last-heard".to_owned(), now),
            (
                "elected".to_owned(),
                now.after(std::time::Duration::from_millis(460)),
            ),
        ],
        reasons: vec![Reason {
            rule: "on-backup-list".to_owned(),
            pass: true,
            detail: "first on the list".to_owned(),
        }],
    };
    story.tell(
        "boston is lost, newyork takes over",
        take(NEWYORK, false, START),
    );
    story.tell(
        "newyork restarts and nobody was faster",
        take(NEWYORK, false, START),
    );
    story.tell("ann promotes detroit", take(DETROIT, true, START));
    story.tell(
        "seattle leaves the list",
        Command::SetBackups {
            backups: vec![DETROIT, NEWYORK, BOSTON],
            reason: Some("detroit has more memory".to_owned()),
        },
    );
    story.tell("seattle cannot take it", take(SEATTLE, false, START));
    let edit = |edit, reason: Option<&str>| Command::EditBackups {
        edit,
        reason: reason.map(str::to_owned),
    };
    let (server, first) = (SEATTLE, Some(1));
    let add = BackupEdit::Add {
        server,
        place: first,
    };
    story.tell("seattle is put first", edit(add, Some("new disks")));
    story.tell("seattle is put there again", edit(add, None));
    let last = BackupEdit::Move { server, place: 9 };
    story.tell("seattle goes to the end", edit(last, None));
    let gone = BackupEdit::Remove { server };
    story.tell("seattle is taken off", edit(gone, None));
    story.tell("seattle is taken off again", edit(gone, None));
    let failover = story.told.directory.group().last_failover.clone();
    writeln!(story.text, "{failover:#?}").unwrap();
    let spooled = |kind, words: &str| Event {
        seq: 0,
        at: START,
        server: None,
        kind,
        severity: Severity::Warning,
        subject: words.to_owned(),
        fields: Default::default(),
        reasons: Vec::new(),
    };
    let events = vec![
        spooled(EventKind::DiskSpace, "boston"),
        spooled(EventKind::ServerReachability, "newyork"),
    ];
    let record = |first| Command::RecordEvents {
        server: BOSTON,
        first,
        events: events.clone(),
    };
    story.tell("boston tells two events", record(1));
    story.tell("and again, not knowing whether it was heard", record(1));
    story.tell("and from the second on", record(2));
    insta::assert_snapshot!(story.text);
}

#[test]
fn automatic_failover_is_paused() {
    let mut story = Transcript::of(Told::four_servers());
    let minutes = |count: u64| count * 60_000;
    let change = |change| Command::ChangePause { change };
    let pause = |reason: &str, span_ms| {
        change(PauseChange::Begin {
            reason: reason.to_owned(),
            span_ms,
        })
    };
    let resume = |reason: Option<&str>| {
        change(PauseChange::End {
            reason: reason.map(str::to_owned),
        })
    };
    let run_out = || change(PauseChange::RunOut);
    story.tell("nothing is there to resume", resume(None));
    story.tell("ann gives no reason", pause(" ", minutes(60)));
    story.tell("ann wants a second", pause("new switches", 1_000));
    story.tell("ann wants a month", pause("new switches", minutes(43_200)));
    story.tell("ann tells all", pause(&"x".repeat(1_025), minutes(60)));
    story.tell("ann breaks lines", pause("new\nswitches", minutes(60)));
    story.tell("ann pauses it", pause("new switches", minutes(60)));
    let told = &story.told;
    let paused = |at| told.directory.group().pause_at(at).map(ToString::to_string);
    let now = told.now();
    assert_eq!(
        paused(now).as_deref(),
        Some("automatic failover is paused by ann until 2023-11-14T23:13:43.000Z: new switches")
    );
    let last = now.after(std::time::Duration::from_millis(minutes(60) - 1));
    assert!(paused(last).is_some() && paused(UnixMillis(last.0 + 1)).is_none());
    story.tell("a server is in a hurry", run_out());
    story.tell("ann needs longer", pause("and new cables", minutes(90)));
    story.told.wait(minutes(61));
    story.tell("the first hour is over", run_out());
    story.tell("all is well", resume(Some("done early")));
    story.tell("and said twice", resume(None));
    story.tell("ann pauses it again", pause("cleaning", minutes(1)));
    story.told.wait(minutes(1));
    story.tell("a minute later it is too late to resume", resume(None));
    story.tell("the primary says that it is over", run_out());
    story.tell("and says it again", run_out());
    assert_eq!(story.told.directory.group().pause, None);
    insta::assert_snapshot!(story.text);
}

#[test]
fn the_third_voter_makes_it_a_quorum_and_nothing_but_an_administrator_makes_it_less() {
    let mode = |told: &Told| told.directory.group().mode;
    let mut told = Told::founded();
    assert_eq!(mode(&told), ResilienceMode::Availability);
    told = Told::four_servers();
    assert_eq!(mode(&told), ResilienceMode::Quorum);
    let counts = |server, voting| Command::SetVoting { server, voting };
    told.all([counts(SEATTLE, false), counts(DETROIT, false)]);
    assert_eq!(mode(&told), ResilienceMode::Quorum, "never by itself");
    told.all([counts(DETROIT, true)]);
    let remove = Command::RemoveServer {
        server: DETROIT,
        reason: None,
    };
    let refused = told.tell(remove.clone()).outcome.unwrap_err();
    assert!(matches!(refused, Refusal::ModeNeeded { .. }), "{refused}");
    told.all([
        Command::SetSetting {
            key: "resilience.mode".to_owned(),
            value: "availability".to_owned(),
            on: None,
        },
        remove,
    ]);
    assert!(told.directory.server(DETROIT).is_none());
    assert_eq!(mode(&told), ResilienceMode::Availability);
    told.all([counts(SEATTLE, true)]);
    assert_eq!(mode(&told), ResilienceMode::Availability, "it was chosen");
    told.all([Command::UnsetSetting {
        key: "resilience.mode".to_owned(),
        on: None,
    }]);
    assert_eq!(mode(&told), ResilienceMode::Quorum);
}

#[test]
fn the_other_session_that_was_used_last_is_taken() {
    let mut told = Told::four_servers();
    let lost = |host| Command::OrphanSessions {
        host,
        reasons: Vec::new(),
    };
    let found = |host, session| Command::RegisterSessions {
        host,
        sessions: vec![registration(session, "card.1", "bob", "shell")],
        complete_to: None,
    };
    told.all([
        create(1, "card.1", "bob", "shell", DETROIT),
        lost(DETROIT),
        create(2, "card.1", "bob", "shell", SEATTLE),
        lost(SEATTLE),
        create(3, "card.1", "bob", "shell", BOSTON),
        found(DETROIT, 1),
        found(SEATTLE, 2),
        observe(SEATTLE, 2, attached(START)),
    ]);
    let now = told.now();
    told.all([observe(DETROIT, 1, attached(now)), lost(BOSTON)]);
    let taken = told.tell(create(4, "card.1", "bob", "shell", NEWYORK));
    let expected = Outcome::Session {
        session: session_id(1),
        host: DETROIT,
        created: false,
    };
    assert_eq!(taken.outcome, Ok(expected));
}

/// On the other side of a split nobody knew that two names are one token.
#[test]
fn a_session_that_was_made_under_another_name_of_its_token_is_that_token_s() {
    let mut told = Told::four_servers();
    let token = RegisteredToken {
        token: Token::new("card.1").unwrap(),
        user: "bob".parse().unwrap(),
        app: None,
        home: None,
        enabled: true,
        aliases: vec![Token::new("key.1").unwrap()],
        created: UnixMillis(0),
        version_number: 0,
    };
    told.all([
        Command::PutToken {
            token: Box::new(token),
            expect: None,
        },
        create(1, "card.1", "bob", "shell", DETROIT),
        Command::RegisterSessions {
            host: SEATTLE,
            sessions: vec![registration(9, "key.1", "bob", "shell")],
            complete_to: None,
        },
    ]);
    let card = Token::new("card.1").unwrap();
    let sessions = told.directory.sessions_of(&card);
    assert_eq!(sessions.len(), 2);
    let current = sessions.iter().filter(|session| session.current).count();
    assert_eq!(current, 1, "{sessions:?}");
}

#[test]
fn of_two_sessions_that_meet_the_one_used_last_is_current() {
    let found = |last_attached, client: Option<&str>| {
        let registration = Registration {
            last_attached: Some(last_attached),
            client: client.map(Into::into),
            ..registration(9, "card.1", "bob", "shell")
        };
        Command::RegisterSessions {
            host: SEATTLE,
            sessions: vec![registration],
            complete_to: None,
        }
    };
    let current = |told: &Told| {
        let token = Token::new("card.1").unwrap();
        let app = AppName::new("shell").unwrap();
        let current = told.directory.current_session(&token, &app).unwrap();
        let live = told.directory.live_sessions();
        (current.id, live)
    };
    let begin = || {
        let mut told = Told::four_servers();
        told.all([create(1, "card.1", "bob", "shell", DETROIT)]);
        let now = told.now();
        told.all([
            observe(DETROIT, 1, attached(now)),
            observe(DETROIT, 1, Seen::Suspended),
        ]);
        told
    };
    // Seattle was on the other side of a split; its session was used before, or after, or is in use.
    for (last_attached, client, expected) in [
        (UnixMillis(0), None, 1),
        (UnixMillis(u64::MAX), None, 9),
        (UnixMillis(0), Some("192.0.2.9"), 9),
    ] {
        let mut told = begin();
        told.all([found(last_attached, client)]);
        assert_eq!(current(&told), (session_id(expected), 2));
    }
    // Where the user may have one only, the other ends.
    for (last_attached, expected, ended) in [(UnixMillis(0), 1, 9), (UnixMillis(u64::MAX), 9, 1)] {
        let mut told = begin();
        let shell = told.directory.app(&AppName::new("shell").unwrap()).unwrap();
        let expect = Some(shell.version_number);
        let only = Application {
            max_per_user: Some(1),
            ..Application::clone(shell)
        };
        told.all([put_app(only, expect)]);
        told.all([found(last_attached, None)]);
        assert_eq!(current(&told), (session_id(expected), 1));
        let other = told.directory.session(session_id(ended)).unwrap();
        let reason = other.reason.as_deref();
        let by = session_id(expected);
        assert_eq!(reason, Some(&EndReason::Superseded { by }));
    }
}

#[test]
fn a_change_is_applied_once() {
    let mut told = Told::four_servers();
    let id = ChangeId::from_bytes([77; 16]);
    let first = told.tell_as(id, create(1, "card.1", "bob", "shell", BOSTON));
    let before: Vec<_> = told.directory.sessions().cloned().collect();
    let again = told.tell_as(id, create(2, "card.2", "bob", "shell", BOSTON));
    assert_eq!(again.name, first.name);
    assert_eq!(again.outcome, first.outcome);
    assert!(again.events.is_empty());
    assert!(told.directory.sessions().cloned().eq(before));
    let refused = ChangeId::from_bytes([78; 16]);
    let first = told.tell_as(
        refused,
        Command::RemoveUser {
            name: user_name("nora"),
        },
    );
    told.all([put_user(user("nora", Role::User), None)]);
    let again = told.tell_as(
        refused,
        Command::RemoveUser {
            name: user_name("nora"),
        },
    );
    assert_eq!(again.outcome, first.outcome);
    assert!(told.directory.user(&user_name("nora")).is_some());
}

#[test]
fn stamps_never_go_back() {
    let mut told = Told::founded();
    told.all([put_app(shell("shell"), None)]);
    let before = told.directory.group().clock;
    let change = Change {
        at: UnixMillis(5),
        id: ChangeId::from_bytes([50; 16]),
        ..told.changes[0].clone()
    };
    told.directory.apply(99, &change);
    assert_eq!(told.directory.group().clock, before);
    assert_eq!(told.directory.newest().number, 99);
}

#[test]
fn histories_are_bounded() {
    let mut told = Told::four_servers();
    told.all([Command::SetSetting {
        key: "sessions.history".to_owned(),
        value: "3".to_owned(),
        on: None,
    }]);
    for number in 1..=6 {
        told.all([
            create(number, "card.1", "bob", "shell", BOSTON),
            observe(
                BOSTON,
                number,
                Seen::Ended {
                    reason: EndReason::Exited {
                        code: Some(0),
                        signal: None,
                    },
                },
            ),
        ]);
    }
    let kept: Vec<_> = told
        .directory
        .sessions()
        .map(|session| session.id)
        .collect();
    assert_eq!(kept, [4, 5, 6].map(session_id));
    told.all([Command::SetSetting {
        key: "sessions.history".to_owned(),
        value: "0".to_owned(),
        on: None,
    }]);
    assert_eq!(told.directory.sessions().count(), 0);
    assert_eq!(told.directory.check(), Vec::<String>::new());
}
