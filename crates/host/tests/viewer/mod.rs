//! The client's end of a stream, as the tests need it: it attaches through a keeper's socket, cuts its path when told to, and resumes.
//! And what the tests start keepers with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::{Buf, Bytes, BytesMut};
use host::{Launched, launch, open_stream};
use model::{AppName, Application, Backend, SessionId, StreamId, UnixMillis};
use tokio::io::AsyncWriteExt;
use tokio::io::Interest;
use tokio::net::{TcpListener, UnixStream};
use tokio::time::{Instant, sleep_until, timeout};
use tunnel::{Config, EpochCounter, Event, Stream};
use wire::client::{ClientId, StreamSecret};
use wire::keeper::{FILE_FORMAT, Handed, Opening, OpeningAnswer, OpeningRefusal, Spec};

/// No test waits longer for anything.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A TCP server that sends back what it gets and ends its side when the other does.
pub(crate) async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                    write.shutdown().await.ok();
                }
            });
        }
    });
    format!("tcp:{address}")
}

/// A folder for sessions, and their keepers.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    /// The folder of all sessions.
    pub(crate) sessions: PathBuf,
    pub(crate) retain_ms: u64,
    /// Keepers that may live; they are asked to end with the test.
    pids: Vec<u32>,
}

impl Drop for Place {
    fn drop(&mut self) {
        for pid in &self.pids {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a keeper's pid");
            // Its executable tells that the pid is still the keeper's.
            let program = std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()));
            if program.is_ok_and(|found| found == program_path()) {
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
            }
        }
    }
}

fn program_path() -> PathBuf {
    program().canonicalize().expect("the keeper's program")
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        Self {
            sessions: folder.path().to_owned(),
            folder,
            retain_ms: 60_000,
            pids: Vec::new(),
        }
    }

    /// Starts a keeper for an application.
    pub(crate) async fn launch(&mut self, app: Application) -> Launched {
        let spec = self.spec(app);
        self.launch_spec(spec).await
    }

    /// Starts a keeper of a session.
    pub(crate) async fn launch_spec(&mut self, spec: Spec) -> Launched {
        self.launch_with(spec, Handed::default()).await
    }

    /// The same for an application that is given something in secret.
    pub(crate) async fn launch_with(&mut self, spec: Spec, handed: Handed) -> Launched {
        let launched = launch(program(), &self.sessions, &spec, &handed).await;
        let launched = launched.unwrap_or_else(|error| panic!("no keeper: {error:?}"));
        self.pids.push(launched.status.pid);
        launched
    }

    pub(crate) fn spec(&self, app: Application) -> Spec {
        let mut id = [0; 10];
        aws_lc_rs::rand::fill(&mut id).expect("randomness");
        Spec {
            format: FILE_FORMAT,
            session: SessionId::from_bytes(id),
            token: "card.1".parse().expect("a token"),
            user: "ann".parse().expect("a user"),
            created: UnixMillis(1),
            server: "alpha".to_owned(),
            app,
            dead_after_ms: 1000,
            retain_ms: self.retain_ms,
        }
    }
}

/// The keeper as a program.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_host-keeper"))
}

/// An application with a command, backends, and little patience.
pub(crate) fn app(launch: Option<&str>, backends: &[&str]) -> Application {
    let name: AppName = "app".parse().expect("a name");
    Application {
        launch: launch.map(str::to_owned),
        backends: backends
            .iter()
            .map(|backend| backend.parse::<Backend>().expect("a backend"))
            .collect(),
        ready_timeout_ms: 5000,
        ..Application::named(name)
    }
}

/// The client's end of a stream.
pub(crate) struct Viewer {
    dir: PathBuf,
    start: Instant,
    pub(crate) id: StreamId,
    secret: StreamSecret,
    pub(crate) epochs: EpochCounter,
    pub(crate) stream: Stream,
    pub(crate) path: Option<UnixStream>,
    out: BytesMut,
    /// Bytes that its program wants to send.
    pub(crate) to_send: Bytes,
    /// Whether the program ends its side after that.
    pub(crate) ends: bool,
    /// Bytes that came.
    pub(crate) came: Vec<u8>,
    pub(crate) events: Vec<Event>,
    /// Bytes that passed the current path, both ways.
    pub(crate) passed: usize,
}

impl Viewer {
    pub(crate) async fn attach(dir: &Path, client: u8) -> Self {
        Self::try_attach(dir, client)
            .await
            .unwrap_or_else(|refusal| panic!("refused: {refusal}"))
    }

    pub(crate) async fn try_attach(dir: &Path, client: u8) -> Result<Self, OpeningRefusal> {
        let opening = Opening::Attach {
            client: ClientId([client; 16]),
            address: format!("192.0.2.{client}:1000"),
        };
        let (answer, path) = open_stream(dir, &opening, LONG).await.expect("an answer");
        let (id, secret) = match answer {
            OpeningAnswer::Attached { stream, secret } => (stream, secret),
            OpeningAnswer::Refused(refusal) => return Err(refusal),
            other => panic!("{other:?}"),
        };
        let mut stream = Stream::new(Config::default(), Duration::ZERO);
        stream
            .path_replaced(Duration::ZERO, 0)
            .expect("a first path");
        Ok(Self {
            dir: dir.to_owned(),
            start: Instant::now(),
            id,
            secret,
            epochs: EpochCounter::default(),
            stream,
            path: Some(path),
            out: BytesMut::new(),
            to_send: Bytes::new(),
            ends: false,
            came: Vec::new(),
            events: Vec::new(),
            passed: 0,
        })
    }

