//! What commands print: tables and sentences for people, JSON for scripts.
//!
//! Always true: with `--json` stdout holds JSON and nothing else; colour is used only on a terminal that wants it
//! (`NO_COLOR`); a reader that goes away ends the program without noise. Start at [`Output`].

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use indicatif::ProgressBar;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::process::exit;
use std::time::Duration;

/// How often something that moves moves on.
const TICK: Duration = Duration::from_millis(100);

/// Where and how a command prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
}

/// What a text means, for its colour. Meaning never hangs on colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    Plain,
    /// As it should be.
    Good,
    /// Somebody should look at it.
    Warning,
    /// Not working.
    Bad,
    /// Less important.
    Faint,
}

impl Output {
    /// For this process: JSON or not, coloured on a terminal that wants it.
    pub(crate) fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let able = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self {
            json,
            colour: wanted && able && std::io::stdout().is_terminal(),
        }
    }

    /// Whether scripts are meant.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a value: as JSON, or as people read it.
    pub(crate) fn show<T: Serialize>(self, value: &T, people: impl FnOnce(&T) -> String) {
        if self.json {
            self.json_pretty(value);
        } else {
            let text = people(value);
            self.raw(text.trim_end());
        }
    }

    /// Prints that something was done: as JSON, or as one sentence.
    pub(crate) fn done<T: Serialize>(self, value: &T, sentence: impl Into<String>) {
        self.show(value, |_| sentence.into());
    }

    /// Prints one JSON object on one line; for streams of objects.
    pub(crate) fn json_line<T: Serialize>(self, value: &T) {
        match serde_json::to_string(value) {
            Ok(text) => self.raw(&text),
            Err(error) => unreachable!("invariant: what is printed has text keys only: {error}"),
        }
    }

    fn json_pretty<T: Serialize>(self, value: &T) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.raw(&text),
            Err(error) => unreachable!("invariant: what is printed has text keys only: {error}"),
        }
    }

    /// Prints a text and a line end.
    pub(crate) fn raw(self, text: &str) {
        let mut out = std::io::stdout().lock();
        let written = out
            .write_all(text.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush());
        if written.is_err() {
            // Whoever read this has gone (`stead event watch | head`).
            exit(0);
        }
    }

    /// A text in the colour of its tone.
    pub(crate) fn tone(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
        };
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// What should be changed, a line each.
    pub(crate) fn warnings(self, warnings: &[String]) -> String {
        let word = self.tone("warning", Tone::Warning);
        let lines = warnings.iter();
        lines
            .map(|warning| format!("  {word}: {}\n", printable(warning)))
            .collect()
    }

    /// A heading.
    pub(crate) fn heading(self, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[1m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// An empty table with these columns. Those that end with `>` are aligned to the right.
    pub(crate) fn table(self, columns: &[&str]) -> People {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        // Some terminals do not say how wide they are.
        let wide = table.width().is_some_and(|width| width > 0);
        if wide && std::io::stdout().is_terminal() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(columns.iter().map(|column| {
            let cell = Cell::new(column.trim_end_matches('>'));
            if self.colour {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        }));
        for (index, column) in columns.iter().enumerate() {
            if let Some(place) = table.column_mut(index) {
                place.set_padding((0, 2));
                if column.ends_with('>') {
                    place.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        People {
            table,
            colour: self.colour,
            rows: 0,
        }
    }
}

/// Shows on a terminal that something takes a while, until it is dropped. Scripts and files see nothing of it.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Output {
    /// Begins to show what is being waited for.
    pub(crate) fn progress(self, what: &str) -> Progress {
        if self.json || !std::io::stderr().is_terminal() {
            return Progress(None);
        }
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        bar.enable_steady_tick(TICK);
        Progress(Some(bar))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// A table for people.
#[derive(Debug)]
pub(crate) struct People {
    table: Table,
    colour: bool,
    rows: usize,
}

impl People {
    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<(String, Tone)>) {
        self.rows += 1;
        let colour = self.colour;
        self.table.add_row(cells.into_iter().map(|(text, tone)| {
            let cell = Cell::new(printable(&text));
            match tone {
                _ if !colour => cell,
                Tone::Plain => cell,
                Tone::Good => cell.fg(Color::Green),
                Tone::Warning => cell.fg(Color::Yellow),
                Tone::Bad => cell.fg(Color::Red),
                Tone::Faint => cell.add_attribute(Attribute::Dim),
            }
        }));
    }

    /// Adds a row without colours.
    pub(crate) fn plain(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.row(
            cells
                .into_iter()
                .map(|cell| (cell.into(), Tone::Plain))
                .collect(),
        );
    }

    /// The table, or `empty` when it has no rows.
    pub(crate) fn text(&self, empty: &str) -> String {
        if self.rows == 0 {
            return empty.to_owned();
        }
        let lines: Vec<String> = self
            .table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        lines.join("\n")
    }
}

/// A text from elsewhere without what would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() && character != '\n' {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_without_colour_are_plain_text() {
        let output = Output {
            json: false,
            colour: false,
        };
        let mut table = output.table(&["NAME", "SESSIONS>"]);
        table.row(vec![
            ("boston".into(), Tone::Good),
            ("7".into(), Tone::Plain),
        ]);
        table.plain(["x\u{1b}[31my", "1204"]);
        assert_eq!(
            table.text("none"),
            "NAME     SESSIONS\nboston          7\nx\u{fffd}[31my      1204"
        );
        assert_eq!(
            output.table(&["A"]).text("There is none."),
            "There is none."
        );
    }

    #[test]
    fn colour_only_where_wanted() {
        let plain = Output {
            json: false,
            colour: false,
        };
        assert_eq!(plain.tone("x", Tone::Bad), "x");
        let coloured = Output {
            json: false,
            colour: true,
        };
        assert_eq!(coloured.tone("x", Tone::Bad), "\u{1b}[31mx\u{1b}[0m");
    }
}
