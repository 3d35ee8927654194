//! Letting servers join: invitations, and every check before a server becomes a member.
//!
//! What the directory itself refuses (a name or id that is taken, a used invitation) it refuses in the change that
//! makes the member, so that two joins at the same moment cannot both win; here it is said earlier, with a remedy.

use crate::clock;
use crate::keys::{self, Pair, Reached};
use crate::node::Node;
use crate::peer_port::Doorman;
use crate::random;
use crate::reset::Progress;
use crate::submit::SubmitError;
use model::trust::{Invitation, Sealed};
use model::{
    Author, Command, Directory, InvitationId, Mode, Refusal, Server, Standing, UnixMillis,
};
use peer::admit::Admission;
use peer::authority::Validity;
use peer::fingerprint::Fingerprint;
use peer::seal::{SealKey, Sealing};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use wire::control::{Answer, Failure, Request};
use wire::join::{JoinCode, JoinGrant, JoinRefusal, JoinRequest, Member, Unreached};
use zeroize::Zeroizing;

/// How long a join code is valid.
pub const VALID: Duration = Duration::from_secs(15 * 60);
/// How far the clocks of two members may differ.
const CLOCK_LIMIT_MS: u64 = 60_000;
/// How long a member may take to try whether it reaches a new server.
const PROBE_TIME: Duration = Duration::from_secs(5);

impl Node {
    /// Makes an invitation and the code for it.
    ///
    /// # Errors
    /// When this server does not hold the seal key, or the change cannot be made.
    pub async fn invite(
        &self,
        standing: Standing,
        author: Author,
    ) -> Result<JoinCode, SubmitError> {
        let seal = self.seal_key().ok_or(SubmitError::NoSealKey)?;
        let (secret, id) = (
            random::bytes::<16>()?,
            InvitationId::from_bytes(random::bytes()?),
        );
        let directory = self.directory();
        let sealed = seal
            .seal(Sealing::Invitation, directory.group().id, &secret)
            .map_err(|error| SubmitError::Keys(Arc::new(error.into())))?;
        let made = clock::calendar().max(directory.group().clock);
        let invitation = Invitation {
            id,
            secret: Sealed(sealed),
            standing,
            made,
            expires: made.after(VALID),
            by: crate::api::author_in_words(&author, &directory),
            used_by: None,
        };
        let expires = invitation.expires;
        self.submit(
            None,
            author,
            Command::Invite {
                invitation: Box::new(invitation),
            },
        )
        .await?;
        let fingerprint = self.trust().fingerprint().ok_or(SubmitError::NoSealKey)?;
        Ok(JoinCode {
            addresses: self.admitting_addresses(&directory),
            authority: *fingerprint.as_bytes(),
            invitation: id,
            secret,
            standing,
            expires,
        })
    }

    /// Peer addresses of members that can admit, this one first; a few are enough.
    fn admitting_addresses(&self, directory: &Directory) -> Vec<String> {
        let mut able: Vec<&Arc<Server>> = directory
            .servers()
            .filter(|server| server.standing.may_lead())
            .collect();
        able.sort_by_key(|server| (server.id != self.me(), server.name.clone()));
        able.iter()
            .take(3)
            .map(|server| server.peer_address.clone())
            .collect()
    }
}

/// Tries whether a server that wants to join answers at its address, and is the one that asked.
///
/// # Errors
/// What was seen, in words.
pub async fn probe(node: &Node, address: &str, key: [u8; 32]) -> Result<(), String> {
    peer::admit::probe(
        &node.0.shown.endpoint.tls.basis(),
        address,
        Fingerprint::from_bytes(key),
        PROBE_TIME,
    )
    .await
    .map_err(|error| peer::InFull(&error).to_string())
}

impl Admission for Doorman {
    async fn invitation(
        &self,
        invitation: InvitationId,
    ) -> Result<Zeroizing<[u8; 16]>, JoinRefusal> {
        let directory = self.node.directory();
        let (open, _) = self.open_invitation(&directory, invitation)?;
        let seals = &self.node.trust().seals;
        let secret = seals
            .open(Sealing::Invitation, directory.group().id, &open.secret.0)
            .map_err(|_| JoinRefusal::UnknownCode)?;
        let secret: [u8; 16] = secret
            .as_slice()
            .try_into()
            .map_err(|_| JoinRefusal::UnknownCode)?;
        Ok(Zeroizing::new(secret))
    }

