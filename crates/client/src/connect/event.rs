//! What a user of `stead connect` is told, as it happens. The JSON form is a contract for scripts.

use serde::Serialize;

/// Something that happened to the session. Servers are given by their names, sessions by their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The session is open and the viewer can connect.
    Ready {
        /// Where: `address:port`, or `stdio`.
        listen: String,
        /// The session.
        session: String,
        /// Its host.
        host: String,
    },
    /// A stream has no path any more; others are being tried. Said once until all streams have one again.
    PathLost {
        /// The session.
        session: String,
        /// Its host.
        host: String,
    },
    /// All streams have a path again. Nothing was lost.
    Resumed {
        /// How long no byte could pass: from the last that was heard over the first path that was lost, to the moment when the last
        /// stream had a path again. In milliseconds.
        outage_ms: u64,
        /// The server that the new path goes through.
        via: String,
    },
    /// The session is gone, and what ran in it. A [`Event::Moved`] follows when the token has another.
    SessionLost {
        /// The session.
        session: String,
        /// Its host.
        host: String,
        /// Why.
        reason: String,
    },
    /// There is another session in place of one that was lost, or that somebody moved.
    Moved {
        /// The host of the other session.
        from: String,
        /// The host of the new one.
        to: String,
        /// From the last byte of the other session that was heard to the moment when the new one was open. In milliseconds.
        outage_ms: u64,
        /// The new session.
        session: String,
        /// Why the other was left.
        reason: String,
    },
    /// The session's host is being drained: the session goes on elsewhere, anew, and until then its user chooses the moment
    /// (`stead select`). Said again as the time runs out.
    MoveDue {
        /// The session.
        session: String,
        /// Its host.
        host: String,
        /// How long it may stay at most, in milliseconds.
        within_ms: u64,
        /// Who asks.
        by: String,
        /// Why, in their words; empty when they gave no reason.
        reason: String,
    },
    /// The session stays where it is after all: its host is not being drained any more.
    MoveCancelled {
        /// The session.
        session: String,
        /// Its host.
        host: String,
    },
    /// Another client with this token has taken the session over.
    TakenOver {
        /// The session.
        session: String,
    },
    /// The session has come to its end.
    Ended {
        /// Why.
        reason: String,
    },
    /// What the group's administrators say to whoever logs in.
    Notice {
        /// What they say.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_is_a_contract() {
        let text = |event: &Event| serde_json::to_string(event).unwrap();
        let (session, host) = ("00aa".to_owned(), "boston".to_owned());
        let listen = "127.0.0.1:5900".to_owned();
        let ready = Event::Ready {
            listen,
            session: session.clone(),
            host: host.clone(),
        };
        assert_eq!(
            text(&ready),
            r#"{"event":"ready","listen":"127.0.0.1:5900","session":"00aa","host":"boston"}"#
        );
        let resumed = Event::Resumed {
            outage_ms: 12,
            via: host.clone(),
        };
        assert_eq!(
            text(&resumed),
            r#"{"event":"resumed","outage_ms":12,"via":"boston"}"#
        );
        let moved = Event::Moved {
            from: host.clone(),
            to: "oslo".to_owned(),
            outage_ms: 1500,
            session: session.clone(),
            reason: "gone".to_owned(),
        };
        assert_eq!(
            text(&moved),
            r#"{"event":"moved","from":"boston","to":"oslo","outage_ms":1500,"session":"00aa","reason":"gone"}"#
        );
        let lost = Event::SessionLost {
            session: session.clone(),
            host: host.clone(),
            reason: "gone".to_owned(),
        };
        assert_eq!(
            text(&lost),
            r#"{"event":"session-lost","session":"00aa","host":"boston","reason":"gone"}"#
        );
        let path = Event::PathLost {
            session: session.clone(),
            host,
        };
        assert_eq!(
            text(&path),
            r#"{"event":"path-lost","session":"00aa","host":"boston"}"#
        );
        let due = Event::MoveDue {
            session: session.clone(),
            host: "boston".to_owned(),
            within_ms: 60_000,
            by: "ann".to_owned(),
            reason: "new disks".to_owned(),
        };
        assert_eq!(
            text(&due),
            r#"{"event":"move-due","session":"00aa","host":"boston","within_ms":60000,"by":"ann","reason":"new disks"}"#
        );
        let cancelled = Event::MoveCancelled {
            session: session.clone(),
            host: "boston".to_owned(),
        };
        assert_eq!(
            text(&cancelled),
            r#"{"event":"move-cancelled","session":"00aa","host":"boston"}"#
        );
        assert_eq!(
            text(&Event::TakenOver { session }),
            r#"{"event":"taken-over","session":"00aa"}"#
        );
        let notice = Event::Notice {
            text: "hello".to_owned(),
        };
        assert_eq!(text(&notice), r#"{"event":"notice","text":"hello"}"#);
        let ended = Event::Ended {
            reason: "done".to_owned(),
        };
        assert_eq!(text(&ended), r#"{"event":"ended","reason":"done"}"#);
    }
}
