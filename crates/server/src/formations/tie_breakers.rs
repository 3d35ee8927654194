//! Tie-breakers: what a side of a split must reach to act alone.
//!
//! Always true: a server that alone counts acts, where there are tie-breakers and not all members are heard, only while they
//! answer; it stops before another side can have waited long enough to go on. One that was removed stops too.

use crate::clock;
use crate::node::Node;
use model::Reason;
use replica::Moment;
use rustix::net::sockopt::set_socket_timeout;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};

/// How long a tie-breaker may take to answer.
const LIMIT: Duration = Duration::from_millis(400);
/// How often is looked whether the log is known.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// How often is looked whether a server that was removed is a member after all.
const REMOVED_LOOK: Duration = Duration::from_millis(500);
/// How often a tie-breaker is asked before it counts as silent: echo requests can be lost.
const TRIES: u32 = 2;

/// Asks all tie-breakers at the same time.
pub(super) async fn ask(tie_breakers: &[String]) -> Vec<Reason> {
    let asked = tie_breakers.iter().map(|word| async move {
        let answered = answers(word).await;
        let detail = match &answered {
            Ok(()) => format!("the tie-breaker {word} answers"),
            Err(error) => format!("the tie-breaker {word} does not answer: {error}"),
        };
        Reason {
            rule: "tie-breaker".to_owned(),
            pass: answered.is_ok(),
            detail,
        }
    });
    futures_util::future::join_all(asked).await
}

async fn answers(word: &str) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..TRIES {
        let bare = word.parse::<IpAddr>().is_ok();
        let asking = async {
            match word.rsplit_once(':') {
                Some((host, port)) if !bare && !host.is_empty() && port.parse::<u16>().is_ok() => {
                    connects(word).await
                }
                _ => echoes(word).await,
            }
        };
        last = timeout(LIMIT, asking)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if last.is_ok() {
            return last;
        }
    }
    last
}

/// A refusal is an answer: the machine is there.
async fn connects(address: &str) -> io::Result<()> {
    match TcpStream::connect(address).await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
        _ => Ok(()),
    }
}

async fn echoes(host: &str) -> io::Result<()> {
    let address = match host.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => lookup_host((host, 0))
            .await?
            .next()
            .map(|found| found.ip())
            .ok_or(io::ErrorKind::NotFound)?,
    };
    let number = crate::random::bytes().map_err(io::Error::other)?;
    tokio::task::spawn_blocking(move || echo(address, number)).await?
}

/// RFC 1071: the ones' complement of the sum of all words.
fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks(2).map(|pair| {
        let pair = [
            pair.first().copied().unwrap_or(0),
            pair.get(1).copied().unwrap_or(0),
        ];
        u32::from(u16::from_be_bytes(pair))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// Echo request and reply of RFC 792 and RFC 4443.
fn echo(address: IpAddr, number: [u8; 4]) -> io::Result<()> {
    let (family, protocol, request, reply) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    // Raw sockets need privilege, the others a setting of the system: either will do.
    let open = |kind| socket(family, kind, Some(protocol));
    let socket = open(SocketType::RAW).or_else(|_| open(SocketType::DGRAM))?;
    set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(LIMIT))?;
    let mut packet = [request, 0, 0, 0, number[0], number[1], number[2], number[3]];
    if address.is_ipv4() {
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    sendto(
        &socket,
        &packet,
        SendFlags::empty(),
        &SocketAddr::new(address, 0),
    )?;
    let until = clock::steady() + LIMIT;
    let mut buffer = [0; 256];
    while clock::steady() < until {
        let (length, _) = recv(&socket, &mut buffer, RecvFlags::empty())?;
        let got = buffer.get(..length).unwrap_or_default();
        // A raw socket shows the header of the network too, and everybody's replies.
        let answers =
            |part: &[u8]| part.first() == Some(&reply) && part.get(6..) == number.get(2..);
        if got.windows(8).any(answers) {
            return Ok(());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Lets this server act as long as it may, where it alone counts.
pub(super) async fn keep_guard(node: Node) {
    // Before all that is in the log is known, so is not whether there are tie-breakers.
    let (begun, (_, last)) = (node.replica().formation(), node.replica().log_end());
    while node.replica().formation() == begun && node.replica().state().applied < last {
        sleep(FIRST_LOOK).await;
    }
    let mut guarded = false;
    loop {
        let pause = guard(&node, &mut guarded).await;
        sleep(pause).await;
    }
}

/// Looks once; gives how long to wait until the next time. `guarded` says whether tie-breakers had to be asked the last time.
async fn guard(node: &Node, guarded: &mut bool) -> Duration {
    let removed = node.was_removed();
    // Those that follow it are no less members for that: they lose it, and go on without it, or go along with whoever acts elsewhere.
    node.replica().hush(removed);
    if removed {
        *guarded = true;
        node.replica().set_guard(Some(Moment::now()));
        return REMOVED_LOOK;
    }
    let directory = node.directory();
    let settings = directory.settings();
    let tie_breakers = settings.tie_breakers();
    let Some(span) = policy::formations::own::guard(&directory) else {
        *guarded = false;
        node.replica().set_guard(None);
        return Duration::from_millis(500);
    };
    if !std::mem::replace(guarded, true) {
        // Nothing was answered yet.
        node.replica().set_guard(Some(Moment::now()));
    }
    let begun = Moment::now();
    let mut others = directory.voters().filter(|server| server.id != node.me());
    let together = others.all(|server| node.is_heard(server.id));
    let allowed = together || ask(&tie_breakers).await.iter().all(|reason| reason.pass);
    if allowed {
        node.replica().set_guard(Some(begun + span));
    }
    span / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_machine_answers_and_nowhere_does_not() {
        let asked = ask(&[
            "127.0.0.1".to_owned(),
            "127.0.0.1:1".to_owned(),
            "::1".to_owned(),
            "nowhere.invalid".to_owned(),
        ])
        .await;
        let passed: Vec<bool> = asked.iter().map(|reason| reason.pass).collect();
        assert_eq!(passed, [true, true, true, false], "{asked:?}");
    }

    #[test]
    fn the_sum_of_a_packet_with_its_sum_is_nothing() {
        let mut packet = [8, 0, 0, 0, 1, 2, 3, 4];
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
        assert_eq!(checksum(&packet), 0);
    }
}