    async fn examine(
        &self,
        request: &JoinRequest,
        _from: SocketAddr,
    ) -> Result<Vec<Member>, JoinRefusal> {
        let directory = self.node.directory();
        self.check_stays()?;
        check_request(request, clock::calendar())?;
        check_directory(request, &directory)?;
        if self.node.leader().is_none() {
            return Err(JoinRefusal::NoPrimary {
                why: self.node.missing(),
            });
        }
        self.all_reach(request, &directory).await?;
        Ok(members(&directory))
    }

    async fn admit(
        &self,
        request: JoinRequest,
        unreached: Vec<Unreached>,
    ) -> Result<JoinGrant, JoinRefusal> {
        let directory = self.node.directory();
        self.check_stays()?;
        if let Some(missed) = unreached.first() {
            let server = directory.server(missed.server);
            return Err(JoinRefusal::CannotReach {
                member: directory.name_of(missed.server),
                address: server
                    .map(|server| server.peer_address.clone())
                    .unwrap_or_default(),
                why: missed.why.clone(),
            });
        }
        let (open, seal) = self.open_invitation(&directory, request.invitation)?;
        let standing = open.standing;
        let now = clock::calendar();
        let pair = self.certificates(&directory, &request, now)?;
        let server = record(&request, standing, pair.peer.expires, now);
        let command = Command::AdmitServer {
            server: Box::new(server),
            invitation: request.invitation,
        };
        let applied = self
            .node
            .submit(None, self.node.author(), command)
            .await
            .map_err(|error| refusal_of(error, &request, &directory))?;
        let directory = self.node.directory();
        let trust = self.node.trust();
        Ok(JoinGrant {
            proof: [0; 32],
            group: directory.group().id,
            group_name: directory.group().name.clone(),
            authorities: trust.authorities.iter().map(|der| der.to_vec()).collect(),
            peer_certificate: pair.peer.certificate.to_vec(),
            client_certificate: pair.client.certificate.to_vec(),
            group_secret: **trust.secrets.current.as_bytes(),
            seal_key: standing.may_lead().then(|| **seal.as_bytes()),
            standing,
            members: members(&directory)
                .into_iter()
                .filter(|member| member.server != request.server)
                .collect(),
            formation: directory.group().formation.this,
            admitted: applied.name,
        })
    }
}

impl Doorman {
    /// Who is about to change its own group lets nobody into this one.
    fn check_stays(&self) -> Result<(), JoinRefusal> {
        match self.node.anew() {
            Progress::Nothing => Ok(()),
            _ => Err(JoinRefusal::Busy {
                server: self.node.name().to_string(),
            }),
        }
    }

    fn open_invitation<'a>(
        &self,
        directory: &'a Directory,
        invitation: InvitationId,
    ) -> Result<(&'a Arc<Invitation>, SealKey), JoinRefusal> {
        let open = directory
            .invitation(invitation)
            .ok_or(JoinRefusal::UnknownCode)?;
        if let Some(by) = &open.used_by {
            return Err(JoinRefusal::UsedCode { by: by.clone() });
        }
        if open.expires < clock::calendar() {
            return Err(JoinRefusal::ExpiredCode);
        }
        let seal = self.node.seal_key();
        let no_key = || JoinRefusal::Invalid {
            why: "this member cannot admit: it holds no seal key".to_owned(),
        };
        Ok((open, seal.ok_or_else(no_key)?))
    }

    fn certificates(
        &self,
        directory: &Directory,
        request: &JoinRequest,
        now: UnixMillis,
    ) -> Result<Pair, JoinRefusal> {
        let reached = Reached {
            peer: &request.peer_address,
            client: vec![&request.client_address],
        };
        let requests = (
            request.peer_request.as_slice(),
            request.client_request.as_slice(),
        );
        keys::open_authority(directory, &self.node.trust().seals)
            .and_then(|authority| {
                let whose = (directory.group().id, request.server);
                let validity = Validity {
                    from: now,
                    lifetime: directory.settings().certificate_lifetime(),
                };
                keys::issue(&authority, whose, &reached, requests, validity)
            })
            .map_err(|error| JoinRefusal::Invalid {
                why: error.to_string(),
            })
    }

    /// Every member must reach the new server; this one asks the others to try.
    async fn all_reach(
        &self,
        request: &JoinRequest,
        directory: &Directory,
    ) -> Result<(), JoinRefusal> {
        let tried = directory.servers().map(|server| async {
            let outcome = if server.id == self.node.me() {
                probe(&self.node, &request.peer_address, request.probe_key).await
            } else {
                self.ask_to_probe(server, request).await
            };
            outcome.map_err(|why| JoinRefusal::Unreachable {
                member: server.name.to_string(),
                address: request.peer_address.clone(),
                why,
            })
        });
        futures_util::future::try_join_all(tried).await.map(|_| ())
    }

    async fn ask_to_probe(&self, server: &Server, request: &JoinRequest) -> Result<(), String> {
        let ask = Request::Probe {
            address: request.peer_address.clone(),
            probe_key: request.probe_key,
        };
        match self.node.call(server.id, &ask, PROBE_TIME * 2).await {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Failed(Failure::Unreachable { why, .. })) => Err(why),
            Ok(_) => Err("its answer makes no sense".to_owned()),
            Err(error) => Err(format!("the member itself was not reached to try: {error}")),
        }
    }
}

