//! The filter that finds a user's entry, read from its text (RFC 4515) before anybody's name is put into it.
//!
//! Always true: a name is put into the values of a filter that was read, never into its text, so there is nothing that it could
//! change but the value; and a filter that was read asks for the name somewhere.

use super::USER;

/// How deep filters are nested at most.
const DEPTH: usize = 16;
/// The most characters that a filter has.
pub const LIMIT: usize = 1_000;

/// A filter that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All of these.
    And(Vec<Filter>),
    /// Any of these.
    Or(Vec<Filter>),
    /// Not this one.
    Not(Box<Filter>),
    /// The attribute is there.
    Present(String),
    /// The attribute has this value.
    Equal(String, String),
    /// The attribute has a value that begins, goes on and ends so.
    Substrings {
        /// Which attribute.
        attribute: String,
        /// What it begins with.
        first: Option<String>,
        /// What it has then, in order.
        then: Vec<String>,
        /// What it ends with.
        last: Option<String>,
    },
    /// The attribute is at least so much.
    AtLeast(String, String),
    /// The attribute is at most so much.
    AtMost(String, String),
    /// The attribute fits a value by a rule, such as `1.2.840.113556.1.4.803`.
    Rule {
        /// Which attribute.
        attribute: String,
        /// Which rule.
        rule: String,
        /// The value.
        value: String,
    },
}

impl Filter {
    /// Reads a filter that has the user's name in it.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.chars().count() > LIMIT {
            return Err(format!("it is longer than {LIMIT} characters"));
        }
        let (filter, rest) = parse_one(text.trim(), DEPTH)?;
        if !rest.trim().is_empty() {
            return Err(format!("{rest:?} stands after its end"));
        }
        match filter.asks_for_user() {
            true => Ok(filter),
            false => Err(format!(
                "it asks for nobody's name: {USER} stands for it, as in (uid={USER})"
            )),
        }
    }

    /// The filter for one user.
    pub fn of_user(&self, user: &str) -> Self {
        let put = |value: &str| value.replace(USER, user);
        let all = |filters: &[Self]| filters.iter().map(|one| one.of_user(user)).collect();
        match self {
            Self::And(filters) => Self::And(all(filters)),
            Self::Or(filters) => Self::Or(all(filters)),
            Self::Not(filter) => Self::Not(Box::new(filter.of_user(user))),
            Self::Equal(attribute, value) => Self::Equal(attribute.clone(), put(value)),
            Self::Rule {
                attribute,
                rule,
                value,
            } => Self::Rule {
                attribute: attribute.clone(),
                rule: rule.clone(),
                value: put(value),
            },
            other => other.clone(),
        }
    }

    /// Whether only entries that have the name are found: what is denied or one of several would find those of others.
    fn asks_for_user(&self) -> bool {
        match self {
            Self::And(filters) => filters.iter().any(Self::asks_for_user),
            Self::Or(filters) => filters.iter().all(Self::asks_for_user),
            Self::Equal(_, value) => value.contains(USER),
            Self::Rule { value, .. } => value.contains(USER),
            _ => false,
        }
    }
}

fn parse_one(text: &str, depth: usize) -> Result<(Filter, &str), String> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| format!("it is nested deeper than {DEPTH}"))?;
    let inside = text
        .strip_prefix('(')
        .ok_or_else(|| format!("a ( is missing before {text:?}"))?;
    let closed = |rest: &str| -> Result<(), String> {
        match rest.starts_with(')') {
            true => Ok(()),
            false => Err(format!("a ) is missing before {rest:?}")),
        }
    };
    let (filter, rest) = match inside.chars().next() {
        Some(sign @ ('&' | '|')) => {
            let (filters, rest) = parse_several(inside.get(1..).unwrap_or_default(), depth)?;
            match sign {
                '&' => (Filter::And(filters), rest),
                _ => (Filter::Or(filters), rest),
            }
        }
        Some('!') => {
            let (filter, rest) = parse_one(inside.get(1..).unwrap_or_default(), depth)?;
            (Filter::Not(Box::new(filter)), rest)
        }
        _ => {
            let end = inside.find([')', '(']).unwrap_or(inside.len());
            let (item, rest) = inside.split_at(end);
            (parse_item(item)?, rest)
        }
    };
    closed(rest)?;
    Ok((filter, rest.get(1..).unwrap_or_default()))
}

fn parse_several(text: &str, depth: usize) -> Result<(Vec<Filter>, &str), String> {
    let (mut filters, mut rest) = (Vec::new(), text);
    while rest.starts_with('(') {
        let (filter, after) = parse_one(rest, depth)?;
        filters.push(filter);
        rest = after;
    }
    match filters.is_empty() {
        true => Err("& and | have filters after them".to_owned()),
        false => Ok((filters, rest)),
    }
}

