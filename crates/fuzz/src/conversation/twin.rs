//! What a server answers, one request after the other: no frames in pieces, nothing side by side.

use wire::client::{Answer, PROTOCOL, Refused, Request};
use wire::frame::{CLIENT_LIMIT, HEADER, UNPROVED_LIMIT};
use wire::keeper::{Opening, OpeningAnswer};
use wire::{decode, frame_into};

/// What must come of a conversation.
#[derive(Default)]
pub(super) struct Twin {
    /// The bytes of all answers.
    pub(super) answers: Vec<u8>,
    /// What reaches the keeper.
    pub(super) to_keeper: Vec<u8>,
    /// How the name of its end begins.
    pub(super) ending: &'static str,
    pub(super) is_proved: bool,
    greeted: bool,
    refusals: u32,
}

impl Twin {
    /// Of a client that sends these bytes and closes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut twin = Self::default();
        let mut rest = bytes;
        let mut unproved = UNPROVED_LIMIT;
        twin.ending = loop {
            let Some((header, behind)) = rest.split_first_chunk::<HEADER>() else {
                break "Closed";
            };
            let length = u32::from_be_bytes(*header) as usize;
            let limit = match twin.is_proved {
                true => CLIENT_LIMIT,
                false => unproved.saturating_sub(HEADER),
            };
            if length > limit {
                twin.put(&Answer::Refused(Refused::Malformed));
                break "BadFrame";
            }
            let Some((body, behind)) = behind.split_at_checked(length) else {
                break "Closed";
            };
            let Ok(request) = decode::<Request>(body) else {
                twin.put(&Answer::Refused(Refused::Malformed));
                break "BadRequest";
            };
            if !twin.is_proved {
                unproved -= HEADER + length;
            }
            rest = behind;
            match twin.answer(request) {
                Some("Piped") => {
                    twin.to_keeper = rest.to_vec();
                    break "Piped";
                }
                Some(ending) => break ending,
                None => {}
            }
        };
        twin
    }

    fn put(&mut self, answer: &Answer) {
        frame_into(answer, &mut self.answers);
    }

    /// Answers a request; says how the conversation ends, if it does.
    fn answer(&mut self, request: Request) -> Option<&'static str> {
        let answer = match request {
            Request::Hello { protocol: 0, .. } => {
                self.put(&Answer::Refused(Refused::Protocol {
                    offered: 0,
                    spoken: PROTOCOL,
                }));
                return Some("Refused");
            }
            Request::Hello { protocol, .. } => {
                self.greeted = true;
                let (server, name) = answer::me();
                let protocol = protocol.min(PROTOCOL);
                Answer::Hello {
                    protocol,
                    server,
                    name,
                }
            }
            _ if !self.greeted => {
                self.put(&Answer::Refused(Refused::Malformed));
                return Some("Refused");
            }
            Request::Open { credential, .. } => answer::open(&credential),
            Request::Find { ticket, .. } => answer::find(&ticket),
            Request::Ask { session, ticket } => answer::ask(session, &ticket),
            Request::Renew { ticket } => answer::renew(&ticket),
            Request::Attach { ticket, .. } => match answer::attach_target(&ticket) {
                Ok(target) => Answer::Attached {
                    stream: answer::STREAM,
                    secret: answer::SECRET,
                    dead_after_ms: target.dead_after_ms,
                    retain_ms: target.retain_ms,
                },
                Err(refused) => Answer::Refused(refused),
            },
            Request::Resume(resume) => {
                let opening = Opening::Resume {
                    stream: resume.stream,
                    epoch: resume.epoch,
                    received: resume.received,
                    proof: resume.proof,
                    exporter: [8; 32],
                    address: String::new(),
                };
                match answer::opening(&opening) {
                    OpeningAnswer::Resumed { epoch, received } => {
                        Answer::Resumed { epoch, received }
                    }
                    _ => Answer::Refused(Refused::Resume),
                }
            }
        };
        self.put(&answer);
        self.judge(&answer)
    }

    fn judge(&mut self, answer: &Answer) -> Option<&'static str> {
        match answer {
            Answer::Attached { .. } | Answer::Resumed { .. } => {
                self.is_proved = true;
                return Some("Piped");
            }
            Answer::Refused(_) => self.refusals += u32::from(!self.is_proved),
            Answer::Hello { .. } => {}
            _ => self.is_proved = true,
        }
        let too_often = !self.is_proved && self.refusals >= relay::conversation::REFUSALS;
        too_often.then_some("Refused")
    }
}