fn check_request(request: &JoinRequest, now: UnixMillis) -> Result<(), JoinRefusal> {
    if !request.standalone {
        return Err(JoinRefusal::NotStandalone);
    }
    if request.live_sessions > 0 {
        return Err(JoinRefusal::LiveSessions {
            sessions: request.live_sessions,
        });
    }
    let offset_ms = request.clock.0.abs_diff(now.0);
    if offset_ms > CLOCK_LIMIT_MS {
        return Err(JoinRefusal::Clock { offset_ms });
    }
    Ok(())
}

fn check_directory(request: &JoinRequest, directory: &Directory) -> Result<(), JoinRefusal> {
    let needed = directory.group().feature_level;
    if request.feature_level < needed {
        return Err(JoinRefusal::FeatureLevel {
            offered: request.feature_level,
            needed,
        });
    }
    if directory.server(request.server).is_some() || directory.removed(request.server).is_some() {
        return Err(JoinRefusal::IdTaken {
            server: request.server,
        });
    }
    if directory.server_named(request.name.as_str()).is_some() {
        return Err(JoinRefusal::NameTaken {
            name: request.name.clone(),
        });
    }
    let same_address = |server: &&Arc<Server>| server.peer_address == request.peer_address;
    if let Some(other) = directory.servers().find(same_address) {
        return Err(JoinRefusal::AddressTaken {
            address: request.peer_address.clone(),
            by: other.name.clone(),
        });
    }
    if let Some(other) = directory.servers().find(|server| !server.started) {
        return Err(JoinRefusal::Busy {
            server: other.name.to_string(),
        });
    }
    Ok(())
}

fn record(
    request: &JoinRequest,
    standing: Standing,
    certificate_expires: UnixMillis,
    now: UnixMillis,
) -> Server {
    Server {
        id: request.server,
        name: request.name.clone(),
        peer_address: request.peer_address.clone(),
        client_address: request.client_address.clone(),
        standing,
        voting: false,
        mode: Mode::Online,
        power: Server::POWER_DEFAULT,
        labels: BTreeMap::new(),
        external: Vec::new(),
        version: request.version.clone(),
        feature_level: request.feature_level,
        incarnation: request.incarnation,
        certificate_expires,
        joined: now,
        started: false,
        version_number: 0,
        peer_key: model::KeyMark::default(),
        revoked: Vec::new(),
    }
}

fn members(directory: &Directory) -> Vec<Member> {
    let member = |server: &Arc<Server>| Member {
        server: server.id,
        name: server.name.clone(),
        peer_address: server.peer_address.clone(),
    };
    directory.servers().map(member).collect()
}

/// What the directory refused, as a joining server is told it.
fn refusal_of(error: SubmitError, request: &JoinRequest, directory: &Directory) -> JoinRefusal {
    match error {
        SubmitError::Refused(Refusal::InvitationUsed { by }) => JoinRefusal::UsedCode { by },
        SubmitError::Refused(Refusal::InvitationExpired) => JoinRefusal::ExpiredCode,
        SubmitError::Refused(Refusal::StructureBusy { server }) => JoinRefusal::Busy {
            server: server.to_string(),
        },
        SubmitError::Refused(Refusal::Exists { .. }) => match check_directory(request, directory) {
            Err(refusal) => refusal,
            Ok(()) => JoinRefusal::NameTaken {
                name: request.name.clone(),
            },
        },
        SubmitError::Refused(other) => JoinRefusal::Invalid {
            why: other.to_string(),
        },
        other => JoinRefusal::NoPrimary {
            why: other.to_string(),
        },
    }
}
