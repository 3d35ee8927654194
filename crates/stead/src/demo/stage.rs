//! What the audience sees: lines as things happen, and a short table at the end; or one JSON object a line for scripts.

use std::time::Instant;

use serde_json::{Value, json};

use super::failures::Verdict;
use crate::output::{Output, Tone};

/// Where the demo is shown. A cheap clone.
#[derive(Clone)]
pub(super) struct Stage {
    output: Output,
    began: Instant,
}

impl Stage {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            began: Instant::now(),
        }
    }

    /// Something happened; `kind` is its name for scripts.
    pub(super) fn line(&self, kind: &str, text: &str) {
        self.fact(kind, text, Value::Null, Tone::Plain);
    }

    /// Something happened that clients feel.
    pub(super) fn felt(&self, kind: &str, text: &str, facts: Value) {
        let tone = match kind {
            "path-lost" | "session-lost" | "killed" => Tone::Warning,
            _ => Tone::Good,
        };
        self.fact(kind, text, facts, tone);
    }

    fn fact(&self, kind: &str, text: &str, facts: Value, tone: Tone) {
        let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.output.is_json() {
            let mut object = json!({ "event": kind, "at_ms": at_ms, "text": text });
            if let (Some(object), Value::Object(facts)) = (object.as_object_mut(), facts) {
                object.extend(facts);
            }
            self.output.json_line(&object);
        } else {
            let time = self.output.tone(
                &format!("{:6.2} s", self.began.elapsed().as_secs_f64()),
                Tone::Faint,
            );
            self.output
                .raw(&format!("{time}  {}", self.output.tone(text, tone)));
        }
    }

    /// A new part of the story begins.
    pub(super) fn heading(&self, text: &str) {
        if self.output.is_json() {
            self.line("part", text);
        } else {
            self.output.raw(&format!("\n{}", self.output.heading(text)));
        }
    }

    /// The result, and whether everything went as promised.
    pub(super) fn summary(&self, verdicts: &[Verdict]) -> bool {
        let all_kept = verdicts.iter().all(|verdict| verdict.kept);
        let seconds = self.began.elapsed().as_secs_f64();
        if self.output.is_json() {
            let failures: Vec<Value> = verdicts.iter().map(Verdict::json).collect();
            self.output.json_line(&json!({ "event": "summary", "ok": all_kept, "seconds": seconds, "failures": failures }));
            return all_kept;
        }
        let mut table = self.output.table(&[
            "FAILURE",
            "USERS FELT",
            "PAUSE>",
            "BYTES LOST>",
            "AS PROMISED",
        ]);
        for verdict in verdicts {
            let (kept, tone) = if verdict.kept {
                ("yes", Tone::Good)
            } else {
                ("NO", Tone::Bad)
            };
            table.row(vec![
                (verdict.failure.clone(), Tone::Plain),
                (verdict.felt.clone(), Tone::Plain),
                (format!("{} ms", verdict.longest_ms), Tone::Plain),
                (verdict.bytes_lost.clone(), Tone::Plain),
                (kept.to_owned(), tone),
            ]);
        }
        self.output.raw("");
        self.output.raw(&table.text("Nothing was shown."));
        let sentence = if all_kept {
            "Everything went as promised"
        } else {
            "Not everything went as promised"
        };
        self.output
            .raw(&format!("\n{sentence}, in {seconds:.0} seconds."));
        all_kept
    }

    /// Lines for whoever goes on with the group.
    pub(super) fn hints(&self, hints: &[(&str, String)]) {
        if self.output.is_json() {
            let object: serde_json::Map<String, Value> = hints
                .iter()
                .map(|(what, how)| ((*what).to_owned(), Value::from(how.as_str())))
                .collect();
            self.output
                .json_line(&json!({ "event": "kept", "use": object }));
            return;
        }
        self.output.raw("");
        for (what, how) in hints {
            self.output.raw(&format!("{what}:\n  {how}"));
        }
    }
}
