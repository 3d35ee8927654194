//! Says in the journal when a certificate that should have been renewed, an operator's, or the group's authority, ends soon. The primary does,
//! for servers that are away too, once for each step.

use crate::clock;
use crate::node::Node;
use model::{Directory, EventKind, Fields, Severity, UnixMillis};
use policy::renewal::{Notice, notice};
use std::collections::BTreeSet;
use std::time::Duration;

/// What has been said, so that it is not said again.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    said: BTreeSet<Said>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    subject: String,
    expires: UnixMillis,
    notice: Notice,
}

impl Said {
    fn fields(&self) -> Fields {
        [
            ("expires", self.expires.to_string()),
            ("days", self.notice.days().to_string()),
        ]
        .into_iter()
        .collect()
    }

    /// Whether another primary, or this server before it was started again, said it.
    fn is_in(&self, directory: &Directory) -> bool {
        let (kind, fields) = (EventKind::CertificateExpiring, self.fields());
        directory.events_back().any(|event| {
            event.kind == kind && event.subject == self.subject && event.fields == fields
        })
    }
}

impl Notices {
    /// Looks whether there is something to say; only an acting primary whose clock is right does.
    pub(crate) fn look(&mut self, node: &Node) {
        if !node.acting() {
            self.said.clear();
            return;
        }
        let directory = node.directory();
        let due: Vec<Said> = due(&directory, clock::calendar())
            .into_iter()
            .filter(|due| !self.said.contains(due))
            .collect();
        if due.is_empty() || !policy::clocks::agrees(node.me(), &node.seen()) {
            return;
        }
        for due in due {
            if !due.is_in(&directory) {
                let severity = match due.notice {
                    Notice::Over => Severity::Error,
                    _ => Severity::Warning,
                };
                let (kind, subject) = (EventKind::CertificateExpiring, due.subject.clone());
                node.record(kind, severity, subject, due.fields(), Vec::new());
            }
            self.said.insert(due);
        }
    }
}

fn due(directory: &Directory, now: UnixMillis) -> Vec<Said> {
    let lifetime = directory.settings().certificate_lifetime();
    let servers = directory.servers().map(|server| {
        let subject = server.name.to_string();
        (subject, server.certificate_expires, Some(lifetime))
    });
    let authority = &directory.group().authority;
    let authority = ("authority".to_owned(), authority.expires, None::<Duration>);
    let external = directory.certificates();
    let external = external.map(|one| (one.name.to_string(), one.expires, None));
    let due =
        servers
            .chain([authority])
            .chain(external)
            .filter_map(|(subject, expires, lifetime)| {
                let notice = notice(expires, lifetime, now)?;
                Some(Said {
                    subject,
                    expires,
                    notice,
                })
            });
    due.collect()
}
