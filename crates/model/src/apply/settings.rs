//! Changes of settings: one value is read and checked, then the whole set.

use super::Applying;
use super::secrets::no_secret;
use crate::change::{Kind, Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::id::ServerId;
use crate::settings::Settings;

impl Applying<'_> {
    pub(super) fn set_setting(
        &mut self,
        key: &str,
        value: &str,
        on: Option<ServerId>,
    ) -> Result<Outcome, Refusal> {
        self.change_setting(key, on, |settings| {
            settings.set(key, on, value).map(|()| true)
        })
    }

    pub(super) fn unset_setting(
        &mut self,
        key: &str,
        on: Option<ServerId>,
    ) -> Result<Outcome, Refusal> {
        self.change_setting(key, on, |settings| settings.unset(key, on))
    }

    /// A secret that a setting begins to name must be there.
    fn check_bind_secret(&self, settings: &Settings) -> Result<(), Refusal> {
        let named = settings.bind_secret();
        if named == self.directory.settings.bind_secret() {
            return Ok(());
        }
        match named.filter(|name| self.directory.secret(name).is_none()) {
            Some(missing) => Err(no_secret(&missing)),
            None => Ok(()),
        }
    }

    fn change_setting(
        &mut self,
        key: &str,
        on: Option<ServerId>,
        change: impl FnOnce(&mut Settings) -> Result<bool, crate::settings::SettingError>,
    ) -> Result<Outcome, Refusal> {
        let setting = Settings::describe(key).map_err(Refusal::Setting)?;
        if let Some(server) = on.filter(|server| !self.directory.servers.contains_key(server)) {
            return Err(Refusal::NotFound {
                kind: Kind::Server,
                name: server.to_string(),
            });
        }
        let before = self.directory.settings.explicit(setting, on).cloned();
        let mut settings = self.directory.settings.clone();
        change(&mut settings)
            .and_then(|_| settings.check())
            .map_err(Refusal::Setting)?;
        self.check_bind_secret(&settings)?;
        let after = settings.explicit(setting, on).cloned();
        self.directory.settings = settings;
        self.strengthen();
        if before != after {
            let word = |value: Option<crate::settings::Value>| {
                value.map_or_else(|| "unset".to_owned(), |value| value.to_string())
            };
            let mut fields = vec![("before", word(before)), ("value", word(after))];
            fields.extend(on.map(|server| ("on", self.directory.name_of(server))));
            self.event(
                EventKind::SettingChanged,
                Severity::Info,
                setting.key,
                fields,
            );
        }
        Ok(Outcome::Done)
    }
}
