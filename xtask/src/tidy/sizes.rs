//! How long files and functions are.

use crate::house::{File, House};

/// Lines of a file that are not tests.
pub(crate) const FILE_LIMIT: usize = 500;
/// Lines of a file that is all tests.
pub(crate) const TEST_FILE_LIMIT: usize = 1000;
/// Lines of a function, from `fn` to its closing brace.
pub(crate) const FUNCTION_LIMIT: usize = 70;

/// Lines of a function that is test code: a story is told in one place.
pub(crate) const TEST_FUNCTION_LIMIT: usize = 100;

/// Something measured. Its name is what the ratchet lists: `path` for a file, `path: function` for a function.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    /// The file it is in.
    pub(crate) path: String,
    /// Where it starts.
    pub(crate) line: usize,
    /// What the ratchet calls it.
    pub(crate) name: String,
    /// Its length.
    pub(crate) lines: usize,
    /// What it may have.
    pub(crate) limit: usize,
}

/// Measures every file and function.
pub(crate) fn measure(house: &House) -> Vec<Measured> {
    house.files.iter().flat_map(measure_file).collect()
}

fn measure_file(file: &File) -> Vec<Measured> {
    let whole = Measured {
        path: file.path.clone(),
        line: 1,
        name: file.path.clone(),
        lines: if file.is_test() {
            file.source.lines()
        } else {
            file.source.lines_without_tests()
        },
        limit: if file.is_test() {
            TEST_FILE_LIMIT
        } else {
            FILE_LIMIT
        },
    };
    let tests = file.source.test_spans();
    let is_within = |at: usize| tests.iter().any(|span| span.contains(&at));
    let functions = file
        .source
        .functions()
        .into_iter()
        .map(|function| Measured {
            path: file.path.clone(),
            line: function.line,
            name: format!("{}: {}", file.path, function.name),
            lines: function.lines,
            limit: if file.is_test() || is_within(function.span.start) {
                TEST_FUNCTION_LIMIT
            } else {
                FUNCTION_LIMIT
            },
        });
    std::iter::once(whole).chain(functions).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_do_not_count_in_a_file_and_do_in_a_test_file() {
        let text = "//! A.\nfn a() {\n}\n#[cfg(test)]\nmod tests {\n}\n".to_owned();
        let lengths = |path: &str| {
            let file = File::new(path, "x", text.clone());
            measure_file(&file)
                .into_iter()
                .map(|measured| (measured.name, measured.lines))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            lengths("crates/x/src/a.rs"),
            [
                ("crates/x/src/a.rs".into(), 3),
                ("crates/x/src/a.rs: a".into(), 2)
            ]
        );
        assert_eq!(
            lengths("crates/x/tests/a.rs")
                .first()
                .map(|(_, lines)| *lines),
            Some(6)
        );
    }
}
