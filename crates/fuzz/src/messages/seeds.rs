//! Well-formed messages, at least one of each kind.

use model::{
    ChangeName, EndReason, FormationId, FormationRef, GroupId, IncarnationId, InvitationId,
    ServerId, SessionId, SessionState, Standing, StreamId, UnixMillis,
};
use wire::client::{
    Answer, ClientId, Credential, Hidden, Leave, Opened, Refused, Request, Resume, Said,
    ServerAddress, SessionNews, StreamSecret,
};
use wire::hello::{Hello, HelloAnswer, HelloRefusal, Introduction, Purpose};
use wire::join::{
    JoinAnswer, JoinCode, JoinGrant, JoinRefusal, JoinRequest, Member, ReachReport, Unreached,
};
use wire::{encode, frame_into};

const SESSION: SessionId = SessionId::from_bytes([5; 10]);
const SERVER: ServerId = ServerId::from_bytes([1; 16]);
const FORMATION: FormationRef = FormationRef {
    id: FormationId::from_bytes([2; 16]),
    number: 3,
    fork_point: 4000,
};

/// A name of any kind.
fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

fn hidden(text: &str) -> Hidden {
    Hidden(text.to_owned())
}

/// One of each.
pub(crate) fn requests() -> Vec<Request> {
    vec![
        Request::Hello {
            protocol: wire::client::PROTOCOL,
            version: "0.1.0".to_owned(),
            authority: Default::default(),
        },
        Request::Open {
            token: name("user.ann"),
            app: Some(name("desktop")),
            credential: Credential::Password {
                user: Some(name("ann")),
                password: hidden("right"),
            },
            attempt: [3; 16],
        },
        Request::Open {
            token: name("card.1234"),
            app: None,
            credential: Credential::Ticket(hidden("a ticket")),
            attempt: [4; 16],
        },
        Request::Find {
            token: name("user.ann"),
            app: name("desktop"),
            ticket: hidden("a ticket"),
        },
        Request::Ask {
            session: SESSION,
            ticket: hidden("a ticket"),
        },
        Request::Attach {
            session: SESSION,
            ticket: hidden("a ticket"),
            client: ClientId([7; 16]),
        },
        Request::Resume(Resume {
            session: SESSION,
            stream: StreamId::from_bytes([6; 16]),
            epoch: 2,
            received: 70_000,
            proof: [1; 32],
        }),
        Request::Renew {
            ticket: hidden("a ticket"),
        },
    ]
}

pub(crate) fn client_request_seeds() -> Vec<Vec<u8>> {
    requests().iter().map(encode).collect()
}

pub(crate) fn frame_header_seeds() -> Vec<Vec<u8>> {
    let framed = |request: &Request| {
        let mut bytes = Vec::new();
        frame_into(request, &mut bytes);
        bytes
    };
    requests().iter().map(framed).collect()
}

pub(crate) fn client_answer_seeds() -> Vec<Vec<u8>> {
    let address = || ServerAddress {
        server: SERVER,
        name: name("boston"),
        address: "boston.example:5427".to_owned(),
    };
    let answers = [
        Answer::Hello {
            protocol: 1,
            server: SERVER,
            name: name("boston"),
        },
        Answer::Opened(Box::new(Opened {
            session: SESSION,
            app: name("desktop"),
            created: true,
            host: SERVER,
            ticket: hidden("a ticket"),
            expires: UnixMillis(1_700_000_000_000),
            servers: vec![address(), address()],
            said: Said {
                listen: Some(([127, 0, 0, 1], 5900).into()),
                notice: Some("hello".to_owned()),
            },
        })),
        Answer::Found {
            session: Some((SESSION, SERVER, SessionState::Suspended)),
            age_ms: 20,
        },
        Answer::State(SessionNews {
            session: SESSION,
            state: Some(SessionState::Ended),
            current: true,
            host: Some(SERVER),
            host_heard: true,
            reason: Some(EndReason::Exited {
                code: Some(1),
                signal: None,
            }),
            leave: Some(Leave {
                within_ms: 60_000,
                by: "root".to_owned(),
                reason: Some("new disks".to_owned()),
            }),
            renew: true,
        }),
        Answer::Attached {
            stream: StreamId::from_bytes([6; 16]),
            secret: StreamSecret([9; 32]),
            dead_after_ms: 1000,
            retain_ms: 120_000,
        },
        Answer::Resumed {
            epoch: 2,
            received: 77,
        },
        Answer::Renewed {
            ticket: hidden("a ticket"),
            expires: UnixMillis(2),
            servers: vec![address()],
        },
        Answer::Refused(Refused::Login),
        Answer::Refused(Refused::HostUnreachable {
            host: "boston".to_owned(),
            detail: "no route".to_owned(),
        }),
        Answer::ComeBack { after_ms: 300 },
    ];
    answers.iter().map(encode).collect()
}

