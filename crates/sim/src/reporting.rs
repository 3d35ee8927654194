//! What a simulated server tells the others of itself, every interval and every second, and what it keeps in step with the
//! settings. Start at [`report`].

use crate::network::{Load, News, Report};
use crate::server::{Contact, Server};
use model::{Command, Directory, PauseChange, Registration, ServerId, SessionState};
use policy::timing::Turn;
use replica::{Role, Timing};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

const PING: Duration = Duration::from_millis(100);
/// Every so many pings one carries a report.
const REPORTS: u32 = 10;

/// Tells the others every interval that it is there, and every second how it is.
pub(crate) async fn report(server: Arc<Server>) {
    let mut count = 0;
    loop {
        let state = server.replica.state();
        let directory = server.directory(&state);
        let reports = count % REPORTS == 0;
        let report = reports.then(|| server.own_report(directory));
        for other in server.others() {
            let news = News {
                incarnation: server.replica.incarnation(),
                report: report.clone(),
            };
            server.plug.tell(other, Load::News(news));
        }
        if reports {
            server.introduce(directory);
            if !server.scene.has_hosts() {
                server.register_sessions(directory, state.applied);
            }
            server.end_pause(directory);
            server.keep_timing(directory).await;
        }
        count += 1;
        sleep(PING).await;
    }
}

impl Server {
    fn own_report(&self, directory: &Directory) -> Report {
        let grace = directory.settings().grace_period();
        let others = directory.servers().map(|server| server.id);
        let hears: BTreeSet<ServerId> = others
            .filter(|id| self.silence(*id).is_some_and(|silent| silent <= grace))
            .collect();
        Report {
            applied: directory.group().number,
            at: self.scene.calendar(self.me).0,
            lease: self
                .replica
                .timing()
                .map_or(Duration::ZERO, |it| it.lease()),
            hears,
            in_sync: self.replica.status().in_sync,
        }
    }

    /// Says what it is, where the directory does not say so.
    fn introduce(self: &Arc<Self>, directory: &Directory) {
        let Some(record) = directory.server(self.me) else {
            return;
        };
        let incarnation = self.replica.incarnation();
        let known = record.started && record.incarnation == incarnation;
        // What it has may be of a formation that it has left.
        if known || directory.group().formation.this.id != self.replica.formation() {
            return;
        }
        self.wish(Command::ReportServer {
            server: self.me,
            version: record.version.clone(),
            feature_level: record.feature_level,
            incarnation,
            certificate_expires: record.certificate_expires,
            peer_address: record.peer_address.clone(),
            client_address: record.client_address.clone(),
            peer_key: Default::default(),
        });
    }

    /// Its sessions are there, whatever the directory says: they outlive its process.
    fn register_sessions(self: &Arc<Self>, directory: &Directory, applied: u64) {
        let here: Vec<_> = directory
            .sessions_on(self.me)
            .filter(|session| session.is_live())
            .collect();
        let orphaned = |session: &&&Arc<model::Session>| session.state == SessionState::Orphaned;
        if here.iter().filter(orphaned).count() == 0 {
            return;
        }
        let sessions = here.iter().map(|session| Registration {
            session: session.id,
            token: session.token.clone(),
            user: session.user.clone(),
            app: session.app.clone(),
            created: session.created,
            client: None,
            last_attached: session.last_attached,
        });
        self.wish(Command::RegisterSessions {
            host: self.me,
            sessions: sessions.collect(),
            complete_to: Some(applied),
        });
    }

    fn end_pause(self: &Arc<Self>, directory: &Directory) {
        let group = directory.group();
        let over = group.pause.is_some() && group.pause_at(self.scene.calendar(self.me)).is_none();
        if over && self.acts(&self.replica.acting()) {
            self.wish(Command::ChangePause {
                change: PauseChange::RunOut,
            });
        }
    }

    /// Takes up the times that the settings ask for, when it is this server's turn.
    async fn keep_timing(&self, directory: &Directory) {
        let settings = directory.settings();
        let wanted = Timing::new(settings.monitor_interval(), settings.grace_period());
        let (Ok(wanted), Some(now)) = (wanted, self.replica.timing()) else {
            return;
        };
        if directory.server(self.me).is_none() || now == wanted {
            return;
        }
        let status = self.replica.status();
        let turn = Turn {
            me: self.me,
            leads: status.role == Role::Leader,
            leader: status.leader,
            voters: &status.voters,
        };
        let leases: BTreeMap<ServerId, Duration> = {
            let inside = self.inside();
            let reported = |(id, contact): (&ServerId, &Contact)| {
                let (report, _) = contact.report.as_ref()?;
                Some((*id, report.lease))
            };
            inside.contacts.iter().filter_map(reported).collect()
        };
        let lease_of = |id| leases.get(&id).copied();
        if turn.has_come(lease_of, now.lease(), wanted.lease()) {
            // Consensus runs again with either times, or `Alive` finds that it does not.
            drop(self.replica.set_timing(wanted).await);
        }
    }
}
