//! Connections: from the client port after TLS, and from the local socket.
//!
//! Always true: what a stranger can make a connection hold is bounded (heads, bodies, streams, time until a request's head
//! is there), and an orderly stop lets requests in flight finish for a moment.

use super::caller::Origin;
use super::router;
use crate::node::Node;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use relay::Stop;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;
use tracing::debug;

/// How long the head of a request may take to arrive.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The most bytes that the head of a request may have.
const HEAD_LIMIT: usize = 64 * 1024;
/// The most requests at once on one HTTP/2 connection.
const STREAMS_LIMIT: u32 = 64;
/// How long requests in flight may take when the server stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// The most connections on the local socket.
const LOCAL_LIMIT: usize = 256;
/// The pause after a connection could not be accepted (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves one connection of the client port until it ends or the server stops.
pub async fn serve_connection<IO>(io: IO, remote: SocketAddr, node: Node, stop: Stop)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _open = Conversation::begun(&node);
    converse(io, Origin::Remote(remote), router(&node), stop).await;
}

/// Serves the local socket until the server stops.
pub async fn serve_local(listener: UnixListener, node: Node, mut stop: Stop) {
    let app = router(&node);
    let places = Arc::new(Semaphore::new(LOCAL_LIMIT));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.given() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "a connection on the local socket was not accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let origin = origin_of(&stream);
        let (app, stop) = (app.clone(), stop.clone());
        let open = Conversation::begun(&node);
        tokio::spawn(async move {
            converse(stream, origin, app, stop).await;
            drop((place, open));
        });
    }
}

/// Waits, once the server stops, until every request in flight has its answer or the time for that is over.
pub(crate) async fn all_answered(node: &Node) {
    let mut open = node.0.conversations.subscribe();
    let _ = timeout(FAREWELL, open.wait_for(|count| *count == 0)).await;
}

/// A connection that is open; counted.
struct Conversation(Node);

impl Conversation {
    fn begun(node: &Node) -> Self {
        node.0.conversations.send_modify(|count| *count += 1);
        Self(node.clone())
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.0.0.conversations.send_modify(|count| *count -= 1);
    }
}

/// Who is at the other end of the local socket, as the kernel says.
fn origin_of(stream: &UnixStream) -> Origin {
    match stream.peer_cred() {
        Ok(peer) => Origin::Local {
            uid: peer.uid(),
            trusted: peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw(),
        },
        Err(_) => Origin::Local {
            uid: u32::MAX,
            trusted: false,
        },
    }
}

pub(super) async fn converse<IO>(io: IO, origin: Origin, app: Router, mut stop: Stop)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let app = app.clone();
        async move {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(origin);
            Ok::<_, Infallible>(match app.oneshot(request).await {
                Ok(response) => response,
                Err(impossible) => match impossible {},
            })
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_LIMIT)
        .keep_alive(true);
    let http2_head = u32::try_from(HEAD_LIMIT).unwrap_or(u32::MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_LIMIT)
        .max_header_list_size(http2_head);
    builder
        .http2()
        .keep_alive_interval(Some(HEAD_TIME))
        .keep_alive_timeout(HEAD_TIME);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop.given() => {
            connection.as_mut().graceful_shutdown();
            timeout(FAREWELL, connection.as_mut()).await.ok()
        }
    };
    if let Some(Err(error)) = ended {
        debug!(?origin, %error, "a connection of the API ended");
    }
}
