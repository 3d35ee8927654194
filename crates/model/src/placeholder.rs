//! Placeholders in an application's command, backends and environment: `{name}` and `{kind:argument}`.
//!
//! Always true: what is taken apart and put together again is the same text. A brace that is not followed by a name and a closing
//! brace is text, and so is `${name}`, which a shell may be meant to see. What a name stands for is said by the session's host.

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// It stands for itself.
    Text(&'a str),
    /// The name between two braces, with its argument.
    Name(&'a str),
}

/// Takes a text apart.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut begun, mut at) = (0, 0);
    while let Some(brace) = text.get(at..).and_then(|rest| rest.find('{')) {
        let brace = at + brace;
        at = brace + 1;
        let before = text.get(begun..brace).unwrap_or_default();
        let inside = text.get(at..).and_then(|rest| rest.split_once('}'));
        let Some((name, _)) = inside.filter(|(name, _)| is_name(name)) else {
            continue;
        };
        if before.ends_with('$') {
            continue;
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Name(name));
        at += name.len() + 1;
        begun = at;
    }
    let rest = text.get(begun..).unwrap_or_default();
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// Lower-case letters, and for kinds of placeholders with an argument a colon and more.
fn is_name(text: &str) -> bool {
    let (name, argument) = text.split_once(':').unwrap_or((text, "x"));
    let letter = |c: char| c.is_ascii_lowercase();
    !name.is_empty()
        && name.chars().all(letter)
        && !argument.is_empty()
        && argument
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_told_from_text() {
        use Piece::{Name, Text};
        for (text, expected) in [
            ("", vec![]),
            ("a", vec![Text("a")]),
            ("{user}", vec![Name("user")]),
            (
                "a{user}{secret:k.1_x-y}b",
                vec![Text("a"), Name("user"), Name("secret:k.1_x-y"), Text("b")],
            ),
            ("{{user}}", vec![Text("{"), Name("user"), Text("}")]),
            ("${user}", vec![Text("${user}")]),
            ("${user}{user}", vec![Text("${user}"), Name("user")]),
        ] {
            assert_eq!(pieces(text), expected, "{text:?}");
        }
        for text in [
            "{", "}", "{}", "{ user }", "{User}", "{a,b}", "{:x}", "{user:}", "{a:b c}",
        ] {
            assert_eq!(pieces(text), [Text(text)], "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "[{}$:a-c é]{0,24}") {
            let again: String = pieces(&text)
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text.to_owned(),
                    Piece::Name(name) => format!("{{{name}}}"),
                })
                .collect();
            prop_assert_eq!(again, text);
        }
    }
}
