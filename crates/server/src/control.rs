//! Answers to what other members ask.

use crate::clock;
use crate::formations;
use crate::moving::Move;
use crate::node::{Node, not_primary};
use crate::office::Promotion;
use crate::placing::{Whose, Wish};
use crate::submit::{Attempt, SubmitError};
use bytes::Bytes;
use model::{Change, ServerId};
use wire::control::{Answer, Failure, Relayed, Report, Request};

/// Answers one request of a member.
pub async fn answer(node: &Node, from: ServerId, request: &[u8]) -> Bytes {
    let answer = match wire::decode::<Request>(request) {
        Ok(request) => respond(node, from, request).await,
        Err(error) => Answer::Failed(Failure::Invalid {
            why: error.to_string(),
        }),
    };
    Bytes::from(wire::encode(&answer))
}

async fn respond(node: &Node, from: ServerId, request: Request) -> Answer {
    match request {
        Request::Propose {
            id,
            author,
            command,
        } => {
            let change = Change {
                id,
                at: clock::calendar(),
                author,
                command,
            };
            settled(node, node.propose_here(change).await)
        }
        request @ (Request::OpenSession { .. }
        | Request::BindToken { .. }
        | Request::MoveSession { .. }) => about_sessions(node, request).await,
        Request::Report(report) => take_report(node, from, *report),
        Request::ReadIndex => read_index(node).await,
        Request::View => Answer::View(Box::new(node.view())),
        Request::Promote {
            server,
            author,
            reason,
            temporary,
        } => {
            let wish = Promotion {
                server,
                author,
                reason,
                temporary,
            };
            done(node, node.promote_here(&wish).await)
        }
        Request::RemoveServer {
            server,
            author,
            reason,
        } => done(node, node.remove_here(server, author, reason).await),
        Request::IssueTicket { user, token } => issue_ticket(node, &user, &token),
        Request::Probe { address, probe_key } => probe(node, address, probe_key).await,
        Request::TryAddress {
            server,
            port,
            address,
        } => try_address(node, server, port, address).await,
        Request::Goodbye => Answer::Done,
        Request::StandAlone {
            formation,
            by,
            reason,
        } => done(node, node.leave_soon(from, formation, by, reason)),
        request @ (Request::Side
        | Request::Enter { .. }
        | Request::Base { .. }
        | Request::MakeFormation { .. }
        | Request::GiveWay { .. }) => about_formations(node, from, request).await,
    }
}

/// Sessions that only a primary places.
async fn about_sessions(node: &Node, request: Request) -> Answer {
    match request {
        Request::OpenSession {
            id,
            author,
            token,
            user,
            app,
            host,
            client,
        } => {
            let wish = Wish {
                id,
                author,
                token,
                whose: Whose::User(user),
                app,
                host,
                client,
            };
            settled(node, node.open_session_here(&wish).await)
        }
        Request::BindToken {
            id,
            author,
            token,
            app,
            client,
        } => {
            let wish = Wish {
                id,
                author,
                token,
                whose: Whose::Claimed,
                app,
                host: None,
                client,
            };
            settled(node, node.open_session_here(&wish).await)
        }
        Request::MoveSession {
            id,
            author,
            session,
            to,
            by,
        } => {
            let wish = Move {
                id,
                author,
                session,
                to,
                by,
                online_only: false,
            };
            settled(node, node.move_session_here(&wish).await)
        }
        _ => failed(Failure::Invalid {
            why: "it is not about sessions".to_owned(),
        }),
    }
}

/// Tries to reach a server that wants to join.
async fn probe(node: &Node, address: String, probe_key: [u8; 32]) -> Answer {
    match crate::admission::probe(node, &address, probe_key).await {
        Ok(()) => Answer::Done,
        Err(why) => failed(Failure::Unreachable { address, why }),
    }
}

/// Tries whether a member is reached at an address.
async fn try_address(
    node: &Node,
    server: ServerId,
    port: wire::control::Port,
    address: String,
) -> Answer {
    match node.try_address(server, port, &address).await {
        Ok(()) => Answer::Done,
        Err(why) => failed(Failure::Unreachable { address, why }),
    }
}

