//! Where passwords are checked: in the directory, by PAM on the server that is asked, or by LDAP servers.
//!
//! Always true: what is read here can be asked as it is; a user's name becomes part of a distinguished name or a filter only as a
//! value, whatever is in it. Start at [`Authenticate`], and at [`crate::Directory::authenticated_by`] for whose password is checked where.

pub mod filter;

use crate::directory::Directory;
use crate::user::{Role, User};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What stands for the user's name in templates and filters.
pub const USER: &str = "{user}";
/// The most LDAP servers.
pub const SERVERS: usize = 8;

/// Where an account came from, or where its password is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The directory: an administrator made it.
    #[default]
    Directory,
    /// PAM.
    Pam,
    /// LDAP servers.
    Ldap,
}

impl Origin {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Pam => "pam",
            Self::Ldap => "ldap",
        }
    }
}

/// What `users.authenticate` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authenticate {
    /// Accounts of the directory, and no others.
    Directory,
    /// PAM, on the server that is asked.
    Pam,
    /// LDAP servers, the first that answers.
    Ldap(Vec<LdapUrl>),
}

impl Authenticate {
    /// Reads the setting.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "directory" => return Ok(Self::Directory),
            "pam" => return Ok(Self::Pam),
            _ => {}
        }
        let alone = text.starts_with("ldap://") || text.starts_with("ldaps://");
        let list = match alone {
            true => text,
            false => text.strip_prefix("ldap:").ok_or_else(|| {
                "it takes directory, pam, or ldap: and an address, such as ldap:ldaps://ldap.example.com".to_owned()
            })?,
        };
        let words = list.split([',', ' ']).filter(|word| !word.is_empty());
        let urls: Vec<LdapUrl> = words.map(LdapUrl::parse).collect::<Result<_, _>>()?;
        match urls.len() {
            0 => Err(
                "an address is missing after ldap:, such as ldaps://ldap.example.com".to_owned(),
            ),
            1..=SERVERS => Ok(Self::Ldap(urls)),
            many => Err(format!("{many} addresses are too many: {SERVERS} at most")),
        }
    }

    /// Which of the three.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Directory => Origin::Directory,
            Self::Pam => Origin::Pam,
            Self::Ldap(_) => Origin::Ldap,
        }
    }
}

impl Directory {
    /// Where the password of an account is checked. One that may do more than use applications, and has a password in the directory, logs
    /// in with that alone: nobody becomes an administrator by making an account elsewhere, and none is locked out by what is broken there.
    pub fn authenticated_by(&self, user: &User) -> Origin {
        match user.role > Role::User && user.has_password() {
            true => Origin::Directory,
            false => self.settings().authenticate().origin(),
        }
    }
}

