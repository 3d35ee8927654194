//! How fast a keeper passes bytes between a client's path and a backend on loopback, and how much memory it needs when idle.
//!
//! `cargo bench -p host`. Prints MB/s each way and the processor time that the keeper took for it; asserts no speed.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

#[path = "../tests/viewer/mod.rs"]
#[expect(dead_code, reason = "the tests need more of it than the benchmark")]
mod viewer;

use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tunnel::Event;
use viewer::{Place, Viewer, app};

/// Bytes each way.
const TOTAL: u64 = 512 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // Run as a test, without `--bench`, it has nothing to say.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let backend = format!("tcp:{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || backend_thread(listener));
    let mut place = Place::new();
    let launched = place.launch(app(None, &[&backend])).await;
    let pid = launched.status.pid;
    println!("idle: {} kB resident", resident(pid));

    let mut up = Viewer::attach(&launched.dir, 1).await;
    let before = (Instant::now(), processor_ms(pid));
    up.to_send = vec![b'u'; TOTAL as usize].into();
    up.ends = true;
    up.until("finished", |viewer| {
        viewer.events.contains(&Event::Finished)
    })
    .await;
    report("to the backend", pid, before);

    let mut down = Viewer::attach(&launched.dir, 1).await;
    let before = (Instant::now(), processor_ms(pid));
    down.came.reserve(TOTAL as usize + (1 << 20));
    down.to_send = Bytes::from_static(b"d");
    down.ends = true;
    down.until("finished", |viewer| {
        viewer.events.contains(&Event::Finished)
    })
    .await;
    report("to the client", pid, before);
    println!("idle again: {} kB resident", resident(pid));
}

fn report(way: &str, pid: u32, (start, processor): (Instant, u64)) {
    let (wall, processor) = (
        start.elapsed().as_secs_f64(),
        (processor_ms(pid) - processor) as f64 / 1000.0,
    );
    let rate = |seconds: f64| TOTAL as f64 / seconds / 1e6;
    println!(
        "{way}: {:.0} MB/s, {:.0} MB for each second of the keeper's processor time",
        rate(wall),
        rate(processor)
    );
}

/// Takes everything; who begins with `d` gets `TOTAL` bytes.
#[tokio::main(flavor = "current_thread")]
async fn backend_thread(listener: TcpListener) {
    let listener = listener
        .into_std()
        .and_then(TcpListener::from_std)
        .expect("a listener");
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream));
    }
}

async fn serve(mut stream: TcpStream) {
    let mut piece = vec![0; 256 << 10];
    let Ok(1..) = stream.read(&mut piece).await else {
        return;
    };
    if piece.first() == Some(&b'd') {
        let mut rest = TOTAL;
        while rest > 0 && stream.write_all(&piece).await.is_ok() {
            rest = rest.saturating_sub(piece.len() as u64);
        }
    }
    while let Ok(1..) = stream.read(&mut piece).await {}
    stream.shutdown().await.ok();
}

/// User and system time of a process in milliseconds; the kernel's tick is 10 ms.
fn processor_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum::<u64>()
        * 10
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
