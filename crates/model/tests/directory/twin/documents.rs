//! Random certificates of operators, secrets, profiles and preferences.

use super::*;

pub(super) fn any_certificate() -> impl Strategy<Value = ExternalCertificate> {
    let name = select(&["www.example", "WWW.example", "portal.example"][..]);
    let chain = vec(vec(1..3u8, 1..3), 0..2);
    (name, chain, 0..8u8).prop_map(|(name, chain, key)| {
        let whole = certificate(ExternalName::new(name).unwrap(), key);
        ExternalCertificate {
            chain,
            key: match key {
                0 => trust::Sealed::default(),
                key => seals::sealed(key % 3 + 1, 1),
            },
            ..whole
        }
    })
}

pub(super) fn any_secret() -> impl Strategy<Value = StoredSecret> {
    (select(&SECRETS[..]), 1..3u8).prop_map(|(name, value)| StoredSecret {
        name: name.parse().unwrap(),
        description: None,
        sealed: seals::sealed(value, value),
        created: UnixMillis(0),
        set: UnixMillis(0),
        by: String::new(),
        exposed: None,
        version_number: 0,
    })
}

pub(super) fn certificate_command() -> impl Strategy<Value = Command> {
    let put = any_certificate().prop_map(|one| Command::PutCertificate {
        certificate: Box::new(one),
    });
    let remove = any_certificate().prop_map(|one| Command::RemoveCertificate { name: one.name });
    prop_oneof![2 => put, 1 => remove]
}

pub(super) fn any_said() -> impl Strategy<Value = BTreeMap<String, String>> {
    let pair = select(vec![
        ("app", "shell"),
        ("env.LANG", "de"),
        ("env.LANG", "de"),
        ("notice", "hello"),
        ("app", "a shell"),
        ("apps", "shell"),
    ]);
    vec(pair, 0..3).prop_map(|said| {
        let owned = said
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        owned.collect()
    })
}

pub(super) fn any_profile() -> impl Strategy<Value = Profile> {
    use profile::{Audience, ProfileValue};
    let audience = prop_oneof![
        Just(Audience::Group),
        select(&APPS[..]).prop_map(|name| Audience::App(app_name(name))),
        select(&USERS[..]).prop_map(|name| Audience::User(user_name(name))),
        select(&NAMES[..]).prop_map(|name| Audience::Token(token(name))),
    ];
    (audience, any_said(), any::<bool>()).prop_map(|(audience, said, locked)| Profile {
        audience,
        values: said
            .into_iter()
            .map(|(key, value)| (key, ProfileValue { value, locked }))
            .collect(),
        changed: UnixMillis(0),
        version_number: 0,
    })
}

pub(super) fn any_preferences() -> impl Strategy<Value = Preferences> {
    (select(&USERS[..]), any_said()).prop_map(|(name, values)| Preferences {
        user: user_name(name),
        values,
        changed: UnixMillis(0),
        version_number: 0,
    })
}
