//! What the audit log must have of a change, found the obvious way: by looking at what differs.

use crate::common::*;
use model::audit::{About, Action};
use model::user::PasswordHash;
use model::*;
use proptest::prelude::*;
use std::sync::Arc;

fn masked(content: Option<Content>) -> Option<Content> {
    content.map(|content| match content {
        Content::User(user) => Content::User(Arc::new(User {
            password: PasswordHash(String::new()),
            ..(*user).clone()
        })),
        Content::Certificate(one) => Content::Certificate(Arc::new(ExternalCertificate {
            key: Default::default(),
            ..(*one).clone()
        })),
        Content::Secret(secret) => Content::Secret(Arc::new(StoredSecret {
            sealed: Default::default(),
            ..(*secret).clone()
        })),
        other => other,
    })
}

fn new_entries(before: &Directory, after: &Directory) -> Vec<Arc<Audited>> {
    let newest = before.audited_back().next().map_or(0, |entry| entry.seq);
    after.audited_from(newest + 1).cloned().collect()
}

/// The subjects of records that only people change, where they differ.
fn edited(before: &Directory, after: &Directory) -> Vec<Subject> {
    let subject = |record: Record| match record.key() {
        Key::User(name) => Some(Subject::User(name)),
        Key::Application(name) => Some(Subject::Application(name)),
        Key::Token(token) => Some(Subject::Token(token)),
        Key::Gateway(name) => Some(Subject::Gateway(name)),
        Key::Certificate(name) => Some(Subject::Certificate(name)),
        Key::Secret(name) => Some(Subject::Secret(name)),
        Key::Profile(audience) => Some(Subject::Profile(audience)),
        Key::Preferences(user) => Some(Subject::Preferences(user)),
        Key::Setting(key, on) => Some(Subject::Setting(key, on)),
        _ => None,
    };
    let records = difference(before, after).map(|difference| match difference {
        Difference::Added(record) | Difference::Removed(record) => record,
        Difference::Changed { after, .. } => *after,
    });
    records.filter_map(subject).collect()
}

/// Checks what a change wrote into the audit log; `made` is the change if it was made.
pub fn assert_audited(
    before: &Directory,
    after: &Directory,
    made: Option<&Change>,
) -> Result<(), TestCaseError> {
    let entries = new_entries(before, after);
    let by_itself = made.is_none_or(|change| {
        matches!(change.author, Author::Server(_))
            && !matches!(change.command, Command::AdmitServer { .. })
    });
    if by_itself {
        prop_assert!(entries.is_empty(), "{:?}", entries);
        return Ok(());
    }
    for subject in edited(before, after) {
        let about = About::Record(subject);
        let is_there = entries.iter().any(|entry| entry.about == about);
        prop_assert!(is_there, "{:?}", about);
    }
    for entry in &entries {
        prop_assert_eq!(Some(&entry.author), made.map(|change| &change.author));
        let About::Record(subject) = &entry.about else {
            prop_assert_eq!((&entry.before, &entry.after), (&None, &None));
            continue;
        };
        let (was, is) = (
            masked(before.content_then(subject, after)),
            masked(after.content(subject)),
        );
        match entry.action {
            Action::Added => prop_assert!(was.is_none() && is.is_some()),
            Action::Removed => prop_assert!(was.is_some() && is.is_none()),
            _ => {}
        }
        prop_assert_eq!((&entry.before, &entry.after), (&was, &is));
    }
    Ok(())
}

/// The content as of the stamp of the change.
trait Then {
    fn content_then(&self, subject: &Subject, after: &Directory) -> Option<Content>;
}

impl Then for Directory {
    fn content_then(&self, subject: &Subject, after: &Directory) -> Option<Content> {
        let now = after.group().clock;
        self.content(subject).and_then(|content| content.at(now))
    }
}

#[test]
fn who_did_what_is_kept_without_passwords() {
    let mut told = Told::founded();
    let zoe = |hash: &str, role| User {
        password: PasswordHash(hash.to_owned()),
        ..user("zoe", role)
    };
    let remove = || Command::RemoveUser {
        name: user_name("zoe"),
    };
    let first = put_user(zoe("first-hash", Role::User), None);
    told.tell(first).outcome.unwrap();
    let known = told.directory.user(&user_name("zoe"));
    let version = known.map(|user| user.version_number);
    let second = put_user(zoe("second-hash", Role::Admin), version);
    told.tell(second).outcome.unwrap();
    told.tell(remove()).outcome.unwrap();
    // Refused: she is gone.
    told.tell(remove()).outcome.unwrap_err();
    let all: Vec<_> = told.directory.audited_from(0).cloned().collect();
    let shown = |entry: &Arc<Audited>| {
        let password = entry.fields.get("password").is_some();
        (entry.seq, entry.action, entry.about.to_string(), password)
    };
    let shown: Vec<_> = all.iter().map(shown).collect();
    let subject = "user:zoe".to_owned();
    assert_eq!(
        shown,
        [
            (1, Action::Added, subject.clone(), true),
            (2, Action::Changed, subject.clone(), true),
            (3, Action::Removed, subject, false),
        ]
    );
    let bytes = all
        .iter()
        .flat_map(|entry| postcard::to_stdvec(&**entry).unwrap());
    let bytes: Vec<u8> = bytes.collect();
    assert!(!String::from_utf8_lossy(&bytes).contains("hash"));
}

#[test]
fn the_log_keeps_as_many_as_it_is_told() {
    let mut told = Told::founded();
    told.tell(Command::SetSetting {
        key: "audit.history".to_owned(),
        value: "1000".to_owned(),
        on: None,
    })
    .outcome
    .unwrap();
    for round in 0..1_100 {
        told.tell(Command::SetSetting {
            key: "events.history".to_owned(),
            value: (1_000 + round).to_string(),
            on: None,
        })
        .outcome
        .unwrap();
    }
    let kept: Vec<u64> = told
        .directory
        .audited_from(0)
        .map(|entry| entry.seq)
        .collect();
    assert_eq!(
        (kept.len(), kept.first(), kept.last()),
        (1_000, Some(&102), Some(&1_101))
    );
}