/// What has to do with other formations than this server's.
async fn about_formations(node: &Node, from: ServerId, request: Request) -> Answer {
    match request {
        Request::Side => Answer::Side(Box::new(node.side())),
        Request::Enter {
            side,
            formation,
            gives_way,
            by_hand,
        } => {
            let how = (gives_way, by_hand);
            let room = formations::let_in(node, from, &side, formation, how).await;
            room.map_or_else(failed, |threshold| Answer::Room {
                term: threshold.term,
                number: threshold.number,
            })
        }
        Request::Base { formation, offset } => {
            Answer::Records(formations::base_records(node, formation, offset).await)
        }
        Request::MakeFormation {
            from: formation,
            author,
            reason,
        } => {
            let reason = reason.as_deref();
            let made = formations::make_by_hand(node, formation, &author, reason).await;
            done(node, made)
        }
        Request::GiveWay {
            to,
            primary,
            author,
            reason,
        } => {
            let reason = reason.as_deref();
            let gone = formations::give_way(node, to, primary, &author, reason).await;
            done(node, gone)
        }
        _ => failed(Failure::Invalid {
            why: "it is not about formations".to_owned(),
        }),
    }
}

/// What a member says of itself; it is told what this server knows of all.
fn take_report(node: &Node, from: ServerId, report: Report) -> Answer {
    if report.server != from {
        return failed(Failure::Invalid {
            why: "a report of another server".to_owned(),
        });
    }
    let reports = &node.0.reports;
    reports.take(report, clock::steady());
    node.0.placing.reported(from);
    let (calendar, now) = (clock::calendar(), clock::steady());
    let relayed = reports.all().into_values().map(|known| Relayed {
        report: known.report.clone(),
        ahead_ms: known.ahead_ms(calendar, now),
    });
    Answer::Reports(relayed.collect())
}

async fn read_index(node: &Node) -> Answer {
    match node.replica().read_index(crate::submit::LIMIT).await {
        Ok(name) => Answer::ReadIndex(name),
        Err(error) => {
            tracing::debug!(%error, "a read cannot be ordered here");
            failed(not_primary(node))
        }
    }
}

fn failed(failure: Failure) -> Answer {
    Answer::Failed(failure)
}

fn settled(node: &Node, attempt: Attempt) -> Answer {
    match attempt {
        Attempt::Settled(Ok(applied)) => Answer::Applied(Box::new(applied)),
        Attempt::Settled(Err(error)) => failed(failure_of(node, error)),
        Attempt::Again { unknown: true } => failed(Failure::OutcomeUnknown),
        Attempt::Again { unknown: false } => failed(not_primary(node)),
    }
}

fn done(node: &Node, result: Result<(), SubmitError>) -> Answer {
    result.map_or_else(|error| failed(failure_of(node, error)), |()| Answer::Done)
}

/// An error as another member is told it.
fn failure_of(node: &Node, error: SubmitError) -> Failure {
    match error {
        SubmitError::NoPrimary { .. } => not_primary(node),
        SubmitError::OutcomeUnknown | SubmitError::Behind { .. } => Failure::OutcomeUnknown,
        SubmitError::DiskFull => Failure::DiskFull,
        SubmitError::Unfit {
            decision,
            candidates,
        } => Failure::Unfit {
            decision,
            candidates,
        },
        SubmitError::NoSealKey => Failure::NoSealKey,
        other => Failure::Invalid {
            why: other.to_string(),
        },
    }
}

fn issue_ticket(node: &Node, user: &model::UserName, token: &model::Token) -> Answer {
    let directory = node.directory();
    if directory.user(user).is_none_or(|user| user.disabled) {
        return failed(Failure::Invalid {
            why: "there is no such user here".to_owned(),
        });
    }
    let lifetime = directory.settings().ticket_lifetime();
    match node
        .tickets()
        .for_token(user, token, clock::calendar(), lifetime)
    {
        Ok(issued) => Answer::Ticket {
            ticket: issued.ticket,
            expires: issued.expires,
        },
        Err(_) => failed(Failure::NoSealKey),
    }
}
