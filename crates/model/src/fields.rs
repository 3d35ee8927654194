//! Details by name, as events have them: few, short, written once and kept a hundred thousand times.
//!
//! Always true: names are in order and none comes twice. Stored and sent as a map of texts.

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Texts by name. All of them lie in one piece of memory.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fields {
    /// Each name and its value, one behind the other.
    text: Box<str>,
    /// Where each name and each value ends, in turn, in bytes.
    ends: Box<[u32]>,
}

impl Fields {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(found, value)| (found == name).then_some(value))
    }

    /// Names and values, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        let mut begin = 0;
        let mut piece = move |end: &u32| {
            let end = usize::try_from(*end).unwrap_or(usize::MAX);
            let text = self.text.get(begin..end).unwrap_or_default();
            begin = end;
            text
        };
        self.ends
            .chunks_exact(2)
            .filter_map(move |pair| match pair {
                [name, value] => Some((piece(name), piece(value))),
                _ => None,
            })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Fields {
    /// Puts names in order; of those that come twice the first counts. Text behind 4 GiB in all is left out.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(K, V)> = pairs.into_iter().collect();
        pairs.sort_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
        pairs.dedup_by(|(later, _), (first, _)| later.as_ref() == first.as_ref());
        let length = |(name, value): &(K, V)| name.as_ref().len() + value.as_ref().len();
        let mut text = String::with_capacity(pairs.iter().map(length).sum());
        let mut ends = Vec::with_capacity(pairs.len() * 2);
        for (name, value) in &pairs {
            let after_name = text.len() + name.as_ref().len();
            let after_value = after_name + value.as_ref().len();
            let (Ok(name_end), Ok(value_end)) =
                (u32::try_from(after_name), u32::try_from(after_value))
            else {
                break;
            };
            text.push_str(name.as_ref());
            text.push_str(value.as_ref());
            ends.extend([name_end, value_end]);
        }
        Self {
            text: text.into(),
            ends: ends.into(),
        }
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                // A length that was announced is not believed: room is made for what is there.
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry::<String, String>()? {
                    pairs.push(pair);
                }
                Ok(pairs.into_iter().collect())
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn some() -> Fields {
        [("user", "ann"), ("app", ""), ("user", "bob"), ("", "x")]
            .into_iter()
            .collect()
    }

    #[test]
    fn names_are_in_order_and_the_first_value_counts() {
        let pairs: Vec<_> = some().iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(pairs, ["=x", "app=", "user=ann"]);
        assert_eq!(some().len(), 3);
        assert_eq!(some().get("user"), Some("ann"));
        assert_eq!(some().get("app"), Some(""));
        assert_eq!(some().get("host"), None);
        assert!(!some().is_empty() && Fields::default().is_empty());
    }

    #[test]
    fn stored_as_a_map_of_texts() {
        let map: BTreeMap<String, String> = some()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let (ours, theirs) = (
            postcard::to_stdvec(&some()).unwrap(),
            postcard::to_stdvec(&map).unwrap(),
        );
        assert_eq!(ours, theirs);
        assert_eq!(postcard::from_bytes::<Fields>(&theirs).unwrap(), some());
        let json = serde_json::to_string(&some()).unwrap();
        assert_eq!(json, r#"{"":"x","app":"","user":"ann"}"#);
        assert_eq!(serde_json::from_str::<Fields>(&json).unwrap(), some());
        assert_eq!(format!("{:?}", some()), format!("{map:?}"));
    }
}
