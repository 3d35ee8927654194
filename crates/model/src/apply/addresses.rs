//! Where servers are reached: changed by people, followed by the server itself and by everybody who dials it.
//!
//! Always true: no address leads to two servers, or to both ports of one. It is as the server joined with it, or as people say;
//! not as the server says itself, which may have been away while they did.

use super::{Applying, bounds};
use crate::change::{Command, Kind, Outcome, Refusal};
use crate::id::ServerId;
use crate::server::Server;
use std::sync::Arc;

impl Applying<'_> {
    pub(super) fn set_addresses(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        let Command::SetAddresses {
            server,
            peer_address,
            client_address,
        } = command
        else {
            unreachable!("invariant: `carry_out` sends only addresses here")
        };
        let server = self.member(*server)?;
        let given =
            |given: &Option<String>, known: &String| given.as_ref().unwrap_or(known).clone();
        let record = Server {
            peer_address: given(peer_address, &server.peer_address),
            client_address: given(client_address, &server.client_address),
            ..(*server).clone()
        };
        self.check_reached(&record)?;
        self.put_edited(&server, record);
        Ok(Outcome::Done)
    }

    /// Refuses addresses at which a server cannot be reached, or that another server or its other port has.
    pub(super) fn check_reached(&self, server: &Server) -> Result<(), Refusal> {
        for (what, address) in [
            ("peer address", &server.peer_address),
            ("client address", &server.client_address),
        ] {
            bounds::address(what, address)?;
            if address.ends_with(":0") {
                return Err(bounds::invalid(what, "the port must be said"));
            }
        }
        let (peer, client) = (&server.peer_address, &server.client_address);
        if peer.eq_ignore_ascii_case(client) {
            let why = format!("{peer} cannot be both where servers and where clients reach it");
            return Err(bounds::invalid("address", why));
        }
        self.check_addresses(server.id, peer, client)
    }

    /// Refuses an address that another server has. Port 0 is any port, and nobody's.
    pub(super) fn check_addresses(
        &self,
        id: ServerId,
        peer: &str,
        client: &str,
    ) -> Result<(), Refusal> {
        let wanted = [peer, client]
            .into_iter()
            .filter(|address| !address.ends_with(":0"));
        for address in wanted {
            let same = |other: &&Arc<Server>| {
                other.id != id
                    && (other.peer_address.eq_ignore_ascii_case(address)
                        || other.client_address.eq_ignore_ascii_case(address))
            };
            if self.directory.servers.values().any(|other| same(&other)) {
                return Err(Refusal::Exists {
                    kind: Kind::Server,
                    name: address.to_owned(),
                });
            }
        }
        Ok(())
    }
}
