//! Where servers are reached: members try an address before it is in force, and the server itself keeps in its identity what the
//! directory says, so that it is known after a restart too.
//!
//! Always true: the directory decides where a server is reached; what a server listens on is its own business.

use crate::identity::{Endpoint, Identity};
use crate::node::{Bound, Node};
use model::{Directory, Server, ServerId};
use peer::identity::CertificateRole;
use policy::Plan;
use policy::addresses::{Met, Port, Tried, Wish, addresses};
use std::time::Duration;
use wire::control::{self, Answer, Failure, Request};

/// How long a member may take to try an address.
const TRY_TIME: Duration = Duration::from_secs(5);

impl Node {
    /// What would come of reaching a server elsewhere: its members try it now.
    pub(crate) async fn addresses_plan(&self, wish: Wish<'_>) -> Plan {
        let directory = self.directory();
        let given = [(Port::Peer, wish.peer), (Port::Client, wish.client)];
        let given = given
            .into_iter()
            .filter_map(|(port, address)| Some((port, address?)));
        let triers = triers(&directory, wish.server);
        let tries = given.flat_map(|(port, address)| {
            triers.iter().map(move |member| async move {
                let member = *member;
                let met = self.have_tried(member, wish.server, port, address).await;
                Tried { member, port, met }
            })
        });
        let tried = futures_util::future::join_all(tries).await;
        self.with_view(|view| addresses(view, wish, &tried))
    }

    async fn have_tried(&self, by: ServerId, server: ServerId, port: Port, address: &str) -> Met {
        let asked = match port {
            Port::Peer => control::Port::Peer,
            Port::Client => control::Port::Client,
        };
        if by == self.me() {
            let tried = self.try_address(server, asked, address).await;
            return tried.map_or_else(Met::NotIt, |()| Met::It);
        }
        let request = Request::TryAddress {
            server,
            port: asked,
            address: address.to_owned(),
        };
        match self.call(by, &request, TRY_TIME * 2).await {
            Ok(Answer::Done) => Met::It,
            Ok(Answer::Failed(Failure::Unreachable { why, .. })) => Met::NotIt(why),
            Ok(Answer::Failed(other)) => Met::NotAsked(other.to_string()),
            Ok(_) => Met::NotAsked("its answer makes no sense".to_owned()),
            Err(error) => Met::NotAsked(error.to_string()),
        }
    }

    /// Tries from here whether a member, or this server itself, is reached at an address.
    ///
    /// # Errors
    /// What was met, in words.
    pub(crate) async fn try_address(
        &self,
        server: ServerId,
        port: control::Port,
        address: &str,
    ) -> Result<(), String> {
        let role = match port {
            control::Port::Peer => CertificateRole::Peer,
            control::Port::Client => CertificateRole::Client,
        };
        let endpoint = &self.0.shown.endpoint;
        peer::reach::reaches(endpoint, server, role, address, TRY_TIME)
            .await
            .map_err(|error| peer::InFull(&error).to_string())
    }

    /// Where this server is reached: as the directory says, or, before there is one, as it remembers.
    pub fn bound(&self) -> Bound {
        let directory = self.directory();
        match directory.server(self.me()) {
            Some(me) => Bound {
                peer_address: me.peer_address.clone(),
                client_address: me.client_address.clone(),
            },
            None => Bound {
                peer_address: self.0.identity.peer.advertise.clone(),
                client_address: self.0.identity.client.advertise.clone(),
            },
        }
    }
}

/// Who tries whether a server is reached: the others, and it itself where there are none.
fn triers(directory: &Directory, server: ServerId) -> Vec<ServerId> {
    let all = directory.servers().map(|member| member.id);
    let others: Vec<ServerId> = all.filter(|member| *member != server).collect();
    match others.is_empty() {
        true => vec![server],
        false => others,
    }
}

/// What a server keeps of itself, with the addresses that the directory has of it.
pub(crate) fn identity_at(identity: &Identity, me: &Server) -> Identity {
    let at = |endpoint: &Endpoint, advertise: &str| Endpoint {
        listen: endpoint.listen.clone(),
        advertise: advertise.to_owned(),
    };
    Identity {
        peer: at(&identity.peer, &me.peer_address),
        client: at(&identity.client, &me.client_address),
        ..identity.clone()
    }
}
