//! What one directory has that another has not, record by record. Backups, standby and divergences share it.
//!
//! Directories that descend from one another share most of their memory; what is shared is not looked at again.

use crate::directory::Directory;
use crate::record::Record;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use std::collections::BTreeMap;

/// One record that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Only the second directory has it.
    Added(Record),
    /// Only the first directory has it.
    Removed(Record),
    /// Both have it, and it is not the same.
    Changed {
        /// As the first directory has it.
        before: Box<Record>,
        /// As the second directory has it.
        after: Box<Record>,
    },
}

/// The records that differ between two directories, table by table in the order of [`Directory::records`], by key within one.
pub fn difference<'a>(
    before: &'a Directory,
    after: &'a Directory,
) -> impl Iterator<Item = Difference> + 'a {
    let group = (before.group != after.group).then(|| Difference::Changed {
        before: Box::new(Record::Group(before.group.clone())),
        after: Box::new(Record::Group(after.group.clone())),
    });
    let settings = settings(before, after);
    group
        .into_iter()
        .chain(table(&before.servers, &after.servers, |_, record| {
            Record::Server(record.clone())
        }))
        .chain(table(&before.removed, &after.removed, |id, at| {
            Record::Removed(*id, *at)
        }))
        .chain(settings)
        .chain(table(&before.users, &after.users, |_, record| {
            Record::User(record.clone())
        }))
        .chain(table(&before.apps, &after.apps, |_, record| {
            Record::Application(record.clone())
        }))
        .chain(table(&before.sessions, &after.sessions, |_, record| {
            Record::Session(record.clone())
        }))
        .chain(table(
            &before.invitations,
            &after.invitations,
            |_, record| Record::Invitation(record.clone()),
        ))
        .chain(table(&before.journal, &after.journal, |_, record| {
            Record::Event(record.clone())
        }))
        .chain(table(&before.reported, &after.reported, |id, number| {
            Record::Reported(*id, *number)
        }))
        .chain(table(
            &before.answered,
            &after.answered,
            |number, (id, outcome)| Record::Answered(*id, *number, outcome.clone()),
        ))
        .chain(table(
            &before.divergences,
            &after.divergences,
            |_, record| Record::Divergence(record.clone()),
        ))
        .chain(table(&before.diverged, &after.diverged, |_, record| {
            Record::Diverged(record.clone())
        }))
        .chain(documents(before, after))
}

/// The same of the tables that people write, but for accounts and applications, and of the audit log.
fn documents<'a>(
    before: &'a Directory,
    after: &'a Directory,
) -> impl Iterator<Item = Difference> + 'a {
    table(&before.tokens, &after.tokens, |_, record| {
        Record::Token(record.clone())
    })
    .chain(table(&before.gateways, &after.gateways, |_, record| {
        Record::Gateway(record.clone())
    }))
    .chain(table(&before.audit, &after.audit, |_, record| {
        Record::Audited(record.clone())
    }))
    .chain(table(
        &before.certificates,
        &after.certificates,
        |_, record| Record::Certificate(record.clone()),
    ))
    .chain(table(&before.secrets, &after.secrets, |_, record| {
        Record::Secret(record.clone())
    }))
    .chain(table(&before.profiles, &after.profiles, |_, record| {
        Record::Profile(record.clone())
    }))
    .chain(table(
        &before.preferences,
        &after.preferences,
        |_, record| Record::Preferences(record.clone()),
    ))
}

fn table<'a, K: Ord, V: PartialEq>(
    before: &'a OrdMap<K, V>,
    after: &'a OrdMap<K, V>,
    record: impl Fn(&K, &V) -> Record + 'a,
) -> impl Iterator<Item = Difference> + 'a {
    before.diff(after).map(move |item| match item {
        DiffItem::Add(key, value) => Difference::Added(record(key, value)),
        DiffItem::Remove(key, value) => Difference::Removed(record(key, value)),
        DiffItem::Update {
            old: (old_key, old),
            new: (new_key, new),
        } => Difference::Changed {
            before: Box::new(record(old_key, old)),
            after: Box::new(record(new_key, new)),
        },
    })
}

/// Settings are few: they are compared one by one.
fn settings(before: &Directory, after: &Directory) -> Vec<Difference> {
    let table = |of: &Directory| -> BTreeMap<_, _> {
        of.settings
            .entries()
            .map(|(key, on, value)| ((key, on), value))
            .collect()
    };
    let (old, new) = (table(before), table(after));
    let record = |(key, on): &(&str, _), value: &String| {
        Record::Setting((*key).to_owned(), *on, value.clone())
    };
    let removed = old.iter().filter(|(key, _)| !new.contains_key(*key));
    let removed = removed.map(|(key, value)| Difference::Removed(record(key, value)));
    let others = new.iter().filter_map(|(key, value)| match old.get(key) {
        None => Some(Difference::Added(record(key, value))),
        Some(same) if same == value => None,
        Some(was) => Some(Difference::Changed {
            before: Box::new(record(key, was)),
            after: Box::new(record(key, value)),
        }),
    });
    removed.chain(others).collect()
}
