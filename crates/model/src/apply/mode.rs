//! How the group stays able to act: chosen, or strengthened by itself.

use super::Applying;
use crate::change::Refusal;
use crate::event::{EventKind, Severity};
use crate::mode::ResilienceMode;
use crate::server::Server;
use crate::settings::ModeChoice;
use std::sync::Arc;

impl Applying<'_> {
    /// Takes up the mode that was chosen; without a choice the third voter makes it `quorum`.
    pub(super) fn strengthen(&mut self) {
        let before = self.directory.group.mode;
        let voters = self.directory.voters().count();
        let (mode, why) = match self.directory.settings.mode_choice() {
            ModeChoice::Always(mode) => (mode, "an administrator chose it"),
            ModeChoice::Auto if voters >= ResilienceMode::QUORUM_FROM => {
                (ResilienceMode::Quorum, "there are three voters or more")
            }
            ModeChoice::Auto => return,
        };
        if mode == before {
            return;
        }
        Arc::make_mut(&mut self.directory.group).mode = mode;
        let severity = match mode {
            ResilienceMode::Quorum => Severity::Info,
            ResilienceMode::Availability => Severity::Warning,
        };
        let fields = [
            ("before", before.as_str().to_owned()),
            ("mode", mode.as_str().to_owned()),
            ("voters", voters.to_string()),
            ("why", why.to_owned()),
        ];
        let group = self.directory.group.name.clone();
        self.event(EventKind::ModeChanged, severity, group, fields);
    }

    /// Two voters that need each other are weaker than either alone: an administrator has to say what they are to be.
    pub(super) fn check_mode_without(&self, leaving: &Server) -> Result<(), Refusal> {
        let quorum = self.directory.group.mode == ResilienceMode::Quorum;
        let chosen = self.directory.settings.mode_choice() != ModeChoice::Auto;
        let others = self
            .directory
            .voters()
            .filter(|voter| voter.id != leaving.id)
            .count();
        if leaving.voting && quorum && !chosen && others == 2 {
            return Err(Refusal::ModeNeeded {
                name: leaving.name.clone(),
            });
        }
        Ok(())
    }
}
