//! The peer port under attack: whoever proves nothing is cut off, and members get in meanwhile.

use super::*;
use crate::dial::dial;
use crate::kit::{Group, PATIENCE, Port, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::hello::Purpose;

fn few(unproved: usize, proof_time: Duration) -> ListenerLimits {
    ListenerLimits {
        unproved,
        proof_time,
        ..ListenerLimits::default()
    }
}

async fn opened(port: &Port) -> TcpStream {
    TcpStream::connect(port.address).await.unwrap()
}

/// Waits until the other end has closed.
async fn closed(stream: &mut TcpStream) {
    assert!(closes(stream).await, "still open");
}

async fn closes(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    // A reset is as good as an end.
    timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .is_ok()
}

async fn member_gets_in(one: &Server, two: &Server, port: &mut Port) {
    let address = port.address.to_string();
    let dialled = dial(
        &one.endpoint,
        two.id,
        &address,
        Purpose::Consensus,
        PATIENCE,
    );
    let _open = dialled.await.unwrap();
    assert_eq!(port.arrival().await.met.introduction.server, one.id);
}

#[tokio::test]
async fn half_open_connections_never_shut_out_a_member() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    // So long that only making room closes anything.
    let mut port = Port::open(&two, few(8, Duration::from_secs(3600))).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(opened(&port).await);
    }
    for _ in 0..10 {
        member_gets_in(&one, &two, &mut port).await;
    }
    // All but the newest are closed.
    for stream in silent.iter_mut().take(92) {
        closed(stream).await;
    }
}

#[tokio::test]
async fn whoever_dawdles_is_cut_off() {
    let group = Group::new(1);
    let two = group.server(2);
    let limit = Duration::from_millis(300);
    let port = Port::open(&two, few(8, limit)).await;
    let start = tokio::time::Instant::now();
    // Says nothing; says the start of a TLS record and then nothing; drips.
    let mut nothing = opened(&port).await;
    let mut start_only = opened(&port).await;
    start_only
        .write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
        .await
        .unwrap();
    let (mut drip_read, mut drip_write) = opened(&port).await.into_split();
    let dripping = tokio::spawn(async move {
        drip_write
            .write_all(&[0x16, 0x03, 0x01, 0x40, 0x00])
            .await
            .unwrap();
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while drip_write.write_all(&[0x01]).await.is_ok() {
            pace.tick().await;
        }
    });
    closed(&mut nothing).await;
    closed(&mut start_only).await;
    let _ = timeout(PATIENCE, drip_read.read_to_end(&mut Vec::new()))
        .await
        .expect("still open");
    timeout(PATIENCE, dripping)
        .await
        .expect("still taken")
        .unwrap();
    assert!(start.elapsed() >= limit);
}

#[tokio::test]
async fn whoever_dawdles_after_tls_is_cut_off() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let port = Port::open(&two, few(8, Duration::from_millis(300))).await;
    let basis = crate::tls::TlsBasis::default();
    let member = one.endpoint.tls.towards(two.id).unwrap();
    let joining = basis.joining_client(group.authority.fingerprint()).unwrap();
    for config in [member, joining] {
        let name = rustls::pki_types::ServerName::from(port.address.ip());
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut stream = connector.connect(name, opened(&port).await).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .expect("still open");
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn random_bytes_do_no_harm() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let mut port = Port::open(&two, few(64, PATIENCE)).await;
    let mut seed = [0; 8];
    aws_lc_rs::rand::fill(&mut seed).unwrap();
    let seed = u64::from_le_bytes(seed);
    let mut state = seed;
    let mut random = move || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as u8
    };
    for round in 0..300 {
        let length = usize::from(random()) * 8;
        let mut bytes: Vec<u8> = (0..length).map(|_| random()).collect();
        // Half of them look like TLS at first.
        if round % 2 == 0 {
            for (byte, tls) in bytes.iter_mut().zip([0x16, 0x03, 0x01, 0x00]) {
                *byte = tls;
            }
        }
        let mut stream = opened(&port).await;
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        assert!(
            closes(&mut stream).await,
            "seed {seed}, round {round}: still open"
        );
    }
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "SSH-2.0-x\r\n",
        "\r\n\r\n",
        "\0\0\0\0",
    ] {
        let mut stream = opened(&port).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        closed(&mut stream).await;
    }
    member_gets_in(&one, &two, &mut port).await;
}

#[tokio::test]
async fn tls_of_another_protocol_is_refused() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    for alpn in [
        vec![],
        vec![b"h2".to_vec()],
        vec![b"stead-client/1".to_vec()],
    ] {
        let mut config = one.endpoint.tls.towards(two.id).unwrap().as_ref().clone();
        config.alpn_protocols.clone_from(&alpn);
        let name = rustls::pki_types::ServerName::from(port.address.ip());
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        if let Ok(mut stream) = connector.connect(name, opened(&port).await).await {
            let mut rest = Vec::new();
            let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
                .await
                .expect("still open");
            assert!(rest.is_empty(), "{alpn:?}");
        }
    }
    member_gets_in(&one, &two, &mut port).await;
}

#[tokio::test]
async fn a_certificate_is_required_of_members() {
    let group = Group::new(1);
    let two = group.server(2);
    let port = Port::open(&two, ListenerLimits::default()).await;
    let basis = crate::tls::TlsBasis::default();
    let mut config = basis
        .joining_client(group.authority.fingerprint())
        .unwrap()
        .as_ref()
        .clone();
    // Says that it is a member, and shows nothing.
    config.alpn_protocols = vec![ALPN_PEER.to_vec()];
    let name = rustls::pki_types::ServerName::from(port.address.ip());
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, opened(&port).await).await.unwrap();
    let error = timeout(PATIENCE, stream.read(&mut [0]))
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}

#[tokio::test]
async fn closing_the_port_ends_what_has_not_proved_itself() {
    let group = Group::new(1);
    let two = group.server(2);
    let port = Port::open(&two, few(8, Duration::from_secs(3600))).await;
    let mut silent = opened(&port).await;
    port.close().await;
    closed(&mut silent).await;
}

#[test]
fn the_oldest_place_goes_first_and_places_come_back() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let unproved = Unproved::new(2);
    let wait = || runtime.spawn(std::future::pending::<()>());
    let mut tasks = Vec::new();
    let mut places = Vec::new();
    for _ in 0..3 {
        let place = unproved.place();
        let task = wait();
        unproved.seat(place.number, task.abort_handle());
        places.push(place);
        tasks.push(task);
    }
    runtime.block_on(async {
        assert!((&mut tasks[0]).await.unwrap_err().is_cancelled());
    });
    assert!(!tasks[1].is_finished() && !tasks[2].is_finished());
    // The second leaves by itself: the next one takes its place and nobody goes.
    drop(places.remove(1));
    let place = unproved.place();
    unproved.seat(place.number, wait().abort_handle());
    runtime.block_on(tokio::task::yield_now());
    assert!(!tasks[2].is_finished());
    // A task that left its place before it was named is not remembered.
    drop(place);
    drop(places);
    assert!(unproved.seats.lock().unwrap().taken.is_empty());
    unproved.seat(99, wait().abort_handle());
    assert!(unproved.seats.lock().unwrap().taken.is_empty());
}