pub(crate) fn peer_hello_seeds() -> Vec<Vec<u8>> {
    let from = || Introduction {
        protocol: wire::hello::PROTOCOL,
        group: GroupId::from_bytes([8; 16]),
        server: SERVER,
        incarnation: IncarnationId::from_bytes([9; 16]),
        formation: Some(FORMATION),
        lineage: vec![FORMATION; 3],
        feature_level: 1,
        version: "0.1.0".to_owned(),
        clock: UnixMillis(1_700_000_000_000),
    };
    let hello = |purpose| Hello {
        from: from(),
        to: ServerId::from_bytes([2; 16]),
        purpose,
        proof: [5; 32],
    };
    let answers = [
        HelloAnswer::Welcome {
            from: from(),
            proof: [6; 32],
        },
        HelloAnswer::Refused(HelloRefusal::OtherServer {
            meant: SERVER,
            here: SERVER,
        }),
        HelloAnswer::Refused(HelloRefusal::Busy),
    ];
    let purposes = [
        Purpose::Consensus,
        Purpose::Control,
        Purpose::Stream,
        Purpose::Credentials,
    ];
    let hellos = purposes.map(|purpose| encode(&hello(purpose)));
    hellos
        .into_iter()
        .chain(answers.iter().map(encode))
        .collect()
}

fn member() -> Member {
    Member {
        server: SERVER,
        name: name("boston"),
        peer_address: "10.0.0.1:5427".to_owned(),
    }
}

pub(crate) fn join_message_seeds() -> Vec<Vec<u8>> {
    let request = JoinRequest {
        protocol: wire::hello::PROTOCOL,
        invitation: InvitationId::from_bytes([1; 8]),
        proof: [2; 32],
        server: SERVER,
        incarnation: IncarnationId::from_bytes([9; 16]),
        name: name("boston"),
        peer_address: "10.0.0.1:5427".to_owned(),
        client_address: "10.0.0.1:5428".to_owned(),
        version: "0.1.0".to_owned(),
        feature_level: 1,
        clock: UnixMillis(1_700_000_000_000),
        peer_request: vec![0x30; 300],
        client_request: vec![0x30; 20],
        standalone: true,
        live_sessions: 0,
        probe_key: [4; 32],
    };
    let report = ReachReport {
        unreached: vec![Unreached {
            server: SERVER,
            why: "no route".to_owned(),
        }],
    };
    let grant = JoinGrant {
        proof: [1; 32],
        group: GroupId::from_bytes([8; 16]),
        group_name: name("office"),
        authorities: vec![vec![0x30; 200]],
        peer_certificate: vec![0x30; 200],
        client_certificate: vec![0x30; 200],
        group_secret: [3; 32],
        seal_key: Some([4; 32]),
        standing: Standing::Voter,
        members: vec![member(), member()],
        formation: FORMATION,
        admitted: ChangeName {
            formation: FORMATION.id,
            number: 5000,
        },
    };
    let answers = [
        JoinAnswer::Granted(Box::new(grant)),
        JoinAnswer::Refused(JoinRefusal::Clock { offset_ms: 70_000 }),
        JoinAnswer::Refused(JoinRefusal::AddressTaken {
            address: "10.0.0.1:5427".to_owned(),
            by: name("boston"),
        }),
        JoinAnswer::Reach {
            proof: [2; 32],
            members: vec![member()],
        },
    ];
    let first = [encode(&request), encode(&report)];
    first
        .into_iter()
        .chain(answers.iter().map(encode))
        .collect()
}

pub(crate) fn join_code_seeds() -> Vec<Vec<u8>> {
    let code = JoinCode {
        addresses: vec!["10.0.0.1:5427".to_owned(), "[2001:db8::1]:5427".to_owned()],
        authority: [3; 32],
        invitation: InvitationId::from_bytes([1; 8]),
        secret: [9; 16],
        standing: Standing::Witness,
        expires: UnixMillis(1_700_000_000_000),
    };
    let text = code.to_string();
    vec![
        text.clone().into_bytes(),
        format!(" {text}\n").into_bytes(),
        encode(&code),
    ]
}