/// What the floor above says: one ticket and one password hold.
pub(super) mod answer {
    use model::{ServerId, ServerName, SessionId, StreamId, UnixMillis};
    use relay::AttachTarget;
    use wire::client::{Answer, Credential, Hidden, Opened, Refused, SessionNews, StreamSecret};
    use wire::keeper::{Opening, OpeningAnswer, OpeningRefusal};

    pub(crate) const STREAM: StreamId = StreamId::from_bytes([6; 16]);
    pub(crate) const SECRET: StreamSecret = StreamSecret([9; 32]);

    pub(crate) fn me() -> (ServerId, ServerName) {
        let name = "boston".parse().expect("a name");
        (ServerId::from_bytes([1; 16]), name)
    }

    fn checked(ticket: &Hidden) -> Result<(), Refused> {
        match ticket.0.as_str() {
            "a ticket" => Ok(()),
            _ => Err(Refused::Ticket),
        }
    }

    fn if_holds(ticket: &Hidden, answer: Answer) -> Answer {
        checked(ticket).map_or_else(Answer::Refused, |()| answer)
    }

    pub(crate) fn open(credential: &Credential) -> Answer {
        let holds = match credential {
            Credential::Password { password, .. } => password.0 == "right",
            Credential::Ticket(ticket) => checked(ticket).is_ok(),
        };
        if !holds {
            return Answer::Refused(Refused::Login);
        }
        Answer::Opened(Box::new(Opened {
            session: SessionId::from_bytes([5; 10]),
            app: "desktop".parse().expect("a name"),
            created: true,
            host: me().0,
            ticket: Hidden("a ticket".to_owned()),
            expires: UnixMillis(1),
            servers: Vec::new(),
            said: Default::default(),
        }))
    }

    pub(crate) fn find(ticket: &Hidden) -> Answer {
        let found = Answer::Found {
            session: None,
            age_ms: 0,
        };
        if_holds(ticket, found)
    }

    pub(crate) fn ask(session: SessionId, ticket: &Hidden) -> Answer {
        let news = SessionNews {
            session,
            state: None,
            current: true,
            host: None,
            host_heard: false,
            reason: None,
            leave: None,
            renew: false,
        };
        if_holds(ticket, Answer::State(news))
    }

    pub(crate) fn renew(ticket: &Hidden) -> Answer {
        let renewed = Answer::Renewed {
            ticket: Hidden("a ticket".to_owned()),
            expires: UnixMillis(2),
            servers: Vec::new(),
        };
        if_holds(ticket, renewed)
    }

    pub(crate) fn attach_target(ticket: &Hidden) -> Result<AttachTarget, Refused> {
        checked(ticket).map(|()| AttachTarget {
            dead_after_ms: 1000,
            retain_ms: 120_000,
        })
    }

    pub(crate) fn opening(opening: &Opening) -> OpeningAnswer {
        match opening {
            Opening::Attach { .. } => OpeningAnswer::Attached {
                stream: STREAM,
                secret: SECRET,
            },
            Opening::Resume { proof, epoch, .. } if *proof == [1; 32] => OpeningAnswer::Resumed {
                epoch: *epoch,
                received: 77,
            },
            _ => OpeningAnswer::Refused(OpeningRefusal::Resume),
        }
    }
}
