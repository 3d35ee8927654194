//! Values of settings: their kinds, how they are read from text, and their one canonical text form.
//!
//! Always true: the text of a value reads back as that value.

use std::fmt;

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number, both ends included.
    Integer {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// A span of time in milliseconds, both ends included.
    Duration {
        /// The shortest.
        least: u64,
        /// The longest.
        most: u64,
    },
    /// One line of text.
    Text {
        /// The most characters.
        most: usize,
    },
    /// One word of several.
    Choice(&'static [&'static str]),
    /// One or more words of several, with commas between them; kept in the order that is given here.
    Choices(&'static [&'static str]),
    /// Words with commas between them.
    List {
        /// The most words.
        most: usize,
    },
    /// So many in a span of time: `3 in 10m`.
    Rate {
        /// The largest count.
        most: u64,
        /// The longest span, in milliseconds; the shortest is a second.
        longest: u64,
    },
}

/// A value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// On or off.
    Bool(bool),
    /// A whole number.
    Integer(u64),
    /// A span of time in milliseconds.
    Duration(u64),
    /// One line of text.
    Text(String),
    /// One of the words that the setting allows.
    Choice(&'static str),
    /// Words, in order.
    List(Vec<String>),
    /// So many in a span of time, in milliseconds.
    Rate(u64, u64),
}

/// A text that does not fit a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    /// The nearest text that would fit.
    pub(super) nearest: String,
}

/// Milliseconds of each unit, largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Integer { .. } => "integer",
            Self::Duration { .. } => "duration",
            Self::Text { .. } => "text",
            Self::Choice(_) => "choice",
            Self::Choices(_) => "choices",
            Self::List { .. } => "list",
            Self::Rate { .. } => "rate",
        }
    }

    /// What is allowed, in words.
    pub fn range(self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Integer { least, most } => format!("{least} to {most}"),
            Self::Duration { least, most } => {
                format!("{} to {}", duration_text(least), duration_text(most))
            }
            Self::Text { most } => format!("at most {most} characters"),
            Self::Choice(words) => words.join(", "),
            Self::Choices(words) => {
                format!(
                    "one or more of {}, with commas between them",
                    words.join(", ")
                )
            }
            Self::List { most } => format!("at most {most} words with commas between them"),
            Self::Rate { most, longest } => format!(
                "COUNT in TIME: 0 to {most} in {} to {}",
                duration_text(SHORTEST_RATE),
                duration_text(longest)
            ),
        }
    }

    pub(super) fn parse(self, text: &str) -> Result<Value, Misfit> {
        let text = text.trim();
        match self {
            Self::Bool => parse_bool(text),
            Self::Integer { least, most } => match text.parse::<u64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(Value::Integer(number)),
                Ok(number) => Err(Misfit {
                    nearest: number.clamp(least, most).to_string(),
                }),
                Err(_) => Err(Misfit {
                    nearest: beyond(text, least, most).to_string(),
                }),
            },
            Self::Duration { least, most } => match parse_duration(text) {
                Some(span) if (least..=most).contains(&span) => Ok(Value::Duration(span)),
                Some(span) => Err(Misfit {
                    nearest: duration_text(span.clamp(least, most)),
                }),
                None => Err(Misfit {
                    nearest: duration_text(guess_duration(text, least, most)),
                }),
            },
            Self::Text { most } => {
                let line = text.chars().all(|character| !character.is_control());
                if line && text.chars().count() <= most {
                    return Ok(Value::Text(text.to_owned()));
                }
                Err(Misfit {
                    nearest: text
                        .chars()
                        .filter(|character| !character.is_control())
                        .take(most)
                        .collect(),
                })
            }
            Self::Choice(words) => {
                match words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
                    Some(word) => Ok(Value::Choice(word)),
                    None => Err(Misfit {
                        nearest: nearest(text, words.iter().copied())
                            .unwrap_or_default()
                            .to_owned(),
                    }),
                }
            }
            Self::Choices(words) => parse_choices(text, words),
            Self::List { most } => {
                let words: Vec<String> = words_of(text).map(str::to_owned).collect();
                if words.len() <= most {
                    return Ok(Value::List(words));
                }
                Err(Misfit {
                    nearest: words.into_iter().take(most).collect::<Vec<_>>().join(","),
                })
            }
            Self::Rate { most, longest } => parse_rate(text, most, longest),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Duration(value) => f.write_str(&duration_text(*value)),
            Self::Text(value) => f.write_str(value),
            Self::Choice(value) => f.write_str(value),
            Self::List(value) => f.write_str(&value.join(",")),
            Self::Rate(count, span) => write!(f, "{count} in {}", duration_text(*span)),
        }
    }
}

fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

/// Those of `words` that a text names. Where it names another, the nearest text has the nearest word in its place; where it names
/// none, all of them.
fn parse_choices(text: &str, words: &'static [&'static str]) -> Result<Value, Misfit> {
    let mut chosen = Vec::new();
    let mut fits = true;
    for given in words_of(text) {
        let same = |word: &&&str| word.eq_ignore_ascii_case(given);
        let known = words.iter().find(same).copied();
        fits &= known.is_some();
        chosen.extend(known.or_else(|| nearest(given, words.iter().copied())));
    }
    fits &= !chosen.is_empty();
    let in_order = words
        .iter()
        .filter(|word| chosen.is_empty() || chosen.contains(word));
    let in_order: Vec<String> = in_order.map(|word| (*word).to_owned()).collect();
    match fits {
        true => Ok(Value::List(in_order)),
        false => Err(Misfit {
            nearest: in_order.join(","),
        }),
    }
}

/// The shortest span of a rate, in milliseconds.
const SHORTEST_RATE: u64 = 1_000;

fn parse_rate(text: &str, most: u64, longest: u64) -> Result<Value, Misfit> {
    let lower = text.to_ascii_lowercase();
    let (count, span) = lower.split_once("in").unwrap_or((&lower, ""));
    let (count, span) = (count.trim(), span.trim());
    let read = (count.parse::<u64>().ok(), parse_duration(span));
    if let (Some(count), Some(span)) = read
        && count <= most
        && (SHORTEST_RATE..=longest).contains(&span)
    {
        return Ok(Value::Rate(count, span));
    }
    let count = read.0.unwrap_or_else(|| beyond(count, 0, most)).min(most);
    let span = read
        .1
        .unwrap_or_else(|| guess_duration(span, SHORTEST_RATE, longest));
    let span = duration_text(span.clamp(SHORTEST_RATE, longest));
    Err(Misfit {
        nearest: format!("{count} in {span}"),
    })
}

fn parse_bool(text: &str) -> Result<Value, Misfit> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" => Ok(Value::Bool(true)),
        "false" | "off" | "no" => Ok(Value::Bool(false)),
        other => {
            let positive = ["true", "on", "yes", "1", "enabled"];
            let negative = ["false", "off", "no", "0", "disabled"];
            let word = nearest(other, positive.into_iter().chain(negative)).unwrap_or("true");
            Err(Misfit {
                nearest: positive.contains(&word).to_string(),
            })
        }
    }
}

/// The end of a range on which side a text lies that is no number within 64 bits.
fn beyond(text: &str, least: u64, most: u64) -> u64 {
    let huge = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if huge { most } else { least }
}

/// The span that somebody may have meant: with blanks or capitals, with a decimal point, or without a unit, which is then the
/// first, from milliseconds up, that fits the range.
fn guess_duration(text: &str, least: u64, most: u64) -> u64 {
    let text: String = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .take(64)
        .collect();
    let text = text.to_ascii_lowercase();
    if let Some(span) = parse_duration(&text).or_else(|| decimal_duration(&text)) {
        return span.clamp(least, most);
    }
    let Ok(number) = text.parse::<u64>() else {
        return beyond(&text, least, most);
    };
    let mut spans = UNITS
        .iter()
        .rev()
        .filter_map(|(_, unit)| number.checked_mul(*unit));
    let fits = spans.find(|span| (least..=most).contains(span));
    fits.unwrap_or_else(|| number.clamp(least, most))
}

/// A span such as `1.5s`; what stands after thousandths is passed over.
fn decimal_duration(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.')?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let unit = rest.strip_prefix(digits.as_str())?;
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let thousandths = format!("{digits:0<3}").get(..3)?.parse::<u64>().ok()?;
    let parts = whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(thousandths)?;
    Some(parts.checked_mul(*millis)? / 1000)
}

/// Reads a span such as `100ms`, `2s` or `1h30m`; none when the text is no span or longer than 64 bits of milliseconds.
pub fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(letters)?;
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*millis)?)?;
        rest = after;
    }
    Some(total)
}

/// A span of milliseconds as one number and the largest unit that divides it: `2m`, `90s`, `150ms`.
pub fn duration_text(millis: u64) -> String {
    let unit = UNITS
        .iter()
        .find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    let (name, unit) = unit.copied().unwrap_or(("ms", 1));
    format!("{}{name}", millis / unit)
}

