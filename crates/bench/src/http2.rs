//! One HTTP/2 connection with many requests in flight: the same load generator for every side that speaks HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use client::{Trust, conversation};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::http::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection; clones share it.
#[derive(Clone)]
pub(crate) struct Line {
    sender: SendRequest<Full<Bytes>>,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its head.
    pub(crate) headers: HeaderMap,
    /// What came behind the body.
    pub(crate) trailers: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
}

impl Line {
    /// Connects without encryption.
    pub(crate) async fn plain(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Self::over(stream).await
    }

    /// Connects with TLS to a server that is not Stead's.
    pub(crate) async fn encrypted(address: SocketAddr, config: Arc<ClientConfig>) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(address.ip().into());
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Self::over(stream).await
    }

    /// Connects with TLS to a server of the group that `trust` pins.
    pub(crate) async fn secure(address: SocketAddr, trust: &Trust) -> Result<Self> {
        let address = address.to_string();
        let stream = conversation::connect(&address).await?;
        let mut config = trust.for_api().as_ref().clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (stream, _identity) = conversation::secure(&address, stream, Arc::new(config)).await?;
        Self::over(stream).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self> {
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .context("HTTP/2")?;
        // Its end is seen by the requests on it.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends a request and reads the answer to its end.
    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let mut sender = self.sender.clone();
        sender.ready().await.context("the connection is closed")?;
        let (head, body) = sender
            .send_request(request)
            .await
            .context("no answer")?
            .into_parts();
        let body = body.collect().await.context("the answer broke off")?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            trailers,
            body: body.to_bytes(),
        })
    }
}

impl Answer {
    /// Fails unless the status says success; the error has the body.
    pub(crate) fn succeeded(self) -> Result<Self> {
        ensure!(
            self.status.is_success(),
            "{}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        Ok(self)
    }
}
