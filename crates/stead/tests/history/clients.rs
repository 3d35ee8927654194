//! Clients that create, end and look up sessions of the same few tokens, each as fast as it is answered, at whichever
//! server, and record what they were told.
//!
//! Always true: an operation that may have been sent is either told its outcome or recorded as unknown; one that is
//! repeated keeps its idempotency key. What a server says that no failure explains is kept as a surprise.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use client::{Api, ApiError, Call, Fingerprint, Reply, Target};
use hyper::Method;
use model::SessionId;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::record::{Effect, History};

/// How long a client waits for an answer before it calls the outcome unknown.
const ANSWER: Duration = Duration::from_secs(2);
/// How often a stubborn client sends an operation; others send it once, and leave more outcomes unknown.
const ATTEMPTS: u32 = 5;
/// The longest pause of a client between two operations, in milliseconds.
const PAUSE_MS: u64 = 40;
/// The application of all sessions: what it stands for runs already, so that no session starts or ends by itself.
pub const APP: &str = "bulk";
/// Whose sessions they are.
pub const USER: &str = "ann";

/// A server, as clients reach it.
#[derive(Debug)]
pub struct Line {
    /// The server's name.
    pub name: String,
    api: Api,
}

/// What all clients share.
#[derive(Debug)]
pub struct Crowd {
    /// The credentials of the tokens.
    pub tokens: Vec<String>,
    /// The only host.
    pub host: String,
    /// Where all is random from.
    pub seed: u64,
    history: Mutex<History>,
    surprises: Mutex<BTreeMap<String, u64>>,
    /// Operations that surely had no effect: refused, or not sent.
    failed: AtomicU64,
    over: AtomicBool,
}

/// What one attempt came to.
enum Told {
    /// It was carried out.
    Done(Effect),
    /// It was surely not carried out.
    NotDone,
    /// Nobody knows.
    Unknown,
}

/// What a client wants.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Create,
    End(SessionId),
    Lookup,
}

/// Ends the storm when it is dropped, also by a failure of the test: clients run until then.
pub struct UntilDropped<'a>(pub &'a Crowd);

impl Drop for UntilDropped<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Line {
    /// To this server and no other.
    pub fn new(name: &str, address: String, ca: Fingerprint, bearer: Option<String>) -> Self {
        let target = Target::Remote {
            servers: vec![address],
            ca,
            bearer,
        };
        Self {
            name: name.to_owned(),
            api: Api::new(target).with_answer_time(ANSWER),
        }
    }

    /// Asks for something that must work.
    pub async fn must(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let headers = Vec::new();
        let call = Call {
            method,
            path,
            body,
            headers,
        };
        let reply = self.api.call(call).await;
        let reply = reply.unwrap_or_else(|error| panic!("{path} at {}: {error}", self.name));
        assert_eq!(reply.status, 200, "{path} at {}: {reply:?}", self.name);
        reply
    }
}

