//! What stands against putting a record of a formation that gave way in place, where the directory alone cannot tell: what the ordinary
//! request for the same change asks of members, of keys and of the calendar before it makes the change.
//!
//! Always true: a record is put in place only where the request that people make for it would be accepted now. Start at [`sift`].

use crate::api::caller::Caller;
use crate::api::problem::Problem;
use crate::api::{certificates, settings};
use crate::keys;
use crate::node::Node;
use crate::submit::SubmitError;
use crate::suites;
use model::divergence::{EditedServer, same};
use model::settings::{Settings, Value};
use model::{Content, Directory, Diverged, FormationId, ServerId, StoredSecret, Subject};
use policy::addresses::Wish;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Subjects that go into one change, and whether some that were meant with them are left out.
pub(super) type Part = (Vec<Subject>, bool);

/// Who asks, of what, and whether anything is to come of it.
pub(super) struct Asked<'a> {
    pub(super) node: &'a Node,
    pub(super) caller: &'a Caller,
    pub(super) directory: &'a Directory,
    pub(super) formation: FormationId,
    pub(super) reason: Option<&'a str>,
    pub(super) dry_run: bool,
}

/// Leaves out of each part what stands against, and gives that with the reason.
///
/// # Errors
/// What stands against the one record that was meant.
pub(super) async fn sift(
    asked: &Asked<'_>,
    parts: Vec<Vec<Subject>>,
) -> Result<(Vec<Part>, BTreeMap<Subject, Problem>), Problem> {
    let alone = matches!(parts.as_slice(), [only] if only.len() == 1);
    let (mut fit, mut refused) = (Vec::new(), BTreeMap::new());
    for subjects in parts {
        let mut against = BTreeMap::new();
        for record in asked.records(&subjects) {
            if let Err(problem) = asked.check(record).await {
                if alone {
                    return Err(problem);
                }
                against.insert(record.subject.clone(), problem);
            }
        }
        if against.is_empty() {
            fit.push((subjects, false));
            continue;
        }
        let meant = match subjects.is_empty() {
            true => asked.records(&[]).map(|it| it.subject.clone()).collect(),
            false => subjects,
        };
        let left = meant.into_iter().filter(|it| !against.contains_key(it));
        let left: Vec<Subject> = left.collect();
        if !left.is_empty() {
            fit.push((left, true));
        }
        refused.extend(against);
    }
    Ok((fit, refused))
}

impl Asked<'_> {
    /// The records that are meant; all of the formation where none is named.
    fn records<'s>(&'s self, subjects: &'s [Subject]) -> impl Iterator<Item = &'s Arc<Diverged>> {
        let (directory, formation) = (self.directory, self.formation);
        let all = directory
            .diverged(formation)
            .filter(|_| subjects.is_empty());
        let named = subjects.iter();
        all.chain(named.filter_map(move |one| directory.diverged_record(formation, one)))
    }

    async fn check(&self, record: &Diverged) -> Result<(), Problem> {
        let present = self.directory.content(&record.subject);
        if same(present.as_ref(), record.loser.as_ref()) {
            return Ok(());
        }
        match (&record.subject, &record.loser) {
            (Subject::Setting(key, None), wanted) if key == suites::KEY => {
                self.check_suites(wanted.as_ref())
            }
            (_, Some(Content::Certificate(one))) => {
                let checked = self.node.check_certificate(one);
                checked.map_err(certificates::unfit)
            }
            (_, Some(Content::Secret(secret))) => self.check_secret(secret),
            (Subject::Server(id), Some(Content::Server(to))) => self.check_reached(*id, to).await,
            (Subject::Removed(id), Some(_)) => self.remove(*id).await,
            _ => Ok(()),
        }
    }

    fn check_suites(&self, wanted: Option<&Content>) -> Result<(), Problem> {
        let Some(Content::Setting(text)) = wanted else {
            return settings::check_suites(self.node, Settings::default().cipher_suites());
        };
        match Settings::parse(suites::KEY, text)? {
            (_, Value::List(wanted)) => settings::check_suites(self.node, &wanted),
            _ => Ok(()),
        }
    }

    /// A value is of use only where those who are to open it can.
    fn check_secret(&self, secret: &StoredSecret) -> Result<(), Problem> {
        if secret.is_lost() {
            // Refused where the change is applied.
            return Ok(());
        }
        self.node.seal_key().ok_or(SubmitError::NoSealKey)?;
        let (seals, group) = (&self.node.trust().seals, self.directory.group().id);
        keys::open_stored(group, seals, &secret.name, &secret.sealed)
            .map(|_| ())
            .map_err(|error| {
                let why = peer::InFull(&error);
                let remedy = format!("stead secret set {}", secret.name);
                Problem::refused(format!("its value cannot be opened: {why}")).remedy(remedy)
            })
    }

    /// Members try whether they reach a server where it is to be reached.
    async fn check_reached(&self, id: ServerId, to: &EditedServer) -> Result<(), Problem> {
        let Some(known) = self.directory.server(id) else {
            // Refused where the change is applied.
            return Ok(());
        };
        let changed = |is: &str, to| (is != to).then_some(to);
        let wish = Wish {
            server: id,
            peer: changed(&known.peer_address, to.peer_address.as_str()),
            client: changed(&known.client_address, to.client_address.as_str()),
            force: false,
        };
        if wish.peer.is_none() && wish.client.is_none() {
            return Ok(());
        }
        let plan = self.node.addresses_plan(wish).await;
        if plan.is_possible() {
            return Ok(());
        }
        let remedy = "where nobody can try it: stead server set NAME --peer ADDRESS --client ADDRESS --force, and discard this record";
        Err(Problem::refused(plan.refusals.join("; ")).remedy(remedy))
    }

    /// A member leaves as by `stead group remove`: the plan is asked, it leaves consensus before the directory, and the secret that it
    /// knows rotates. What is left of the record then says what is so already.
    async fn remove(&self, id: ServerId) -> Result<(), Problem> {
        if self.directory.server(id).is_none() {
            return Ok(());
        }
        if self.dry_run {
            let plan = self.node.removal_plan(id, None);
            return match plan.is_possible() {
                true => Ok(()),
                false => Err(Problem::refused(plan.refusals.join("; "))),
            };
        }
        let (author, reason) = (self.caller.author.clone(), self.reason.map(str::to_owned));
        Ok(self.node.remove_server(id, author, reason).await?)
    }
}
