//! What a login costs whom, and what it tells.

use super::*;
use model::{Role, UnixMillis, UserName};
use std::net::IpAddr;
use std::pin::pin;
use std::task::{Context, Waker};

const RIGHT: &str = "right-password";
const LIMITS: Limits = Limits {
    attempts: 3,
    from_place: 100,
    time: Duration::from_secs(900),
};

fn hidden(text: &str) -> Hidden {
    Hidden(text.to_owned())
}

fn account(name: &str, stored: PasswordHash, disabled: bool) -> Arc<User> {
    Arc::new(User {
        name: name.parse().unwrap(),
        password: stored,
        role: Role::User,
        groups: Vec::new(),
        disabled,
        password_set: UnixMillis(0),
        version_number: 0,
        api_tokens: Vec::new(),
        lock: None,
        origin: model::Origin::Directory,
    })
}

fn place(number: u8) -> Place {
    IpAddr::from([10, 0, 0, number]).into()
}

fn attempt<'a>(name: &'a str, user: Option<&'a Arc<User>>, password: &'a Hidden) -> Attempt<'a> {
    Attempt {
        name,
        user,
        password,
        place: place(1),
        limits: LIMITS,
        is_here: &|| false,
    }
}

async fn ann(logins: &Logins) -> Arc<User> {
    let stored = logins.hash(hidden(RIGHT)).await.unwrap();
    account("ann", stored, false)
}

#[tokio::test]
async fn whoever_is_refused_gets_the_same_answer_for_the_same_work() {
    let logins = Logins::new().unwrap();
    let ann = ann(&logins).await;
    let disabled = account("eve", ann.password.clone(), true);
    let elsewhere = account("max", PasswordHash(String::new()), false);
    let (right, wrong, long) = (hidden(RIGHT), hidden("wrong"), hidden(&"x".repeat(100_000)));
    let cases = [
        ("wrong password", "ann", Some(&ann), &wrong),
        ("too long a password", "ann", Some(&ann), &long),
        ("no such account", "mallory", None, &right),
        ("a name that cannot exist", "?\u{e4} b", None, &right),
        ("a disabled account", "eve", Some(&disabled), &right),
        (
            "a disabled account, and wrong",
            "eve",
            Some(&disabled),
            &wrong,
        ),
        (
            "an account without a password",
            "max",
            Some(&elsewhere),
            &right,
        ),
        ("the same, with none", "max", Some(&elsewhere), &hidden("")),
    ];
    // She has just logged in: that tells nobody else anything.
    let came_in = logins.check(attempt("ann", Some(&ann), &right), Known::default);
    assert_eq!(came_in.await.unwrap().name, ann.name);
    for (what, name, user, password) in cases {
        let before = logins.hashed();
        let refused = logins.check(attempt(name, user, password), Known::default);
        assert_eq!(refused.await.unwrap_err(), LoginError::Wrong, "{what}");
        assert_eq!(logins.hashed(), before + 1, "{what}");
    }
}

#[tokio::test]
async fn whoever_has_to_wait_costs_nothing_whether_there_is_such_an_account_or_not() {
    let logins = Logins::new().unwrap();
    let ann = ann(&logins).await;
    let (right, wrong) = (hidden(RIGHT), hidden("wrong"));
    for (name, user) in [("ann", Some(&ann)), ("mallory", None)] {
        for _ in 0..LIMITS.attempts {
            let refused = logins.check(attempt(name, user, &wrong), Known::default);
            assert_eq!(refused.await.unwrap_err(), LoginError::Wrong);
        }
        let before = logins.hashed();
        let refused = logins.check(attempt(name, user, &right), Known::default);
        let refused = refused.await.unwrap_err();
        assert!(
            matches!(refused, LoginError::Locked { .. }),
            "{name}: {refused}"
        );
        assert_eq!(logins.hashed(), before);
    }
}

