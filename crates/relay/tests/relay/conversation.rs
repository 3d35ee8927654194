//! What honest clients get.

use relay::{AT_ONCE, Ending, Entry, Gate, Limits, PipeEnd, turn_away};
use std::net::IpAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use wire::client::{Answer, Refused, Request, Resume};
use wire::keeper::Opening;

use crate::fake::{
    Client, EXPORTER, House, Port, SESSION, STREAM, TICKET, address, ask, attach, open, open_number,
};

#[tokio::test]
async fn several_requests_on_one_connection_and_then_a_stream() {
    let port = Port::new(House::default());
    let mut client = port.greeted().await;
    assert!(matches!(
        client.ask(&open("right")).await,
        Answer::Opened(_)
    ));
    assert_eq!(port.gate.inside(), (1, 0));
    assert!(matches!(client.ask(&ask(TICKET)).await, Answer::State(_)));
    match client.ask(&attach(TICKET)).await {
        Answer::Attached {
            stream,
            dead_after_ms: 1000,
            retain_ms: 120_000,
            ..
        } => {
            assert_eq!(stream, STREAM);
        }
        other => panic!("{other:?}"),
    }
    let opening = port.house.openings.lock().unwrap().pop().unwrap();
    assert!(
        matches!(opening, Opening::Attach { address: from, .. } if from == address().to_string())
    );
    let mut keeper = port.house.keepers.lock().unwrap().pop().unwrap();
    client.io.write_all(b"up").await.unwrap();
    keeper.write_all(b"down!").await.unwrap();
    let (mut up, mut down) = ([0; 2], [0; 5]);
    keeper.read_exact(&mut up).await.unwrap();
    client.io.read_exact(&mut down).await.unwrap();
    assert_eq!((&up, &down), (b"up", b"down!"));
    drop(keeper);
    match client.end().await {
        (_, Ending::Piped(piped)) => {
            assert_eq!((piped.to_far, piped.to_client), (2, 5));
            assert!(matches!(piped.end, PipeEnd::FarClosed));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(port.gate.inside(), (0, 0));
}

fn resume(proof: u8) -> Request {
    Request::Resume(Resume {
        session: SESSION,
        stream: STREAM,
        epoch: 3,
        received: 50,
        proof: [proof; 32],
    })
}

#[tokio::test]
async fn a_resume_needs_no_ticket_and_its_proof_goes_to_the_keeper() {
    let port = Port::new(House::default());
    let mut client = port.greeted().await;
    assert_eq!(
        client.ask(&resume(0)).await,
        Answer::Refused(Refused::Resume)
    );
    assert_eq!(
        port.gate.inside(),
        (1, 1),
        "a claim that does not hold proves nothing"
    );
    assert_eq!(
        client.ask(&resume(1)).await,
        Answer::Resumed {
            epoch: 3,
            received: 77
        }
    );
    assert_eq!(port.gate.inside(), (1, 0));
    match port.house.openings.lock().unwrap().last().unwrap() {
        Opening::Resume {
            stream,
            epoch: 3,
            received: 50,
            proof,
            exporter,
            address: from,
        } => {
            assert_eq!((*stream, *proof, *exporter), (STREAM, [1; 32], EXPORTER));
            assert_eq!(*from, address().to_string());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn refusals_leave_the_conversation_open() {
    let port = Port::new(House::default());
    let mut client = port.greeted().await;
    assert_eq!(
        client.ask(&open("wrong")).await,
        Answer::Refused(Refused::Login)
    );
    assert_eq!(
        client.ask(&attach("old")).await,
        Answer::Refused(Refused::Ticket)
    );
    let Request::Attach {
        ticket,
        client: run,
        ..
    } = attach(TICKET)
    else {
        unreachable!()
    };
    let other = Request::Attach {
        session: model::SessionId::default(),
        ticket,
        client: run,
    };
    assert_eq!(
        client.ask(&other).await,
        Answer::Refused(Refused::NoSession)
    );
    assert!(matches!(
        client.ask(&open("right")).await,
        Answer::Opened(_)
    ));
    // Once proved, refusals are not counted.
    for _ in 0..20 {
        assert_eq!(
            client.ask(&attach("old")).await,
            Answer::Refused(Refused::Ticket)
        );
    }
}

#[tokio::test]
async fn an_orderly_stop_ends_conversations_and_pipes() {
    let port = Port::new(House::default());
    let asking = port.greeted().await;
    let mut piped = port.greeted().await;
    assert!(matches!(
        piped.ask(&attach(TICKET)).await,
        Answer::Attached { .. }
    ));
    port.stopper.stop();
    assert!(matches!(asking.end().await.1, Ending::Stopped));
    assert!(
        matches!(piped.end().await.1, Ending::Piped(piped) if matches!(piped.end, PipeEnd::Stopped))
    );
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_does_not_wait_for_a_session_that_starts() {
    let house = House {
        start_time: std::time::Duration::from_secs(3600),
        ..House::default()
    };
    let port = Port::new(house);
    let mut client = port.greeted().await;
    client.send(&open("right")).await;
    tokio::task::yield_now().await;
    port.stopper.stop();
    assert!(matches!(client.end().await.1, Ending::Stopped));
}

#[tokio::test(start_paused = true)]
async fn questions_of_a_proved_client_are_worked_on_side_by_side_and_answered_in_order() {
    let start_time = std::time::Duration::from_secs(1);
    let port = Port::new(House {
        start_time,
        ..House::default()
    });
    let mut client = port.greeted().await;
    let begun = tokio::time::Instant::now();
    assert!(matches!(
        client.ask(&open("right")).await,
        Answer::Opened(_)
    ));
    let count = 2 * AT_ONCE as u64 + 10;
    for number in 0..count {
        client.send(&open_number(number)).await;
    }
    client.send(&ask(TICKET)).await;
    client.send(&attach(TICKET)).await;
    for number in 0..count {
        match client.answer().await {
            Answer::Opened(opened) => assert_eq!(opened.expires.0, number),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(client.answer().await, Answer::State(_)));
    assert!(matches!(client.answer().await, Answer::Attached { .. }));
    // One to prove itself, then three rounds.
    assert_eq!(begun.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn until_a_client_has_proved_itself_its_questions_wait_for_each_other() {
    let port = Port::new(House {
        start_time: std::time::Duration::from_secs(1),
        ..House::default()
    });
    let mut client = port.greeted().await;
    let begun = tokio::time::Instant::now();
    for password in ["wrong", "wrong", "right", "right", "right"] {
        client.send(&open(password)).await;
    }
    for _ in 0..2 {
        assert_eq!(client.answer().await, Answer::Refused(Refused::Login));
    }
    for _ in 0..3 {
        assert!(matches!(client.answer().await, Answer::Opened(_)));
    }
    assert_eq!(begun.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_answered_behind_what_came_before() {
    let port = Port::new(House {
        start_time: std::time::Duration::from_secs(1),
        ..House::default()
    });
    let mut client = port.greeted().await;
    assert!(matches!(
        client.ask(&open("right")).await,
        Answer::Opened(_)
    ));
    client.send(&open_number(7)).await;
    client.send(&open_number(8)).await;
    client.io.write_all(&[0, 0, 0, 1, 0xff]).await.unwrap();
    for number in [7, 8] {
        match client.answer().await {
            Answer::Opened(opened) => assert_eq!(opened.expires.0, number),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.answer().await, Answer::Refused(Refused::Malformed));
    assert!(matches!(client.end().await.1, Ending::BadRequest(_)));
}

#[tokio::test]
async fn a_newer_client_is_told_what_is_spoken_and_an_impossible_one_is_refused() {
    let port = Port::new(House::default());
    let mut client = port.client(address());
    let hello = |protocol| Request::Hello {
        protocol,
        version: "9".to_owned(),
        authority: Default::default(),
    };
    assert!(matches!(
        client.ask(&hello(9)).await,
        Answer::Hello { protocol: 1, .. }
    ));
    let mut client = port.client(address());
    let refused = Refused::Protocol {
        offered: 0,
        spoken: 1,
    };
    assert_eq!(client.ask(&hello(0)).await, Answer::Refused(refused));
    assert!(matches!(client.end().await.1, Ending::Refused));
}

#[tokio::test]
async fn who_finds_no_room_is_told_when_to_come_back() {
    let gate = Gate::new(Limits {
        unproved: 0,
        ..Limits::CLIENTS
    });
    let from: IpAddr = address().ip();
    let Entry::TurnedAway { after_ms, permit } = gate.enter(from) else {
        panic!("there was room")
    };
    let (io, served) = duplex(4096);
    let serving = tokio::spawn(turn_away(served, after_ms, permit));
    let mut client = Client { io, serving };
    let hello = Request::Hello {
        protocol: 1,
        version: "1".to_owned(),
        authority: Default::default(),
    };
    assert_eq!(client.ask(&hello).await, Answer::ComeBack { after_ms });
    assert!(matches!(client.end().await.1, Ending::ComeBack));
}

#[tokio::test]
async fn a_thousand_clients_at_once_are_all_served() {
    let port = Port::new(House::default());
    let mut clients = Vec::new();
    for number in 0..1000_u32 {
        let from = (std::net::Ipv4Addr::from(0x0a00_0000 + number), 1000).into();
        let mut client = port.client(from);
        let hello = Request::Hello {
            protocol: 1,
            version: "1".to_owned(),
            authority: Default::default(),
        };
        assert!(matches!(client.ask(&hello).await, Answer::Hello { .. }));
        assert!(matches!(
            client.ask(&attach(TICKET)).await,
            Answer::Attached { .. }
        ));
        clients.push(client);
    }
    assert_eq!(port.gate.inside(), (1000, 0));
    for (number, client) in clients.iter_mut().enumerate() {
        client.io.write_all(&number.to_be_bytes()).await.unwrap();
    }
    let mut keepers = std::mem::take(&mut *port.house.keepers.lock().unwrap());
    for (number, keeper) in keepers.iter_mut().enumerate() {
        let mut bytes = [0; 8];
        keeper.read_exact(&mut bytes).await.unwrap();
        assert_eq!(usize::from_be_bytes(bytes), number);
    }
    drop(clients);
    for keeper in &mut keepers {
        assert_eq!(keeper.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
