//! A Rust source file, told apart into code, comments and literals, so that rules look at what they mean to look at.
//!
//! What must always be true: the masked code has the same length and the same line breaks as the text, so that
//! positions and line numbers are shared. Start at [`Source::parse`]. This is a scanner, not a parser: it knows
//! comments (nested), strings (raw, byte, C), character literals against lifetimes, and matching braces; nothing more is
//! needed to measure functions and to find test code.

use std::ops::Range;

/// A scanned file. Lines are numbered from 1.
pub(crate) struct Source {
    /// The text with comments and the insides of literals blanked out.
    code: String,
    /// Every comment with the line it starts on, markers included.
    comments: Vec<(usize, String)>,
    /// Byte offset at which each line starts.
    line_starts: Vec<usize>,
}

/// One function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its name, without path.
    pub(crate) name: String,
    /// First line: the one with `fn`.
    pub(crate) line: usize,
    /// Lines from `fn` to the closing brace, both included.
    pub(crate) lines: usize,
    /// The bytes of the whole function.
    pub(crate) span: Range<usize>,
}

impl Source {
    /// Scans a text. Any text is accepted: what is not Rust gives an odd result, never a panic.
    pub(crate) fn parse(text: &str) -> Self {
        let mut scanner = Scanner::new(text);
        scanner.run();
        let line_starts = std::iter::once(0)
            .chain(
                text.bytes()
                    .enumerate()
                    .filter(|(_, b)| *b == b'\n')
                    .map(|(at, _)| at + 1),
            )
            .collect();
        let code = String::from_utf8_lossy(&scanner.code).into_owned();
        let mut source = Self {
            code,
            comments: Vec::new(),
            line_starts,
        };
        source.comments = scanner
            .comments
            .into_iter()
            .map(|span| {
                (
                    source.line_of(span.start),
                    text.get(span).unwrap_or_default().to_owned(),
                )
            })
            .collect();
        source
    }

    /// The text with comments and literals blanked out.
    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// Every comment with the line it starts on.
    pub(crate) fn comments(&self) -> &[(usize, String)] {
        &self.comments
    }

    /// The line that a byte offset lies on.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// How many lines the file has.
    pub(crate) fn lines(&self) -> usize {
        let ends_with_break = self
            .line_starts
            .last()
            .is_some_and(|start| *start == self.code.len());
        self.line_starts.len() - usize::from(ends_with_break)
    }