fn parse_item(text: &str) -> Result<Filter, String> {
    let (left, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} has no ="))?;
    if let Some(left) = left.strip_suffix('>') {
        return Ok(Filter::AtLeast(attribute(left)?, unescaped(value)?));
    }
    if let Some(left) = left.strip_suffix('<') {
        return Ok(Filter::AtMost(attribute(left)?, unescaped(value)?));
    }
    if let Some(left) = left.strip_suffix(':') {
        let (name, rule) = left.split_once(':').ok_or_else(|| {
            format!("{text:?} names no rule: it is written attribute:rule:=value")
        })?;
        return Ok(Filter::Rule {
            attribute: attribute(name)?,
            rule: attribute(rule)?,
            value: unescaped(value)?,
        });
    }
    let name = attribute(left)?;
    if value == "*" {
        return Ok(Filter::Present(name));
    }
    let parts: Vec<String> = value.split('*').map(unescaped).collect::<Result<_, _>>()?;
    let (Some((first, rest)), false) = (parts.split_first(), parts.len() == 1) else {
        return Ok(Filter::Equal(name, parts.concat()));
    };
    let (last, then) = rest
        .split_last()
        .ok_or("invariant: a * has something after it")?;
    let some = |part: &String| Some(part.clone()).filter(|part| !part.is_empty());
    Ok(Filter::Substrings {
        attribute: name,
        first: some(first),
        then: then.iter().filter_map(some).collect(),
        last: some(last),
    })
}

fn attribute(text: &str) -> Result<String, String> {
    let fits = |character: char| character.is_ascii_alphanumeric() || "-.;".contains(character);
    match !text.is_empty() && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no attribute")),
    }
}

/// A value as it is meant: `\2a` is a `*` that stands for itself.
fn unescaped(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let value = digit()
            .zip(digit())
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(
            value.ok_or_else(|| format!("{text:?} has a \\ without two hex digits after it"))?,
        );
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(attribute: &str, value: &str) -> Filter {
        Filter::Equal(attribute.to_owned(), value.to_owned())
    }

    #[test]
    fn filters_are_read_as_they_are_written() {
        let read = |text: &str| Filter::parse(text).unwrap();
        assert_eq!(read("(uid={user})"), equal("uid", USER));
        assert_eq!(
            read(
                "(&(objectClass=person)(|(uid={user})(mail={user}@example.com))(!(loginDisabled=TRUE)))"
            ),
            Filter::And(vec![
                equal("objectClass", "person"),
                Filter::Or(vec![
                    equal("uid", USER),
                    equal("mail", "{user}@example.com")
                ]),
                Filter::Not(Box::new(equal("loginDisabled", "TRUE"))),
            ])
        );
        let rest = [
            ("(cn=*)", Filter::Present("cn".to_owned())),
            (
                "(memberOf=cn=staff,dc=x)",
                equal("memberOf", "cn=staff,dc=x"),
            ),
            (r"(cn=a\2a\28\c3\a4)", equal("cn", "a*(\u{e4}")),
            ("(n>=5)", Filter::AtLeast("n".to_owned(), "5".to_owned())),
            ("(n<=5)", Filter::AtMost("n".to_owned(), "5".to_owned())),
            (
                "(userAccountControl:1.2.840.113556.1.4.803:=2)",
                Filter::Rule {
                    attribute: "userAccountControl".to_owned(),
                    rule: "1.2.840.113556.1.4.803".to_owned(),
                    value: "2".to_owned(),
                },
            ),
            (
                "(cn=a*b**c)",
                Filter::Substrings {
                    attribute: "cn".to_owned(),
                    first: Some("a".to_owned()),
                    then: vec!["b".to_owned()],
                    last: Some("c".to_owned()),
                },
            ),
        ];
        for (text, filter) in rest {
            let whole = read(&format!("(&(uid={{user}}){text})"));
            assert_eq!(
                whole,
                Filter::And(vec![equal("uid", USER), filter]),
                "{text}"
            );
        }
    }

    #[test]
    fn a_name_is_a_value_whatever_is_in_it() {
        let filter = Filter::parse("(&(objectClass=person)(uid={user}))").unwrap();
        for user in ["ann", "*", "ann)(uid=*", r"a\2a", "{user}", "\0"] {
            let put = filter.of_user(user);
            let person = equal("objectClass", "person");
            assert_eq!(put, Filter::And(vec![person, equal("uid", user)]));
        }
    }

    #[test]
    fn what_is_no_filter_for_one_user_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "a ( is missing"),
            ("uid={user}", "a ( is missing"),
            ("(uid={user}", "a ) is missing"),
            ("(uid={user}))", "after its end"),
            ("(uid=ann)", "nobody's name"),
            ("(!(uid={user}))", "nobody's name"),
            ("(|(uid={user})(uid=ann))", "nobody's name"),
            ("(uid={user}*)", "nobody's name"),
            ("(&)", "have filters after them"),
            ("(=x)", "no attribute"),
            ("({user}=x)", "no attribute"),
            ("(uid~={user})", "no attribute"),
            (r"(uid=\2{user})", "two hex digits"),
            (r"(&(uid={user})(cn=\ff))", "is no text"),
            ("(a:={user})", "names no rule"),
        ] {
            let refused = Filter::parse(text).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
        let deep = format!("{}(uid={{user}}){}", "(!".repeat(400), ")".repeat(400));
        assert!(Filter::parse(&deep).is_err());
        let long = format!("(&(uid={{user}})(cn={}))", "x".repeat(LIMIT));
        assert!(Filter::parse(&long).is_err());
    }
}
