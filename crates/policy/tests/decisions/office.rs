//! The office of one server, as whoever carries its actions out meets it.

use crate::fixture::{AT, BOSTON, DETROIT, SEATTLE, made, secs};
use model::{IncarnationId, ServerId, Standing};
use policy::office::{Look, Office};
use policy::voting::{HEALTHY_FOR, Membership, Progress, Step};
use std::collections::{BTreeMap, BTreeSet};

/// Nobody spins while a step takes its time: what comes due meanwhile is looked at when that has come to its end.
#[test]
fn nothing_comes_due_while_a_step_of_the_members_is_under_way() {
    let mut made = made().only(&[BOSTON, DETROIT]);
    made.server(DETROIT).standing = Standing::Voter;
    made.server(DETROIT).voting = false;
    made.group.primary = Some(BOSTON);
    made.group.backups = vec![BOSTON];
    let directory = made.directory();
    let incarnation = directory.server(DETROIT).map(|it| it.incarnation);
    let mut consensus = Membership {
        voters: BTreeSet::from([BOSTON]),
        // Seattle was removed.
        learners: BTreeSet::from([DETROIT, SEATTLE]),
        changing: false,
    };
    let well = |id: ServerId| {
        let progress = Progress {
            healthy: true,
            lag: Some(0),
            incarnation: incarnation.or(Some(IncarnationId::from_bytes([1; 16]))),
        };
        (id, progress)
    };
    let progress = || BTreeMap::from([DETROIT].map(well));
    let members = consensus.clone();
    let look = Look {
        me: BOSTON,
        directory: &directory,
        calendar: AT,
        term: 5,
        leads: true,
        acting: true,
        leader: Some(BOSTON),
        heard: None,
        consensus: &members,
        current: true,
    };
    let mut office = Office::new(&look, secs(1));
    assert_eq!(office.stand(&look, BTreeMap::new, None, secs(2)), []);
    assert!(office.take(&look, secs(2)).is_some());
    office.took(5);
    let step = office.arrange(&look, progress, None, secs(3));
    assert_eq!(step, Some(Step::RemoveMember(SEATTLE)));
    assert_eq!(office.poll_timeout(), None, "detroit counts in a while");
    let later = secs(3) + HEALTHY_FOR;
    assert_eq!(office.arrange(&look, progress, None, later), None);
    assert_eq!(office.poll_timeout(), None);
    consensus.learners.remove(&SEATTLE);
    let look = Look {
        consensus: &consensus,
        ..look
    };
    office.members_done();
    let step = office.arrange(&look, progress, None, later);
    let counts = Step::RecordVoting {
        server: DETROIT,
        voting: true,
    };
    assert_eq!(step, Some(counts));
}