    /// Offsets at which `word` stands in the code as a whole word (its ends are checked only where it starts or ends
    /// with a letter, digit or underscore itself).
    pub(crate) fn find_word<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let bytes = self.code.as_bytes();
        let opens_as_word = word.bytes().next().is_some_and(is_word);
        let ends_as_word = word.bytes().last().is_some_and(is_word);
        let in_word = |at: usize| bytes.get(at).is_some_and(|byte| is_word(*byte));
        let hits = self.code.match_indices(word).map(|(at, _)| at);
        hits.filter(move |at| {
            let goes_back = opens_as_word && at.checked_sub(1).is_some_and(in_word);
            let goes_on = ends_as_word && in_word(at + word.len());
            !goes_back && !goes_on
        })
    }

    /// Every function with a body, nested ones included.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for at in self.find_word("fn") {
            let rest = self.code.get(at + 2..).unwrap_or_default();
            let name: String = rest
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if name.is_empty() {
                continue; // a function pointer type
            }
            let Some(open) = self.body_after(at) else {
                continue;
            };
            let Some(close) = self.closing(open) else {
                continue;
            };
            let line = self.line_of(at);
            found.push(Function {
                name,
                line,
                lines: self.line_of(close) - line + 1,
                span: at..close + 1,
            });
        }
        found
    }

    /// The bytes of items under `#[cfg(test)]` that have a body in this file.
    pub(crate) fn test_spans(&self) -> Vec<Range<usize>> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        for (at, marker) in self.code.match_indices("#[cfg(test)]") {
            if spans.last().is_some_and(|span| span.contains(&at)) {
                continue;
            }
            if let Some(close) = self
                .body_after(at + marker.len())
                .and_then(|open| self.closing(open))
            {
                spans.push(at..close + 1);
            }
        }
        spans
    }

    /// Lines that are not test code.
    pub(crate) fn lines_without_tests(&self) -> usize {
        let tests: usize = self
            .test_spans()
            .iter()
            .map(|span| self.line_of(span.end) - self.line_of(span.start) + 1)
            .sum();
        self.lines().saturating_sub(tests)
    }

    /// The brace that opens the body of the item that starts at `from`, unless the item ends without one.
    fn body_after(&self, from: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for (at, byte) in self.code.bytes().enumerate().skip(from) {
            match byte {
                b'(' | b'[' => depth += 1,
                b')' | b']' => depth = depth.checked_sub(1)?,
                b'{' if depth == 0 => return Some(at),
                b';' | b'}' if depth == 0 => return None,
                _ => {}
            }
        }
        None
    }

    /// The brace that closes the one at `open`.
    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for (at, byte) in self.code.bytes().enumerate().skip(open) {
            match byte {
                b'{' => depth += 1,
                b'}' => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Walks the bytes once. Every literal and comment begins and ends on an ASCII byte, so blanking keeps UTF-8 whole.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    code: Vec<u8>,
    comments: Vec<Range<usize>>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text: text.as_bytes(),
            at: 0,
            code: Vec::with_capacity(text.len()),
            comments: Vec::new(),
        }
    }

    fn run(&mut self) {
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'/')) => self.line_comment(),
                (b'/', Some(b'*')) => self.block_comment(),
                (b'"', _) => self.string(),
                (b'\'', _) => self.quote(),
                _ if is_word(byte) => self.word(),
                _ => self.keep(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn keep(&mut self) {
        if let Some(byte) = self.peek(0) {
            self.code.push(byte);
            self.at += 1;
        }
    }

    /// Blanks bytes; line breaks stay.
    fn blank(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(byte) = self.peek(0) {
                self.code.push(if byte == b'\n' { b'\n' } else { b' ' });
                self.at += 1;
            }
        }
    }

    fn line_comment(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(|byte| byte != b'\n') {
            self.blank(1);
        }
        self.comments.push(start..self.at);
    }

    fn block_comment(&mut self) {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.blank(2);
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.blank(2);
                    if depth == 0 {
                        break;
                    }
                }
                (Some(_), _) => self.blank(1),
                (None, _) => break,
            }
        }
        self.comments.push(start..self.at);
    }

    /// A string with escapes; its quotes stay.
    fn string(&mut self) {
        self.keep();
        loop {
            match self.peek(0) {
                Some(b'\\') => self.blank(2),
                Some(b'"') => return self.keep(),
                Some(_) => self.blank(1),
                None => return,
            }
        }
    }

    /// A word, unless it is the prefix of a raw string: `r"`, `r#"`, `br##"`, `cr"`.
    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(is_word) {
            self.keep();
        }
        if !matches!(self.text.get(start..self.at), Some(b"r" | b"br" | b"cr")) {
            return;
        }
        let mut hashes = 0;
        while self.peek(hashes) == Some(b'#') {
            hashes += 1;
        }
        if self.peek(hashes) == Some(b'"') {
            self.raw_string(hashes);
        }
    }

    fn raw_string(&mut self, hashes: usize) {
        self.blank(hashes + 1);
        loop {
            match self.peek(0) {
                Some(b'"') if (1..=hashes).all(|ahead| self.peek(ahead) == Some(b'#')) => {
                    return self.blank(hashes + 1);
                }
                Some(_) => self.blank(1),
                None => return,
            }
        }
    }

    /// A character literal, or the tick of a lifetime or label.
    fn quote(&mut self) {
        let body = self.text.get(self.at + 1..).unwrap_or_default();
        let length = match body.first() {
            Some(b'\\') => body
                .iter()
                .skip(2)
                .position(|byte| *byte == b'\'')
                .map(|at| at + 2),
            // One character, of up to four bytes, then the closing tick; else a lifetime.
            Some(_) => {
                let end = (1..=4).find(|at| body.get(*at).is_none_or(|byte| byte & 0xC0 != 0x80));
                end.filter(|at| body.get(*at) == Some(&b'\''))
            }
            None => None,
        };
        self.keep();
        if let Some(length) = length {
            self.blank(length);
            self.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::parse(text).code().to_owned()
    }

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let text =
            "let a = \"} // no\"; // yes }\nlet b = '{'; /* { /* { */ */ let c = r#\"}\"{\"#;\n";
        let masked = code(text);
        assert_eq!(masked.len(), text.len());
        assert_eq!(masked.matches('\n').count(), 2);
        assert!(!masked.contains(['{', '}']), "{masked}");
        assert!(masked.contains("let c ="));
        assert_eq!(Source::parse(text).comments().len(), 2);
    }

    #[test]
    fn lifetimes_and_labels_are_not_characters() {
        let masked = code(
            "fn f<'a>(x: &'a str) { 'outer: loop { break 'outer; } let q = '\\''; let u = 'é'; let b = b'}'; }",
        );
        assert!(masked.contains("<'a>(x: &'a str)"), "{masked}");
        assert_eq!(masked.matches('}').count(), 2, "{masked}");
    }

    #[test]
    fn escapes_do_not_end_a_string() {
        assert_eq!(code(r#"a("\"}\\"){}"#), r#"a("     "){}"#);
        assert_eq!(code(r#"b"}" c"}" br"\" }"#).matches('}').count(), 1);
    }

    #[test]
    fn functions_are_measured_from_fn_to_closing_brace() {
        let text = "struct S { call: fn(u8) -> u8 }\npub fn one() {\n    if true {}\n}\n\ntrait T {\n    fn none(&self);\n    \
                    fn two<const N: usize>(a: [u8; { 1 + 1 }])\n    where\n        u8: Copy,\n    {\n    }\n}\n";
        let functions = Source::parse(text).functions();
        let seen: Vec<_> = functions
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines))
            .collect();
        assert_eq!(seen, [("one", 2, 3), ("two", 8, 5)]);
    }

    #[test]
    fn test_code_is_found_wherever_it_stands() {
        let text = "#[cfg(test)]\nuse x::y;\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let source = Source::parse(text);
        assert_eq!(source.lines(), 8);
        assert_eq!(source.lines_without_tests(), 4);
    }

    #[test]
    fn words_are_whole() {
        let source = Source::parse("sleepy(); sleep(); thread::sleep(x); asleep();");
        assert_eq!(source.find_word("sleep").count(), 2);
    }

    #[test]
    fn any_text_is_accepted() {
        for text in [
            "\"",
            "'",
            "r#\"",
            "/*",
            "fn",
            "fn f(",
            "fn f() {",
            "é'",
            "'\\",
            "))",
            "#[cfg(test)] mod t {",
        ] {
            let source = Source::parse(text);
            assert_eq!(source.code().len(), text.len(), "{text}");
            assert_eq!(source.functions(), []);
            source.test_spans();
        }
    }
}