/// An LDAP server. A connection to it is encrypted before anything is said of anybody, one way or the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LdapUrl {
    /// `ldaps`: TLS from the first byte; else the connection begins in the clear and asks for it (StartTLS).
    pub tls_at_once: bool,
    /// A name or an address, without brackets; the certificate has to be for it.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl LdapUrl {
    fn parse(text: &str) -> Result<Self, String> {
        if text.contains('@') {
            // What may be a password is not repeated.
            return Err("an address has no name and no password in it: users.ldap-bind-dn and users.ldap-bind-secret are for that".to_owned());
        }
        let unfit = |why: &str| Err(format!("{text:?} is no address of an LDAP server: {why}"));
        let (tls_at_once, rest) =
            match (text.strip_prefix("ldaps://"), text.strip_prefix("ldap://")) {
                (Some(rest), _) => (true, rest),
                (_, Some(rest)) => (false, rest),
                _ => return unfit("it begins with ldaps:// or ldap://"),
            };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port),
                _ => return unfit("what is between [ and ] is no IPv6 address"),
            },
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let named = |host: &str| {
            let fits =
                |character: char| character.is_ascii_alphanumeric() || ".-_".contains(character);
            !host.is_empty() && host.len() <= 253 && host.chars().all(fits)
        };
        if !rest.starts_with('[') && !named(host) {
            return unfit(
                "a host stands there, and nothing but a port after it: base and filter have settings of their own",
            );
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => {
                if tls_at_once {
                    636
                } else {
                    389
                }
            }
            Some(digits) => match digits.parse() {
                Ok(port) if port > 0 => port,
                _ => return unfit("its port is no number from 1 to 65535"),
            },
            None => return unfit("a host stands there, and nothing but a port after it"),
        };
        Ok(Self {
            tls_at_once,
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for LdapUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls_at_once { "ldaps" } else { "ldap" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// A distinguished name with the user's name in it, from a template. Whatever the name is, it stays one value (RFC 4514).
pub fn user_dn(template: &str, user: &str) -> String {
    template.replace(USER, &escaped(user))
}

/// A value as it stands in a distinguished name (RFC 4514, section 2.4): whatever could mean something there is written as two hex
/// digits, which every server reads.
fn escaped(value: &str) -> String {
    let last = value.len().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (place, character) in value.char_indices() {
        let at_end = place == 0 || place == last;
        let means = "\"+,;<>\\=".contains(character)
            || character.is_ascii_control()
            || (character == ' ' && at_end)
            || (character == '#' && place == 0);
        match means {
            true => text.push_str(&format!("\\{:02x}", u32::from(character))),
            false => text.push(character),
        }
    }
    text
}

/// Whether a template names one entry for each user.
///
/// # Errors
/// What does not fit, in words.
pub(crate) fn check_template(template: &str) -> Result<(), String> {
    let is_named = |part: &str| {
        part.split_once('=').is_some_and(|(what, value)| {
            let attribute = what.trim();
            !attribute.is_empty()
                && attribute
                    .chars()
                    .all(|character| character.is_ascii_alphanumeric() || "-.".contains(character))
                && !value.trim().is_empty()
        })
    };
    if !template.contains(USER) {
        return Err(format!(
            "the user's name has no place in it: {USER} stands for it"
        ));
    }
    let first = template.split(',').next().unwrap_or_default();
    match is_named(first) {
        true => Ok(()),
        false => Err(format!(
            "it is no distinguished name, such as uid={USER},ou=people,dc=example,dc=com"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_setting_says_is_read() {
        let read = |text| Authenticate::parse(text).unwrap();
        assert_eq!(read("directory"), Authenticate::Directory);
        assert_eq!(read("pam"), Authenticate::Pam);
        for (text, urls) in [
            ("ldap:ldaps://one.example", &["ldaps://one.example:636"][..]),
            ("ldap:ldap://one.example/", &["ldap://one.example:389"]),
            ("ldaps://one:6360", &["ldaps://one:6360"]),
            ("ldap://10.0.0.1", &["ldap://10.0.0.1:389"]),
            (
                "ldap:ldaps://[fd00::1],ldap://two:3890",
                &["ldaps://[fd00::1]:636", "ldap://two:3890"],
            ),
            ("ldaps://a ldaps://b", &["ldaps://a:636", "ldaps://b:636"]),
        ] {
            let Authenticate::Ldap(found) = read(text) else {
                panic!("{text}");
            };
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, urls, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "it takes directory"),
            ("krb5", "it takes directory"),
            ("ldap:", "an address is missing"),
            ("ldap:one.example", "begins with ldaps://"),
            ("ldap:http://one", "begins with ldaps://"),
            ("ldaps://", "a host stands there"),
            ("ldaps://one/dc=example", "a host stands there"),
            ("ldaps://one:", "its port"),
            ("ldaps://one:0", "its port"),
            ("ldaps://one:70000", "its port"),
            ("ldaps://ann:secret@one", "no password in it"),
            ("ldaps://[one]", "no IPv6 address"),
            ("ldaps://[::1]x", "nothing but a port"),
            ("ldaps://a,b", "begins with ldaps://"),
        ] {
            let refused = Authenticate::parse(text).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
        let many = ["ldaps://a"; SERVERS + 1].join(",");
        assert!(Authenticate::parse(&many).is_err());
    }

    #[test]
    fn a_name_is_one_value_of_a_distinguished_name() {
        let template = "uid={user},ou=people,dc=example";
        for (user, first) in [
            ("ann", "ann"),
            ("ann,ou=admins", r"ann\2cou\3dadmins"),
            (r#"a"+;<>\="#, r"a\22\2b\3b\3c\3e\5c\3d"),
            ("#ann", r"\23ann"),
            (" ann ", r"\20ann\20"),
            ("a b#c", "a b#c"),
            ("a\0\n", r"a\00\0a"),
            ("{user}", "{user}"),
            ("\u{e4}nn", "\u{e4}nn"),
        ] {
            assert_eq!(
                user_dn(template, user),
                format!("uid={first},ou=people,dc=example")
            );
        }
    }

    #[test]
    fn a_template_names_one_entry_for_each_user() {
        for fits in [
            "uid={user},dc=example",
            "CN={user}",
            "1.2.3={user},o=x",
            "mail={user}@example.com,o=x",
        ] {
            check_template(fits).unwrap();
        }
        for unfit in [
            "uid=ann,dc=example",
            "{user}",
            "={user}",
            "u id={user}",
            "",
            "uid=,ou={user}",
        ] {
            assert!(check_template(unfit).is_err(), "{unfit}");
        }
    }
}
