//! The shape of a failure: which kinds of trouble came together when a primary was lost.
//!
//! Always true: a shape is a short text, and the same troubles in another order have the same one, so that shapes can be
//! counted over many stories.

use model::ServerId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What happened this long before a loss counts to it.
const BEFORE: Duration = Duration::from_millis(1500);

/// Collects the shapes of one story.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    size: String,
    recent: BTreeMap<String, Duration>,
    /// Troubles that last until they are over.
    lasting: BTreeSet<&'static str>,
    acting: Option<ServerId>,
    loss: Option<BTreeSet<String>>,
    found: BTreeSet<String>,
}

impl Shapes {
    /// In a group that is written so.
    pub(crate) fn new(size: String) -> Self {
        Self {
            size,
            ..Self::default()
        }
    }

    /// Something happened, to the primary or to another.
    pub(crate) fn happened(&mut self, kind: &'static str, to_primary: bool, now: Duration) {
        let mark = if to_primary { "!" } else { "" };
        let kind = format!("{kind}{mark}");
        if let Some(loss) = &mut self.loss {
            loss.insert(kind.clone());
        }
        self.recent.insert(kind, now);
    }

    /// Something is so from now on.
    pub(crate) fn lasts(&mut self, kind: &'static str, so: bool) {
        if so {
            self.lasting.insert(kind);
            if let Some(loss) = &mut self.loss {
                loss.insert(kind.to_owned());
            }
        } else {
            self.lasting.remove(kind);
        }
    }

    /// Who acts now.
    pub(crate) fn look(&mut self, acting: Option<ServerId>, now: Duration) {
        if self.acting.is_some() && acting != self.acting && self.loss.is_none() {
            self.recent.retain(|_, at| now.saturating_sub(*at) < BEFORE);
            let lasting = self.lasting.iter().map(|kind| (*kind).to_owned());
            self.loss = Some(self.recent.keys().cloned().chain(lasting).collect());
        }
        if acting.is_some()
            && let Some(loss) = self.loss.take()
        {
            let same = if acting == self.acting { "=" } else { ">" };
            let kinds: Vec<String> = loss.into_iter().collect();
            self.found
                .insert(format!("{}{same}{}", self.size, kinds.join("+")));
        }
        if acting.is_some() {
            self.acting = acting;
        }
    }

    /// All shapes that were found.
    pub(crate) fn found(&self) -> BTreeSet<String> {
        self.found.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_that_come_together_make_one_shape() {
        let (one, two) = (ServerId::from_bytes([1; 16]), ServerId::from_bytes([2; 16]));
        let ms = Duration::from_millis;
        let mut shapes = Shapes::new("3".into());
        shapes.look(Some(one), ms(0));
        shapes.happened("flap", false, ms(10));
        shapes.lasts("slow", true);
        shapes.happened("power", true, ms(3000));
        shapes.look(None, ms(3004));
        shapes.happened("reboot", false, ms(3100));
        shapes.look(Some(two), ms(3600));
        let expected = BTreeSet::from(["3>power!+reboot+slow".to_owned()]);
        assert_eq!(shapes.found(), expected);
    }
}
