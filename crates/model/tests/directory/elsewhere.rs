//! Accounts whose passwords are checked elsewhere: whose are, and what has to be there for it.

use crate::common::*;
use model::trust::Sealed;
use model::user::PasswordHash;
use model::*;

fn set(key: &str, value: &str) -> Command {
    Command::SetSetting {
        key: key.to_owned(),
        value: value.to_owned(),
        on: None,
    }
}

fn checked_by(told: &Told, name: &str) -> Origin {
    let user = told.directory.user(&user_name(name)).unwrap();
    told.directory.authenticated_by(user)
}

fn found(told: &Told, name: &str) -> User {
    (**told.directory.user(&user_name(name)).unwrap()).clone()
}

#[test]
fn administrators_with_a_password_here_are_checked_here() {
    let mut told = Told::founded();
    let ann = User::from_elsewhere(user_name("eve"), Origin::Ldap);
    told.all([
        put_user(user("olga", Role::Operator), None),
        put_user(user("bob", Role::User), None),
        put_user(ann, None),
    ]);
    for name in ["olga", "bob", "eve"] {
        assert_eq!(checked_by(&told, name), Origin::Directory, "{name}");
    }
    told.all([
        set("users.ldap-user-dn", "uid={user},dc=example"),
        set("users.authenticate", "ldap:ldaps://one.example"),
    ]);
    assert_eq!(checked_by(&told, "olga"), Origin::Directory);
    assert_eq!(checked_by(&told, "bob"), Origin::Ldap);
    assert_eq!(checked_by(&told, "eve"), Origin::Ldap);
    // A role alone does not change whose password it is, nor where the account came from.
    let promoted = User {
        role: Role::Operator,
        origin: Origin::Directory,
        ..found(&told, "eve")
    };
    let version = promoted.version_number;
    told.all([put_user(promoted, Some(version))]);
    assert_eq!(checked_by(&told, "eve"), Origin::Ldap);
    assert_eq!(found(&told, "eve").origin, Origin::Ldap);
    let with_password = User {
        password: PasswordHash("a hash".to_owned()),
        ..found(&told, "eve")
    };
    let version = with_password.version_number;
    told.all([put_user(with_password, Some(version))]);
    assert_eq!(checked_by(&told, "eve"), Origin::Directory);
    told.all([set("users.authenticate", "pam")]);
    assert_eq!(checked_by(&told, "bob"), Origin::Pam);
}

#[test]
fn the_last_administrator_is_one_with_a_password_here() {
    let mut told = Told::founded();
    let admins: Vec<User> = told
        .directory
        .users()
        .map(|user| (**user).clone())
        .collect();
    let [admin] = &admins[..] else {
        panic!("{admins:?}");
    };
    let elsewhere = User {
        role: Role::Admin,
        ..User::from_elsewhere(user_name("eve"), Origin::Ldap)
    };
    told.all([put_user(elsewhere, None)]);
    let name = admin.name.clone();
    let removed = told.tell(Command::RemoveUser { name }).outcome;
    assert!(
        matches!(removed, Err(Refusal::LastAdministrator { .. })),
        "{removed:?}"
    );
}

#[test]
fn the_secret_for_looking_is_there_and_stays_as_long_as_it_is_named() {
    let mut told = Told::founded();
    let key = "users.ldap-bind-secret";
    let missing = told.tell(set(key, "reader")).outcome.unwrap_err();
    assert_eq!(missing.to_string(), r#"there is no secret "reader""#);
    let name: SecretName = "reader".parse().unwrap();
    let secret = StoredSecret {
        name: name.clone(),
        description: None,
        sealed: Sealed(vec![1]),
        created: UnixMillis(0),
        set: UnixMillis(0),
        by: String::new(),
        exposed: None,
        version_number: 0,
    };
    told.all([put_secret(secret, None), set(key, "reader")]);
    let remove = || Command::ChangeStoredSecret {
        change: StoredSecretChange::Remove { name: name.clone() },
    };
    let kept = told.tell(remove()).outcome.unwrap_err();
    assert!(matches!(kept, Refusal::SecretInSetting { .. }), "{kept}");
    let key = key.to_owned();
    told.all([Command::UnsetSetting { key, on: None }, remove()]);
}
