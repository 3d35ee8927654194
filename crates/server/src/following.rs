//! What hangs on the directory: connections to the members, keys, and what this server says of itself in it.

use crate::addresses::identity_at;
use crate::found::VERSION;
use crate::identity::{Identity, KnownMember};
use crate::node::Node;
use model::{Command, Directory, FEATURE_LEVEL};
use std::time::Duration;
use tokio::time::sleep;

/// The pause before this server says again what it is.
const REPORT_AGAIN: Duration = Duration::from_millis(200);
/// Changes are gathered this long before what hangs on the directory follows them: there may be thousands a second.
const GATHER: Duration = Duration::from_millis(5);

/// Keeps what hangs on the directory in step with it.
pub(crate) async fn follow_directory(node: Node) {
    let mut changed = node.directory_changed();
    let mut remembered = node.0.identity.clone();
    loop {
        let directory = node.directory();
        remember(&node, &directory, &mut remembered);
        let known = node
            .0
            .identity
            .members
            .iter()
            .map(|known| (known.server, known.peer_address.clone()));
        if directory.servers().next().is_some() {
            let members = directory
                .servers()
                .map(|server| (server.id, server.peer_address.clone()));
            node.0.peers.set_members(members);
            node.open_ticket_key();
        } else {
            node.0.peers.set_members(known);
        }
        node.0.journal.send_if_modified(|newest| {
            let now = directory.group().last_event;
            std::mem::replace(newest, now) != now
        });
        node.keep_timing(&directory).await;
        drop(directory);
        sleep(GATHER).await;
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Keeps who the members are beside the directory too, and where this server is reached: one that lost its log must know whom
/// to ask, and what it is called.
fn remember(node: &Node, directory: &Directory, remembered: &mut Identity) {
    let others = directory.servers().filter(|server| server.id != node.me());
    let known: Vec<KnownMember> = others
        .map(|server| KnownMember {
            server: server.id,
            peer_address: server.peer_address.clone(),
        })
        .collect();
    if directory.servers().next().is_none() {
        return;
    }
    let here = directory.server(node.me());
    let here = here.map_or_else(|| remembered.clone(), |me| identity_at(remembered, me));
    let identity = Identity {
        members: known,
        ..here
    };
    if identity == *remembered {
        return;
    }
    match identity.save(node.data()) {
        Ok(()) => *remembered = identity,
        Err(error) => {
            tracing::warn!(%error, "who the members are, and where this server is reached, cannot be written beside the directory")
        }
    }
}

/// Says what this server is now, after the start and whenever it has entered another formation or has new certificates.
pub(crate) async fn say_hello(node: Node) {
    let mut roles = node.replica().role_changed();
    let mut said = None;
    loop {
        let formation = node.replica().formation();
        let directory = node.directory();
        let known = directory.server(node.me()).is_some()
            && directory.group().formation.this.id == formation;
        drop(directory);
        let (certificate_expires, peer_key) = (node.certificate_expires(), node.peer_key());
        let now = Some((formation, peer_key));
        if said == now {
            tokio::select! {
                // Whoever keeps the replica keeps the sender.
                changed = roles.changed() => drop(changed),
                () = node.0.renewed.notified() => {}
            }
            continue;
        }
        if known {
            let bound = node.bound();
            let command = Command::ReportServer {
                server: node.me(),
                version: VERSION.to_owned(),
                feature_level: FEATURE_LEVEL,
                incarnation: node.replica().incarnation(),
                certificate_expires,
                peer_address: bound.peer_address,
                client_address: bound.client_address,
                peer_key,
            };
            match node.submit(None, node.author(), command).await {
                Ok(_) => said = now,
                Err(error) => tracing::debug!(%error, "this server has not been announced yet"),
            }
        }
        sleep(REPORT_AGAIN).await;
    }
}