impl Crowd {
    /// A crowd that has not begun.
    pub fn new(tokens: Vec<String>, host: &str, seed: u64) -> Self {
        Self {
            tokens,
            host: host.to_owned(),
            seed,
            history: Mutex::new(History::new()),
            surprises: Mutex::default(),
            failed: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// What was recorded.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers that no failure explains, and how often each came.
    pub fn surprises(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        let surprises = self.surprises.lock();
        surprises.unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations that surely had no effect.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// One client, until the storm is over.
    pub async fn client(&self, name: &str, number: u64, lines: &[Line]) {
        let mut chance = StdRng::seed_from_u64(self.seed.wrapping_mul(1000).wrapping_add(number));
        let mut known: Vec<Option<SessionId>> = vec![None; self.tokens.len()];
        let mut count = 0_u64;
        while !self.over.load(Ordering::Relaxed) {
            let token = chance.random_range(0..self.tokens.len());
            let wish = match (chance.random_range(0..10), known[token]) {
                (0..3, Some(id)) => Wish::End(id),
                (3..6, _) => Wish::Create,
                _ => Wish::Lookup,
            };
            count += 1;
            let key = format!("{name}-{number}-{count}");
            let effect = self.operation(&mut chance, lines, token, wish, &key).await;
            if let Some(Effect::Made(id) | Effect::Found(id) | Effect::Saw(Some(id))) = effect {
                known[token] = Some(id);
            }
            let pause = Duration::from_millis(chance.random_range(0..PAUSE_MS));
            tokio::time::sleep(pause).await; // tidy: polls: clients think between two operations
        }
    }

    /// Asks once or up to [`ATTEMPTS`] times, each time at any server, and records what came of it.
    async fn operation(
        &self,
        chance: &mut StdRng,
        lines: &[Line],
        token: usize,
        wish: Wish,
        key: &str,
    ) -> Option<Effect> {
        let is_stubborn = chance.random_bool(0.5);
        let attempts = if is_stubborn { ATTEMPTS } else { 1 };
        let called = Instant::now();
        let (mut story, mut unknown) = (key.to_owned(), false);
        for _ in 0..attempts {
            let line = lines.choose(chance).expect("invariant: there are servers");
            story = format!("{story} {}", line.name);
            match self.attempt(line, token, wish, key).await {
                Told::Done(effect) => {
                    self.history().add(token, effect, called, story);
                    return Some(effect);
                }
                Told::NotDone => {}
                Told::Unknown => unknown = true,
            }
            let pause = Duration::from_millis(chance.random_range(10..200));
            tokio::time::sleep(pause).await; // tidy: polls: clients ask again after a pause
        }
        match wish {
            Wish::Create if unknown => {
                self.history().add(token, Effect::MaybeMade, called, story);
            }
            Wish::End(id) if unknown => {
                let effect = Effect::MaybeEnded(id);
                self.history().add(token, effect, called, story);
            }
            _ => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        None
    }

    async fn attempt(&self, line: &Line, token: usize, wish: Wish, key: &str) -> Told {
        let credential = &self.tokens[token];
        let path = match wish {
            Wish::Create => "/v1/sessions".to_owned(),
            Wish::End(id) => format!("/v1/sessions/{id}"),
            Wish::Lookup => {
                format!("/v1/sessions?token={credential}&app={APP}&consistency=linearizable")
            }
        };
        let call = match wish {
            Wish::Create => Call {
                method: Method::POST,
                path: &path,
                body: Some(
                    json!({ "token": credential, "user": USER, "app": APP, "host": self.host }),
                ),
                headers: vec![("idempotency-key".to_owned(), key.to_owned())],
            },
            Wish::End(_) => Call {
                method: Method::DELETE,
                path: &path,
                body: None,
                headers: vec![("idempotency-key".to_owned(), key.to_owned())],
            },
            Wish::Lookup => Call::reading(&path),
        };
        match line.api.call(call).await {
            Ok(reply) => self.understood(wish, &reply, line),
            Err(ApiError::NotReachable { .. }) => Told::NotDone,
            Err(ApiError::Broken { .. } | ApiError::Timeout { .. }) => Told::Unknown,
            Err(error) => {
                self.surprise(format!("{wish:?} at {}: {error}", line.name));
                Told::Unknown
            }
        }
    }

    fn understood(&self, wish: Wish, reply: &Reply, line: &Line) -> Told {
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        let id = |session: &Value| session["id"].as_str()?.parse::<SessionId>().ok();
        let done = match (wish, reply.status) {
            (Wish::Create, 201) => id(&body).map(Effect::Made),
            (Wish::Create, 200) => id(&body).map(Effect::Found),
            (Wish::End(asked), 200) if body["state"] == "ended" => {
                (id(&body) == Some(asked)).then_some(Effect::Ended(asked))
            }
            (Wish::Lookup, 200) => match body.as_array().map(Vec::as_slice) {
                Some([]) => Some(Effect::Saw(None)),
                Some([only]) => id(only).map(|id| Effect::Saw(Some(id))),
                _ => None,
            },
            _ => None,
        };
        if let Some(effect) = done {
            return Told::Done(effect);
        }
        let kind = body["type"].as_str().unwrap_or_default();
        match (reply.status, kind.rsplit(':').next().unwrap_or_default()) {
            (503, "no-primary") => Told::NotDone,
            (503, "behind" | "too-slow") | (504, _) => Told::Unknown,
            (status, _) => {
                self.surprise(format!("{wish:?} at {}: {status}: {body}", line.name));
                Told::Unknown
            }
        }
    }

    fn surprise(&self, what: String) {
        *self.surprises().entry(what).or_default() += 1;
    }
}