#[tokio::test]
async fn a_password_that_was_just_right_is_not_hashed_again() {
    let logins = Logins::new().unwrap();
    let ann = ann(&logins).await;
    let right = hidden(RIGHT);
    let crowd: Vec<_> = (0..20)
        .map(|_| logins.check(attempt("ann", Some(&ann), &right), Known::default))
        .collect();
    for one in crowd {
        one.await.unwrap();
    }
    assert_eq!(logins.hashed(), 1);
    // Another hash of the same password is another account's, or a later one of hers.
    let changed = account("ann", logins.hash(right.clone()).await.unwrap(), false);
    let again = logins.check(attempt("ann", Some(&changed), &right), Known::default);
    again.await.unwrap();
    assert_eq!(logins.hashed(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_gets_no_more_guesses_than_one_after_the_other() {
    let logins = Arc::new(Logins::new().unwrap());
    let ann = ann(&logins).await;
    let crowd: Vec<_> = (0..64)
        .map(|number| {
            let (logins, ann) = (Arc::clone(&logins), Arc::clone(&ann));
            tokio::spawn(async move {
                let guess = hidden(&format!("guess {number}"));
                let checked = logins.check(attempt("ann", Some(&ann), &guess), Known::default);
                checked.await.unwrap_err()
            })
        })
        .collect();
    let mut wrong = 0;
    for one in crowd {
        match one.await.unwrap() {
            LoginError::Wrong => wrong += 1,
            other => assert!(matches!(other, LoginError::Locked { .. }), "{other}"),
        }
    }
    let most = u64::from(LIMITS.attempts) + HASHERS as u64 - 1;
    assert!(logins.hashed() <= most && wrong <= most, "{wrong} guesses");
}

#[tokio::test]
async fn whoever_hangs_up_is_counted_and_keeps_his_place_until_the_work_is_done() {
    let logins = Logins::new().unwrap();
    let ann = ann(&logins).await;
    let wrong = hidden("wrong");
    for begun in 1..=LIMITS.attempts {
        {
            let mut check = pin!(logins.check(attempt("ann", Some(&ann), &wrong), Known::default));
            let mut context = Context::from_waker(Waker::noop());
            assert!(check.as_mut().poll(&mut context).is_pending());
        }
        // All places are free again only when what was begun is done.
        let places = u32::try_from(HASHERS).unwrap();
        drop(
            logins
                .pool
                .clone()
                .acquire_many_owned(places)
                .await
                .unwrap(),
        );
        assert_eq!(logins.hashed(), u64::from(begun));
    }
    let refused = logins.check(attempt("ann", Some(&ann), &wrong), Known::default);
    assert!(matches!(refused.await, Err(LoginError::Locked { .. })));
}

#[tokio::test]
async fn one_place_leaves_room_in_the_queue() {
    let logins = Logins::new().unwrap();
    let waiting: Vec<_> = (0..WAITING_FROM_PLACE)
        .map(|_| logins.wait_at(place(1)).unwrap())
        .collect();
    assert_eq!(logins.wait_at(place(1)).err(), Some(LoginError::Busy));
    assert!(logins.wait_at(place(2)).is_ok());
    drop(waiting);
    assert!(logins.wait_at(place(1)).is_ok());
    assert!(logins.memory().waiting.is_empty());
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let logins = Logins::new().unwrap();
    let places = u32::try_from(HASHERS).unwrap();
    let held = logins
        .pool
        .clone()
        .acquire_many_owned(places)
        .await
        .unwrap();
    // Each that waits holds the pool; so many are there that nobody more fits.
    let mut waiting = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        let mut one = Box::pin(place_in(&logins.pool));
        match one.as_mut().poll(&mut context) {
            std::task::Poll::Pending => waiting.push(one),
            std::task::Poll::Ready(refused) => {
                assert_eq!(refused.err(), Some(LoginError::Busy));
                break;
            }
        }
    }
    assert!((WAITING_LIMIT - HASHERS - 1..=WAITING_LIMIT).contains(&waiting.len()));
    drop((waiting, held));
    assert!(place_in(&logins.pool).await.is_ok());
}

#[tokio::test]
async fn names_are_kept_for_the_report() {
    let logins = Logins::new().unwrap();
    let wrong = hidden("wrong");
    let refused = logins.check(attempt("mallory", None, &wrong), Known::default);
    refused.await.unwrap_err();
    let lately = logins.lately(LIMITS, clock::steady());
    let name: UserName = "mallory".parse().unwrap();
    assert_eq!(lately.len(), 1);
    assert_eq!((lately[0].0.as_str(), lately[0].1), (name.as_str(), 1));
    assert_eq!(logins.failures_of("mallory", &Known::default(), LIMITS), 1);
}

#[tokio::test]
async fn whoever_comes_back_to_a_server_that_is_behind_has_guessed_once() {
    let logins = Logins::new().unwrap();
    let ann = ann(&logins).await;
    let wrong = hidden("wrong");
    for _ in 0..2 * LIMITS.attempts {
        let refused = logins.check(attempt("ann", Some(&ann), &wrong), Known::default);
        assert_eq!(refused.await.unwrap_err(), LoginError::Wrong);
        logins.answered_behind(&attempt("ann", Some(&ann), &wrong));
    }
    assert_eq!(logins.hashed(), 1);
    assert_eq!(logins.failures_of("ann", &Known::default(), LIMITS), 1);
    // Another password, or the same when hers has been changed, is another guess.
    let changed = account(
        "ann",
        logins.hash(hidden("wrong-no-more")).await.unwrap(),
        false,
    );
    for (user, password) in [(&ann, hidden("other")), (&changed, wrong.clone())] {
        let refused = logins.check(attempt("ann", Some(user), &password), Known::default);
        assert_eq!(refused.await.unwrap_err(), LoginError::Wrong);
    }
    assert_eq!(logins.hashed(), 3);
}

#[tokio::test]
async fn whose_client_is_here_gets_in_where_strangers_have_locked_the_account() {
    let logins = Logins::new().unwrap();
    let ann = ann(&logins).await;
    let right = hidden(RIGHT);
    let locked = || Known {
        elsewhere: vec![(LIMITS.attempts, clock::steady())],
        ..Known::default()
    };
    let refused = logins.check(attempt("ann", Some(&ann), &right), locked);
    assert!(matches!(refused.await, Err(LoginError::Locked { .. })));
    let here = Attempt {
        is_here: &|| true,
        ..attempt("ann", Some(&ann), &right)
    };
    logins.check(here, locked).await.unwrap();
}
