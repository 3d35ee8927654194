//! Stored credentials: who is given them, when they are to be changed, and that no value leaves the record.

use crate::common::*;
use model::audit::Action;
use model::sealed::SealedAt;
use model::trust::Sealed;
use model::*;
use std::sync::Arc;

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn secret(of: &str, value: u8) -> StoredSecret {
    StoredSecret {
        name: name(of),
        description: Some("for tests".to_owned()),
        sealed: Sealed(vec![value; usize::from(value)]),
        created: UnixMillis(0),
        set: UnixMillis(0),
        by: "said by apply".to_owned(),
        exposed: None,
        version_number: 0,
    }
}

fn external(text: &str) -> ExternalName {
    ExternalName::new(text).unwrap()
}

fn given(secrets: &str) -> Application {
    Application {
        launch: Some(format!("@pty /bin/sh {secrets}")),
        ..shell("shell")
    }
}

fn remove(of: &str) -> Command {
    Command::ChangeStoredSecret {
        change: StoredSecretChange::Remove { name: name(of) },
    }
}

fn refused(story: &mut Told, command: Command) -> Refusal {
    story.tell(command).outcome.unwrap_err()
}

#[test]
fn an_application_is_given_what_there_is_and_it_stays_as_long() {
    let mut story = Told::founded();
    let missing = refused(&mut story, put_app(given("{secret:mail}"), None));
    assert_eq!(missing.to_string(), r#"there is no secret "mail""#);
    story.all([put_secret(secret("mail", 1), None)]);
    story.all([put_app(given("{secret:mail}"), None)]);
    let used = refused(&mut story, remove("mail"));
    assert_eq!(
        used.to_string(),
        r#"secret "mail" is given to shell: change them first"#
    );
    let version = story.directory.app(&app_name("shell")).unwrap();
    let version = version.version_number;
    for (words, dir, launched) in [
        ("{secret:no name}", None, true),
        ("", Some("/x/{secret:mail}"), true),
    ] {
        let mut app = given(words);
        app.dir = dir.map(str::to_owned);
        let refusal = refused(&mut story, put_app(app, Some(version)));
        assert!(
            matches!(refusal, Refusal::Invalid { .. }),
            "{refusal} {launched}"
        );
    }
    let mut running = running("vnc");
    running.env = [("K".to_owned(), "{secret:mail}".to_owned())].into();
    let refusal = refused(&mut story, put_app(running, None));
    assert!(refusal.to_string().contains("launches none"), "{refusal}");
    story.all([put_app(given(""), Some(version))]);
    story.all([remove("mail")]);
}

#[test]
fn a_new_value_is_noted_and_another_description_changes_nothing_else() {
    let mut story = Told::founded();
    story.all([put_secret(secret("mail", 1), None)]);
    let first = story.directory.secret(&name("mail")).unwrap().clone();
    assert_eq!(first.by, "ann");
    let described = StoredSecret {
        description: None,
        ..(*first).clone()
    };
    story.all([put_secret(described, Some(first.version_number))]);
    let second = story.directory.secret(&name("mail")).unwrap().clone();
    assert_eq!((second.set, second.created), (first.set, first.created));
    story.all([put_secret(secret("mail", 2), Some(second.version_number))]);
    let third = story.directory.secret(&name("mail")).unwrap();
    assert!(third.set > first.set && third.created == first.created);
    let empty = refused(&mut story, put_secret(secret("none", 0), None));
    assert!(matches!(empty, Refusal::Invalid { .. }), "{empty}");
    let limit = StoredSecret::VALUE_LIMIT;
    let large = StoredSecret {
        sealed: Sealed(vec![1; limit + 100]),
        ..secret("large", 1)
    };
    let large = refused(&mut story, put_secret(large, None));
    assert!(matches!(large, Refusal::TooLarge { .. }), "{large}");
    // What the audit log has of it: that a value was set, and none.
    let entries: Vec<_> = story.directory.audited_from(0).collect();
    let set: Vec<_> = entries.iter().map(|one| one.fields.get("value")).collect();
    assert_eq!(set, [Some("set"), None, Some("set")]);
    assert_eq!(entries[0].action, Action::Added);
    for entry in entries {
        for content in [&entry.before, &entry.after].into_iter().flatten() {
            assert!(matches!(content, Content::Secret(secret) if secret.sealed.0.is_empty()));
        }
    }
}

#[test]
fn what_a_server_could_read_that_leaves_is_to_be_changed() {
    let mut story = Told::founded();
    story.all([put_secret(secret("a", 1), None)]);
    story.all([put_secret(secret("b", 2), None)]);
    for (id, named, standing) in [
        (NEWYORK, "newyork", Standing::Voter),
        (DETROIT, "detroit", Standing::NonVoter),
    ] {
        let number = id.as_bytes()[0];
        let expires = story.now().after(std::time::Duration::from_secs(900));
        story.all([
            Command::Invite {
                invitation: Box::new(invitation(number, standing, expires)),
            },
            Command::AdmitServer {
                server: Box::new(server(id, named, standing)),
                invitation: invitation_id(number),
            },
            report(id, number),
        ]);
    }
    let leaves = |server| Command::RemoveServer {
        server,
        reason: None,
    };
    story.all([leaves(DETROIT)]);
    let to_change = |story: &Told| -> Vec<String> {
        let all = story.directory.secrets();
        all.filter(|secret| secret.is_to_change())
            .map(|secret| secret.name.to_string())
            .collect()
    };
    assert_eq!(to_change(&story), Vec::<String>::new());
    let applied = story.tell(leaves(NEWYORK));
    let removed = applied
        .events
        .iter()
        .find(|event| event.kind == EventKind::ServerRemoved);
    assert_eq!(removed.unwrap().fields.get("secrets_to_change"), Some("2"));
    assert_eq!(to_change(&story), ["a", "b"]);
    let exposed = story.directory.secret(&name("a")).unwrap();
    assert_eq!(exposed.exposed.as_ref().unwrap().server, "newyork");
    let version = exposed.version_number;
    story.all([put_secret(secret("a", 3), Some(version))]);
    assert_eq!(to_change(&story), ["b"]);
}

#[test]
fn every_value_is_found_and_sealed_again() {
    let formation = FormationId::from_bytes([3; 16]);
    let here = |value| Some(Content::Secret(Arc::new(secret("b", value))));
    let diverged = Diverged {
        formation,
        subject: Subject::Secret(name("b")),
        fork: here(2),
        loser: here(3),
        number: 1,
    };
    let (portal, other) = (external("portal.example"), external("other.example"));
    let certificate = |name: &ExternalName, key| Arc::new(certificate(name.clone(), key));
    let diverged_key = Diverged {
        formation,
        subject: Subject::Certificate(portal.clone()),
        fork: None,
        loser: Some(Content::Certificate(certificate(&portal, 5))),
        number: 1,
    };
    let records = [
        Record::Secret(Arc::new(secret("a", 1))),
        Record::Secret(Arc::new(secret("lost", 0))),
        Record::Certificate(certificate(&portal, 4)),
        Record::Certificate(certificate(&other, 9)),
        Record::Diverged(Arc::new(diverged)),
        Record::Diverged(Arc::new(diverged_key)),
    ];
    let founded = founded();
    let directory = Directory::from_records(founded.records().chain(records)).unwrap();
    let places: Vec<_> = directory.sealed().into_iter().map(|(at, _)| at).collect();
    assert_eq!(places.len(), 8, "{places:?}");
    assert!(places.contains(&SealedAt::Secret(name("a"))));
    assert!(places.contains(&SealedAt::ExternalKey(portal.clone())));
    let next = directory.with_secrets_sealed(|at, sealed| match at {
        SealedAt::ExternalKey(name) if *name == other => Ok(Sealed::default()),
        SealedAt::Secret(_)
        | SealedAt::ExternalKey(_)
        | SealedAt::Diverged { .. }
        | SealedAt::DivergedKey { .. } => Ok(Sealed(vec![sealed.0[0] + 100])),
        _ => Err(at.clone()),
    });
    let next = next.unwrap();
    let mut found: Vec<u8> = next.sealed().iter().map(|(_, one)| one.0[0]).collect();
    found.sort_unstable();
    assert_eq!(found, [4, 6, 101, 102, 103, 104, 105]);
    let lost = next.secret(&name("lost")).unwrap();
    assert!(lost.is_lost() && lost.is_to_change());
    // Nobody can be shown a certificate without its key.
    let left: Vec<_> = next.certificates().map(|one| one.name.clone()).collect();
    assert_eq!(left, [portal]);
}
