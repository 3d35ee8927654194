//! Profiles and preferences: what holds in the end, and why.

use crate::common::*;
use model::profile::{Audience, Origin, ProfileValue};
use model::*;

fn profile(audience: Audience, said: &[(&str, &str, bool)]) -> Command {
    let values = said.iter().map(|(key, value, locked)| {
        let value = ProfileValue {
            value: (*value).to_owned(),
            locked: *locked,
        };
        ((*key).to_owned(), value)
    });
    let profile = Profile {
        audience,
        values: values.collect(),
        changed: UnixMillis(0),
        version_number: 0,
    };
    put_profile(profile, None)
}

fn preferences(user: &str, said: &[(&str, &str)]) -> Command {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let preferences = Preferences {
        user: user_name(user),
        values: said.iter().map(own).collect(),
        changed: UnixMillis(0),
        version_number: 0,
    };
    prefer(preferences, None)
}

/// What holds for bob with card.1, as lines.
fn holds(told: &Told, app: Option<&str>) -> String {
    let app = app.map(app_name);
    let bob = user_name("bob");
    let found = told
        .directory
        .effective(&bob, &token("card.1"), app.as_ref());
    let lines = found.into_iter().map(|(key, said)| {
        let locked = if said.locked { " locked" } else { "" };
        let over: Vec<String> = said.passed_over.iter().map(Origin::to_string).collect();
        format!(
            "{key}={} of {}{locked} over [{}]",
            said.value,
            said.from,
            over.join(" ")
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_more_special_goes_before_and_what_is_locked_stays() {
    let mut told = Told::four_servers();
    let (app, user) = (
        Audience::App(app_name("shell")),
        Audience::User(user_name("bob")),
    );
    let card = Audience::Token(token("card.1"));
    told.all([
        profile(
            Audience::Group,
            &[
                ("env.LANG", "C", false),
                ("env.PROXY", "p1", true),
                ("listen", "127.0.0.1:1", false),
                ("notice", "hello", false),
            ],
        ),
        profile(
            app,
            &[("env.LANG", "de", false), ("env.PROXY", "p2", false)],
        ),
        profile(
            user,
            &[("listen", "127.0.0.1:2", true), ("app", "desktop", false)],
        ),
        profile(card, &[("listen", "127.0.0.1:3", false)]),
        preferences(
            "bob",
            &[
                ("app", "shell"),
                ("env.LANG", "fr"),
                ("env.LD_PRELOAD", "x"),
                ("listen", "127.0.0.1:4"),
            ],
        ),
        preferences("eve", &[("app", "shell")]),
    ]);
    insta::assert_snapshot!(holds(&told, Some("shell")), @r"
    app=shell of preferences over [user:bob]
    env.LANG=fr of preferences over [group app:shell]
    env.PROXY=p1 of group locked over [app:shell]
    listen=127.0.0.1:2 of user:bob locked over [group token:card.1 preferences]
    notice=hello of group over []
    ");
    insta::assert_snapshot!(holds(&told, None), @r"
    app=shell of preferences over [user:bob]
    env.LANG=fr of preferences over [group]
    env.PROXY=p1 of group locked over []
    listen=127.0.0.1:2 of user:bob locked over [group token:card.1 preferences]
    notice=hello of group over []
    ");
}

#[test]
fn documents_say_what_there_is_and_go_with_whom_they_are_of() {
    let mut told = Told::four_servers();
    let refused = |told: &mut Told, command| told.tell(command).outcome.unwrap_err().to_string();
    let user = Audience::User(user_name("nobody-here"));
    let why = refused(&mut told, profile(user, &[]));
    assert_eq!(why, r#"there is no user "nobody-here""#);
    let why = refused(
        &mut told,
        profile(Audience::Group, &[("lisen", "x", false)]),
    );
    assert_eq!(why, r#"document: there is no key "lisen""#);
    let why = refused(
        &mut told,
        profile(Audience::Group, &[("listen", "0.0.0.0:1", false)]),
    );
    assert!(why.contains(r#""0.0.0.0:1" does not fit listen"#), "{why}");
    let why = refused(&mut told, preferences("bob", &[("notice", "x")]));
    assert_eq!(why, "preferences: notice is said by profiles only");
    let large = "x".repeat(4_000);
    let names: Vec<String> = (0..20).map(|number| format!("env.X{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (&**name, &*large, false)).collect();
    let why = refused(&mut told, profile(Audience::Group, &many));
    assert!(why.contains("the document is too large"), "{why}");
    let (user, app) = (
        Audience::User(user_name("bob")),
        Audience::App(app_name("shell")),
    );
    told.all([
        profile(user, &[]),
        profile(app, &[]),
        preferences("bob", &[]),
        Command::RemoveUser {
            name: user_name("bob"),
        },
        Command::RemoveApp {
            name: app_name("shell"),
        },
    ]);
    assert_eq!(told.directory.profiles().count(), 0);
    assert_eq!(told.directory.all_preferences().count(), 0);
    assert_eq!(told.directory.check(), Vec::<String>::new());
}
