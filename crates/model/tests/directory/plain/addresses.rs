//! Where servers are reached, in the most obvious form.

use super::{Answer, Plain};
use model::*;

/// Whether another server is reached there.
pub(super) fn is_taken(servers: &[Server], id: ServerId, address: &str) -> bool {
    servers
        .iter()
        .filter(|other| other.id != id)
        .any(|other| other.peer_address == address || other.client_address == address)
}

impl Plain {
    pub(super) fn set_addresses(
        &mut self,
        number: u64,
        id: ServerId,
        (peer, client): (&Option<String>, &Option<String>),
    ) -> Answer {
        let server = self.known(id)?;
        let peer = peer.as_ref().unwrap_or(&server.peer_address).clone();
        let client = client.as_ref().unwrap_or(&server.client_address).clone();
        self.move_server(number, id, peer, client)
    }

    /// The random changes give only what is an address, or has no port.
    pub(super) fn move_server(
        &mut self,
        number: u64,
        id: ServerId,
        peer: String,
        client: String,
    ) -> Answer {
        let nowhere = |address: &String| address.ends_with(":0") || !address.contains(':');
        if nowhere(&peer) || nowhere(&client) || peer == client {
            return Err("invalid");
        }
        if is_taken(&self.servers, id, &peer) || is_taken(&self.servers, id, &client) {
            return Err("exists");
        }
        let mut all = self.servers.iter_mut();
        let server = all.find(|server| server.id == id).ok_or("not found")?;
        if server.peer_address != peer || server.client_address != client {
            server.peer_address = peer;
            server.client_address = client;
            server.version_number = number;
        }
        Ok(Outcome::Done)
    }
}
