//! Other people's sessions and streams, for somebody with an account of his own; and tickets of a server that has left.

use client::{AskError, Conversation, Trust};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use testkit::{Group, Machine, PASSWORD, Process, events, eventually, listening, seconds};
use wire::client::{Answer, ClientId, Credential, Hidden, Opened, Refused, Request, Resume};

/// Answers every line with itself.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut bytes = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    let Ok(()) = stream.write_all(&bytes[..count]) else {
                        return;
                    };
                }
            });
        }
    });
    format!("tcp:{address}")
}

/// Somebody who speaks the clients' protocol by hand.
struct Client {
    runtime: tokio::runtime::Runtime,
    address: String,
    trust: Trust,
}

impl Client {
    fn of(group: &Group, server: usize) -> Self {
        Self {
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
            address: group.server(server).client_address().to_string(),
            trust: Trust::new(group.ca().parse().expect("a fingerprint")),
        }
    }

    fn ask(&self, request: &Request) -> Answer {
        self.runtime.block_on(async {
            let conversation = Conversation::dial(&self.address, &self.trust).await;
            let mut conversation = conversation.expect("a server that answers");
            match conversation.ask(request, seconds(20)).await {
                Err(AskError::Refused(refused)) => Answer::Refused(refused),
                answer => answer.expect("an answer"),
            }
        })
    }

    fn open(&self, user: &str, token: &str) -> Answer {
        self.ask(&Request::Open {
            token: token.parse().expect("a token"),
            app: Some("echo".parse().expect("a name")),
            credential: Credential::Password {
                user: Some(user.parse().expect("a name")),
                password: Hidden(PASSWORD.to_owned()),
            },
            attempt: [7; 16],
        })
    }

    fn renews(&self, ticket: &Hidden) -> bool {
        let ticket = ticket.clone();
        matches!(self.ask(&Request::Renew { ticket }), Answer::Renewed { .. })
    }

    fn opened(&self, user: &str, token: &str) -> Opened {
        match self.open(user, token) {
            Answer::Opened(opened) => *opened,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn other_peoples_sessions_and_streams_stay_theirs() {
    let _machine = Machine::shared();
    let group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first();
    group.add_user(0, "ann");
    group.add_user(0, "mallory");
    group.add_app(0, "echo", &["--backend", &echo()]);
    let connect = group.connect(None, "ann", "card.1", "echo");
    let mut viewer = TcpStream::connect(listening(&connect, seconds(20))).expect("a viewer");
    says(&mut viewer, b"before");

    let client = Client::of(&group, 0);
    let anns = client.opened("ann", "card.1");
    let mallorys = client.opened("mallory", "card.2");
    assert_ne!(anns.session, mallorys.session);
    // Her token, with his password.
    let refused = client.open("mallory", "card.1");
    assert!(
        matches!(refused, Answer::Refused(Refused::NotAllowed { .. })),
        "{refused:?}"
    );
    // Her session, with his ticket: as if there were none.
    let refused = client.ask(&Request::Attach {
        session: anns.session,
        ticket: mallorys.ticket.clone(),
        client: ClientId([9; 16]),
    });
    assert_eq!(refused, Answer::Refused(Refused::NoSession), "attach");
    let news = client.ask(&Request::Ask {
        session: anns.session,
        ticket: mallorys.ticket.clone(),
    });
    let Answer::State(news) = news else {
        panic!("{news:?}");
    };
    assert_eq!(
        (news.state, news.host),
        (None, None),
        "he is told nothing of it"
    );
    let found = client.ask(&Request::Find {
        token: "card.1".parse().expect("a token"),
        app: "echo".parse().expect("a name"),
        ticket: mallorys.ticket.clone(),
    });
    assert!(matches!(found, Answer::Refused(_)), "{found:?}");
    // Her stream, with a proof that he cannot make; he may know all else of it.
    for stream in [[0; 16], [7; 16]] {
        let refused = client.ask(&Request::Resume(Resume {
            session: anns.session,
            stream: model::StreamId::from_bytes(stream),
            epoch: 1_000_000,
            received: 0,
            proof: [3; 32],
        }));
        assert!(matches!(refused, Answer::Refused(_)), "{refused:?}");
    }
    // A ticket of sessions is none for the API.
    let api = crate::common::Door::of(&group, 0);
    assert_eq!(api.get(Some(&anns.ticket.0), "/v1/users").status, 401);
    says(&mut viewer, b"after");
    assert_undisturbed(&connect);
}

#[test]
fn who_was_removed_signs_no_tickets() {
    let _machine = Machine::shared();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(2)
        .start_first();
    group.add_user(0, "ann");
    group.add_app(0, "echo", &["--backend", &echo()]);
    group.join(1);
    let (stays, removed) = (Client::of(&group, 0), Client::of(&group, 1));
    let ticket = stays.opened("ann", "card.1").ticket;
    eventually(seconds(20), "both to renew it", || {
        [&stays, &removed].map(|it| it.renews(&ticket)) == [true; 2]
    });
    // Who hears beforehand that it is removed stands alone; this one does not.
    group.kill(1);
    group.json(0, &["group", "remove", group.server(1).name()]);
    group.serve(1);
    group.wait_until_answering(1);
    eventually(seconds(20), "it to know that it was removed", || {
        !removed.renews(&ticket)
    });
    let opened = removed.open("ann", "card.1");
    let Answer::Refused(Refused::NoPrimary { detail }) = &opened else {
        panic!("{opened:?}");
    };
    assert!(detail.contains("removed from the group"), "{detail}");
    assert!(stays.renews(&ticket), "the others do");
}

#[track_caller]
fn says(viewer: &mut TcpStream, words: &[u8]) {
    viewer.write_all(words).expect("written");
    let mut back = vec![0; words.len()];
    viewer.set_read_timeout(Some(seconds(20))).expect("a limit");
    viewer.read_exact(&mut back).expect("an answer");
    assert_eq!(back, words);
}

#[track_caller]
fn assert_undisturbed(connect: &Process) {
    for event in ["path-lost", "taken-over", "session-lost", "ended"] {
        assert!(events(connect, event).is_empty(), "{}", connect.story());
    }
}
