//! Going on by hand: asking everybody what they hold, and having it done where it has to be done.

use crate::formations::{give_way, make_by_hand};
use crate::node::Node;
use crate::submit::SubmitError;
use model::{Author, FormationRef, ServerId, Side};
use policy::Plan;
use policy::recovery::Recovery;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wire::control::{Answer, Request};

/// How long another server may take to do its part.
const PART_LIMIT: Duration = Duration::from_secs(30);
/// How long the formation may take to have a primary.
const LEAD_LIMIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

impl Node {
    /// What everybody who answers says now, this server included.
    async fn all_sides(&self) -> BTreeMap<ServerId, Side> {
        self.ask_sides().await;
        let mut sides = self.sides();
        sides.insert(self.me(), self.side());
        sides
    }

    /// What going on by hand would do, and what would refuse it.
    pub async fn recovery_plan(&self, formation: Option<&str>) -> (Plan, Option<Recovery>) {
        let sides = self.all_sides().await;
        self.with_view(|view| policy::recovery::recovery(view, &sides, formation))
    }

    /// Does it; gives the formation that stands and its primary.
    ///
    /// # Errors
    /// What refuses it, or that it did not come about.
    pub async fn recover(
        &self,
        plan: &Plan,
        recovery: Option<Recovery>,
        author: Author,
        reason: Option<String>,
    ) -> Result<(FormationRef, ServerId), SubmitError> {
        let Some(recovery) = recovery else {
            return Err(unfit(plan.refusals.join("; ")));
        };
        match recovery {
            Recovery::Make { on, from } => {
                let reason = reason.as_deref();
                if on == self.me() {
                    make_by_hand(self, from, &author, reason).await?;
                } else {
                    let request = Request::MakeFormation {
                        from,
                        author,
                        reason: reason.map(str::to_owned),
                    };
                    self.have_done(on, &request).await?;
                }
                self.wait_for_formation(on, |side| side.descends_from(from))
                    .await
            }
            Recovery::GiveWay {
                primaries,
                to,
                primary,
            } => {
                for other in primaries {
                    let reason = reason.clone();
                    if other == self.me() {
                        give_way(self, to.id, primary, &author, reason.as_deref()).await?;
                        continue;
                    }
                    let request = Request::GiveWay {
                        to: to.id,
                        primary,
                        author: author.clone(),
                        reason,
                    };
                    self.have_done(other, &request).await?;
                }
                let stands = |side: &Side| side.formation().is_some_and(|its| its.id == to.id);
                self.wait_for_formation(primary, stands).await
            }
        }
    }

    async fn have_done(&self, server: ServerId, request: &Request) -> Result<(), SubmitError> {
        match self.call(server, request, PART_LIMIT).await {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Failed(failure)) => Err(SubmitError::of_failure(failure, self)),
            Ok(_) | Err(_) => Err(SubmitError::OutcomeUnknown),
        }
    }

    async fn wait_for_formation(
        &self,
        primary: ServerId,
        is_it: impl Fn(&Side) -> bool,
    ) -> Result<(FormationRef, ServerId), SubmitError> {
        let until = Instant::now() + LEAD_LIMIT;
        loop {
            let sides = self.all_sides().await;
            let side = sides.get(&primary);
            let led = side.filter(|side| side.primary == Some(primary) && is_it(side));
            if let Some(formation) = led.and_then(Side::formation) {
                return Ok((formation, primary));
            }
            if Instant::now() >= until {
                return Err(unfit(format!(
                    "{} does not act as primary yet: look at `stead status` there",
                    self.directory().name_of(primary)
                )));
            }
            sleep(LOOK).await;
        }
    }
}

fn unfit(decision: String) -> SubmitError {
    SubmitError::Unfit {
        decision,
        candidates: Vec::new(),
    }
}