    /// The opening for the next resume.
    pub(crate) fn resume_opening(&mut self) -> Opening {
        self.claim(self.stream.received())
    }

    /// The opening for a resume that claims to have received so much.
    pub(crate) fn claim(&mut self, received: u64) -> Opening {
        let (epoch, exporter) = (self.epochs.next(), [9; 32]);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret.0);
        let proof = hmac::sign(
            &key,
            &tunnel::proof_input(&exporter, self.id.as_bytes(), epoch, received),
        );
        let proof = proof.as_ref().try_into().expect("32 bytes");
        Opening::Resume {
            stream: self.id,
            epoch,
            received,
            proof,
            exporter,
            address: "192.0.2.200:2".to_owned(),
        }
    }

    /// The path breaks, and what was on it is lost.
    pub(crate) fn cut(&mut self) {
        self.path = None;
        self.out.clear();
        self.passed = 0;
        self.stream.path_lost(self.start.elapsed());
    }

    pub(crate) async fn resume(&mut self) -> Result<(), OpeningRefusal> {
        self.cut();
        let opening = self.resume_opening();
        let (answer, path) = open_stream(&self.dir, &opening, LONG)
            .await
            .expect("an answer");
        match answer {
            OpeningAnswer::Resumed { received, .. } => {
                self.stream
                    .path_replaced(self.start.elapsed(), received)
                    .expect("an honest keeper");
                self.path = Some(path);
                Ok(())
            }
            OpeningAnswer::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Carries bytes until `done`.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let carried = timeout(LONG, async {
            while !done(self) {
                self.work();
                if !done(self) {
                    self.wait().await;
                }
            }
        });
        if carried.await.is_err() {
            panic!(
                "not {what} within {LONG:?}: {} bytes came, {:?}, {} to send",
                self.came.len(),
                self.events,
                self.to_send.len()
            );
        }
    }

    /// Sends a text and waits until something that contains `expected` has come.
    pub(crate) async fn ask(&mut self, text: &str, expected: &str) {
        self.to_send = Bytes::copy_from_slice(text.as_bytes());
        let what = format!("{expected:?}");
        self.until(&what, |viewer| viewer.text().contains(expected))
            .await;
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.came).into_owned()
    }

    /// Waits for an event.
    pub(crate) async fn event(&mut self, event: Event) {
        let what = format!("{event:?}");
        self.until(&what, |viewer| viewer.events.contains(&event))
            .await;
    }

    fn work(&mut self) {
        let now = self.start.elapsed();
        loop {
            let mut moved = false;
            let count = self.stream.local_capacity().min(self.to_send.len());
            if count > 0 {
                self.stream
                    .write_local(self.to_send.split_to(count))
                    .expect("room");
                moved = true;
            } else if self.ends && self.to_send.is_empty() {
                self.ends = false;
                self.stream.local_eof();
                moved = true;
            }
            if self.out.is_empty() {
                moved |= self.stream.poll_transmit(now, &mut self.out, 128 << 10) > 0;
            }
            let mut lost = false;
            if let Some(path) = &self.path {
                if !self.out.is_empty()
                    && let Ok(count) = path.try_write(&self.out)
                {
                    self.out.advance(count);
                    self.passed += count;
                    moved = true;
                }
                let mut incoming = BytesMut::with_capacity(64 << 10);
                match path.try_read_buf(&mut incoming) {
                    Ok(0) => lost = true,
                    Ok(count) => {
                        self.passed += count;
                        self.stream
                            .handle_bytes(now, incoming.freeze())
                            .expect("an honest keeper");
                        moved = true;
                    }
                    Err(error) => lost = error.kind() != std::io::ErrorKind::WouldBlock,
                }
            }
            while let Some(bytes) = self.stream.take_for_local() {
                self.came.extend_from_slice(&bytes);
                self.stream.local_written(now, bytes.len());
                moved = true;
            }
            while let Some(event) = self.stream.poll_event() {
                self.events.push(event);
            }
            if lost {
                self.path = None;
                self.stream.path_lost(now);
            }
            if !moved {
                return;
            }
        }
    }

    async fn wait(&mut self) {
        let until = self
            .stream
            .poll_timeout()
            .map_or(Instant::now() + LONG, |at| self.start + at);
        let write = !self.out.is_empty();
        let ready = async {
            match &self.path {
                Some(path) if write => path.ready(Interest::READABLE | Interest::WRITABLE).await,
                Some(path) => path.ready(Interest::READABLE).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = ready => {}
            // tidy: polls: looks again until the condition of the loop or its limit is there
            () = sleep_until(until) => self.stream.handle_timeout(self.start.elapsed()),
        }
    }
}
