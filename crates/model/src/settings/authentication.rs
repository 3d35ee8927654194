//! The settings that say where passwords are checked, as types; and whether they fit together.

use crate::authentication::filter::Filter;
use crate::authentication::{Authenticate, check_template};
use crate::id::ServerId;
use crate::name::SecretName;
use crate::settings::{SettingError, Settings, Value};

const AUTHENTICATE: &str = "users.authenticate";
const BASE: &str = "users.ldap-base";
const BIND_DN: &str = "users.ldap-bind-dn";
const BIND_SECRET: &str = "users.ldap-bind-secret";
const CA: &str = "users.ldap-ca";
const FILTER: &str = "users.ldap-filter";
const SERVICE: &str = "users.pam-service";
const USER_DN: &str = "users.ldap-user-dn";

/// How the entry of a user is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FindUser {
    /// Its name follows from the user's.
    Template(String),
    /// It is looked for.
    Search {
        /// Under this entry.
        base: String,
        /// By this filter.
        filter: Filter,
        /// As this entry, with the value of this secret as its password; else as nobody.
        bind: Option<(String, SecretName)>,
    },
}

impl Settings {
    fn text(&self, key: &'static str, on: Option<ServerId>) -> &str {
        match self.known(key, on) {
            Value::Text(text) => text,
            other => unreachable!("invariant: {key} is text in the catalogue, found {other:?}"),
        }
    }

    fn given(&self, key: &'static str) -> Option<&str> {
        Some(self.text(key, None)).filter(|text| !text.is_empty())
    }

    /// `users.authenticate`.
    pub fn authenticate(&self) -> Authenticate {
        // What was set was checked; who finds another thing lets nobody in by it.
        Authenticate::parse(self.text(AUTHENTICATE, None)).unwrap_or(Authenticate::Directory)
    }

    /// How a user's entry is found at LDAP servers; none where nothing says so.
    pub fn find_user(&self) -> Option<FindUser> {
        if let Some(template) = self.given(USER_DN) {
            return Some(FindUser::Template(template.to_owned()));
        }
        let base = self.given(BASE)?.to_owned();
        let filter = Filter::parse(self.text(FILTER, None)).ok()?;
        let bind = self.given(BIND_DN).map(str::to_owned);
        let bind = bind.zip(self.bind_secret());
        Some(FindUser::Search { base, filter, bind })
    }

    /// `users.ldap-bind-secret`.
    pub fn bind_secret(&self) -> Option<SecretName> {
        self.given(BIND_SECRET)?.parse().ok()
    }

    /// `users.ldap-ca`, of one server or the group; none: the authorities that the system knows.
    pub fn ldap_ca(&self, on: Option<ServerId>) -> Option<&str> {
        Some(self.text(CA, on)).filter(|path| !path.is_empty())
    }

    /// `users.pam-service`: the name of a file.
    pub fn pam_service(&self) -> &str {
        self.text(SERVICE, None)
    }

    /// Whether what is said of LDAP servers fits together.
    pub(super) fn check_authentication(&self) -> Result<(), SettingError> {
        let unfit = |key: &str, why: String| SettingError::Unfit {
            key: key.to_owned(),
            why,
        };
        let authenticate = Authenticate::parse(self.text(AUTHENTICATE, None));
        let authenticate = authenticate.map_err(|why| unfit(AUTHENTICATE, why))?;
        Filter::parse(self.text(FILTER, None)).map_err(|why| unfit(FILTER, why))?;
        if let Some(template) = self.given(USER_DN) {
            check_template(template).map_err(|why| unfit(USER_DN, why))?;
        }
        for key in [BASE, BIND_DN] {
            if self.given(key).is_some_and(|name| !name.contains('=')) {
                let why = "it is no distinguished name, such as ou=people,dc=example,dc=com";
                return Err(unfit(key, why.to_owned()));
            }
        }
        if let Some(name) = self.given(BIND_SECRET) {
            let named: Result<SecretName, _> = name.parse();
            named.map_err(|error| unfit(BIND_SECRET, error.to_string()))?;
        }
        if self.given(BIND_DN).is_some() && self.given(BIND_SECRET).is_none() {
            let why = "its password is missing: keep it with `stead secret set`, and name it with users.ldap-bind-secret first";
            return Err(unfit(BIND_DN, why.to_owned()));
        }
        let own = self.servers.iter().filter(|((key, _), _)| *key == CA);
        let paths = own.map(|((_, server), _)| self.text(CA, Some(*server)));
        let paths = std::iter::once(self.text(CA, None)).chain(paths);
        if paths
            .into_iter()
            .any(|path| !path.is_empty() && !path.starts_with('/'))
        {
            let why = "it is the path of a file, from / on";
            return Err(unfit(CA, why.to_owned()));
        }
        let fits = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        let service = self.pam_service();
        if service.is_empty() || !service.chars().all(fits) {
            let why = "it is the name of a file in /etc/pam.d, of letters, digits, - and _";
            return Err(unfit(SERVICE, why.to_owned()));
        }
        match authenticate {
            Authenticate::Ldap(_) if self.find_user().is_none() => Err(SettingError::NobodyFound),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(settings: &mut Settings, key: &str, value: &str) -> Result<(), SettingError> {
        let mut next = settings.clone();
        next.set(key, None, value)?;
        next.check()?;
        *settings = next;
        Ok(())
    }

    #[test]
    fn ldap_is_asked_only_when_users_can_be_found() {
        let mut settings = Settings::default();
        assert_eq!(settings.authenticate(), Authenticate::Directory);
        assert_eq!(settings.find_user(), None);
        let ldap = "ldap:ldaps://one.example";
        let refused = set(&mut settings, AUTHENTICATE, ldap).unwrap_err();
        assert_eq!(refused, SettingError::NobodyFound);
        set(&mut settings, AUTHENTICATE, "pam").unwrap();
        assert_eq!(settings.authenticate(), Authenticate::Pam);

        set(&mut settings, BASE, "dc=example").unwrap();
        set(&mut settings, AUTHENTICATE, ldap).unwrap();
        let Some(FindUser::Search { base, bind, .. }) = settings.find_user() else {
            panic!("no search");
        };
        assert_eq!((base.as_str(), bind), ("dc=example", None));
        let reader = "cn=reader,dc=example";
        assert!(
            set(&mut settings, BIND_DN, reader).is_err(),
            "without a password"
        );
        set(&mut settings, BIND_SECRET, "reader").unwrap();
        set(&mut settings, BIND_DN, reader).unwrap();
        let Some(FindUser::Search { bind, .. }) = settings.find_user() else {
            panic!("no search");
        };
        assert_eq!(bind, Some((reader.to_owned(), "reader".parse().unwrap())));
        assert!(
            set(&mut settings, BASE, "").is_err(),
            "nothing says who is who"
        );
        // A template goes before a search.
        let template = "uid={user},dc=example";
        set(&mut settings, USER_DN, template).unwrap();
        assert_eq!(
            settings.find_user(),
            Some(FindUser::Template(template.to_owned()))
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (key, value) in [
            (AUTHENTICATE, "kerberos"),
            (FILTER, "(uid=ann)"),
            (USER_DN, "ann"),
            (BASE, "example"),
            (BIND_DN, "reader"),
            (BIND_SECRET, "no such name"),
            (CA, "ca.pem"),
            (SERVICE, "../stead"),
            (SERVICE, ""),
        ] {
            let refused = set(&mut Settings::default(), key, value).unwrap_err();
            assert!(refused.to_string().starts_with(key), "{refused}");
        }
    }
}