/// The candidate that takes the fewest single-character edits to reach from `text`, the first of equals.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text: Vec<char> = text
        .chars()
        .take(200)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    candidates
        .into_iter()
        .min_by_key(|candidate| edits(&text, candidate))
}

/// The number of insertions, deletions and replacements from one text to the other.
pub(super) fn edits(from: &[char], to: &str) -> usize {
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (line, wanted) in to.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        let mut next = vec![left];
        for (found, above) in from.iter().zip(row.iter().skip(1)) {
            let replaced = diagonal + usize::from(*found != wanted);
            left = replaced.min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_as_text() {
        for (text, millis) in [
            ("100ms", 100),
            ("2s", 2_000),
            ("10m", 600_000),
            ("4h", 14_400_000),
            ("2d", 172_800_000),
            ("90s", 90_000),
        ] {
            assert_eq!(parse_duration(text), Some(millis), "{text}");
            assert_eq!(duration_text(millis), text);
        }
        assert_eq!(parse_duration("1h30m"), Some(5_400_000));
        assert_eq!(duration_text(0), "0ms");
        for text in [
            "",
            "5",
            "s",
            "1.5s",
            "-1s",
            "1 s",
            "99999999999999999999s",
            "1y",
            "é",
            "1sé",
            "18446744073709551615d",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?} was accepted");
        }
    }

    #[test]
    fn rates_as_text() {
        let kind = Kind::Rate {
            most: 1_000,
            longest: 86_400_000,
        };
        for text in ["3 in 10m", "3in10m", " 3 IN 600s "] {
            let value = kind.parse(text).unwrap();
            assert_eq!(value, Value::Rate(3, 600_000), "{text}");
            assert_eq!(value.to_string(), "3 in 10m");
        }
        for (text, nearest) in [
            ("3 in 2d", "3 in 1d"),
            ("5000 in 10m", "1000 in 10m"),
            ("3 in 10", "3 in 10s"),
            ("3", "3 in 1s"),
            ("in", "0 in 1s"),
            ("-1 in 5m", "0 in 5m"),
            ("3 in 1ms", "3 in 1s"),
        ] {
            let misfit = kind.parse(text).unwrap_err();
            assert_eq!(misfit.nearest, nearest, "{text}");
            assert!(kind.parse(&misfit.nearest).is_ok());
        }
    }

    #[test]
    fn edits_are_counted() {
        let count = |a: &str, b: &str| edits(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!(count("kitten", "sitting"), 3);
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("abc", ""), 3);
        assert_eq!(count("abc", "abc"), 0);
    }

    fn near(kind: Kind, text: &str) -> String {
        kind.parse(text).unwrap_err().nearest
    }

    #[test]
    fn misfits_name_the_nearest_figure() {
        let (least, most) = (3, 100);
        let count = Kind::Integer { least, most };
        assert_eq!(near(count, "1"), "3");
        assert_eq!(near(count, "99999999999999999999999"), "100");
        assert_eq!(near(count, "-7"), "3");
        let (least, most) = (20, 10_000);
        let span = Kind::Duration { least, most };
        for (text, nearest) in [
            ("1h", "10s"),
            ("500", "500ms"),
            ("5", "5s"),
            ("50 MS", "50ms"),
            ("1.5s", "1500ms"),
            ("0.0s", "20ms"),
            ("\u{e9}.5s", "20ms"),
            ("", "20ms"),
        ] {
            assert_eq!(near(span, text), nearest, "{text:?}");
        }
    }

    #[test]
    fn misfits_name_the_nearest_word() {
        assert_eq!(near(Kind::Bool, "ture"), "true");
        assert_eq!(near(Kind::Bool, "0"), "false");
        let words = Kind::Choice(&["least-load", "round-robin"]);
        assert_eq!(near(words, "leastload"), "least-load");
        assert_eq!(near(Kind::Text { most: 3 }, "a\nbcd"), "abc");
        let several = Kind::Choices(&["one", "two", "three"]);
        for (text, nearest) in [
            ("", "one,two,three"),
            (",", "one,two,three"),
            ("tow", "two"),
            ("three,onee,three", "one,three"),
        ] {
            assert_eq!(near(several, text), nearest, "{text:?}");
        }
        let read = several.parse(" THREE, one,one").unwrap();
        assert_eq!(read.to_string(), "one,three");
        let list = Kind::List { most: 2 };
        assert_eq!(near(list, "a, b,c"), "a,b");
        assert_eq!(list.parse("a, b").unwrap().to_string(), "a,b");
        let text = Kind::Text { most: 3 }.parse(" abc ").unwrap();
        assert_eq!(text, Value::Text("abc".to_owned()));
    }
}
