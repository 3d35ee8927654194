//! What commands do alike with every kind of record that has a name: users, applications, tokens.

use super::Context;
use crate::door::{Door, Method};
use crate::errors::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;

/// One record: what it is called in words, its name, and where it is.
#[derive(Debug)]
pub(super) struct Record<'a, N> {
    pub(super) kind: &'static str,
    /// The command that changes it.
    pub(super) set: &'static str,
    pub(super) name: &'a N,
    pub(super) path: String,
}

impl<N: Display + Serialize> Record<'_, N> {
    /// What did not succeed, in words.
    pub(super) fn was_not(&self, done: &str) -> String {
        format!("{} {} was not {done}", self.kind, self.name)
    }

    /// Shows it.
    pub(super) async fn show<T: DeserializeOwned + Serialize>(
        &self,
        context: &Context,
        door: &Door,
        facts: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let shown: T = door.get(&self.was_not("shown"), &self.path).await?;
        context.output.show(&shown, facts);
        Ok(())
    }

    /// Changes it by what was said, if anything was.
    pub(super) async fn change<T, C>(&self, door: &Door, change: &C) -> Result<T, Failure>
    where
        T: DeserializeOwned,
        C: Serialize + Default + PartialEq,
    {
        let what = self.was_not("changed");
        if *change == C::default() {
            let failure = Failure::usage(what, "nothing was said to change");
            return Err(failure.remedy(format!("see `{} --help`", self.set)));
        }
        door.send(&what, Method::Patch, &self.path, change).await
    }

    /// Removes it, and says so in `words`.
    pub(super) async fn remove(
        &self,
        context: &Context,
        door: &Door,
        words: String,
    ) -> Result<(), Failure> {
        let what = self.was_not("removed");
        door.tell(&what, Method::Delete, &self.path, &()).await?;
        let done = serde_json::json!({ "name": self.name, "removed": true });
        context.output.done(&done, words);
        Ok(())
    }
}

/// A list where any of it was given.
pub(super) fn given<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}
