//! How long a session goes on without a client.

use std::time::Duration;

use model::{Application, Resumable};

/// The longest time that a session may be without a client before it ends; `None` when it may for ever.
///
/// `retain` is how long a client's streams are kept for it, `open` how many it has, `None` before the first client.
pub(crate) fn patience(
    app: &Application,
    retain: Duration,
    open: Option<usize>,
) -> Option<Duration> {
    let detached = match (app.resumable, open) {
        (Resumable::Always, _) => None,
        (Resumable::Attached, _) => Some(Duration::from_millis(app.detach_timeout_ms)),
        // The client has not gone as long as it may resume a stream.
        (Resumable::Never, Some(1..)) => None,
        (Resumable::Never, _) => Some(Duration::ZERO),
    };
    let suspended = app.suspended_timeout_ms.map(Duration::from_millis);
    let span = [detached, suspended].into_iter().flatten().min()?;
    // The first client gets the time that a returning one has.
    let least = if open.is_none() {
        retain
    } else {
        Duration::ZERO
    };
    Some(span.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETAIN: Duration = Duration::from_secs(120);

    fn app(resumable: Resumable, suspended_timeout_ms: Option<u64>) -> Application {
        let named = Application::named("app".parse().unwrap());
        Application {
            resumable,
            detach_timeout_ms: 30_000,
            suspended_timeout_ms,
            ..named
        }
    }

    #[test]
    fn as_the_application_says() {
        let seconds = |count| Some(Duration::from_secs(count));
        for (resumable, suspended, open, expected) in [
            (Resumable::Always, None, Some(0), None),
            (Resumable::Always, None, None, None),
            (Resumable::Always, Some(500_000), Some(0), seconds(500)),
            (Resumable::Always, Some(5000), None, seconds(120)),
            (Resumable::Attached, None, Some(1), seconds(30)),
            (Resumable::Attached, Some(5000), Some(1), seconds(5)),
            (Resumable::Attached, None, None, seconds(120)),
            (Resumable::Never, None, None, seconds(120)),
            (Resumable::Never, None, Some(1), None),
            (Resumable::Never, None, Some(0), seconds(0)),
        ] {
            let found = patience(&app(resumable, suspended), RETAIN, open);
            assert_eq!(found, expected, "{resumable:?} {suspended:?} {open:?}");
        }
    }
}
