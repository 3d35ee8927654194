//! What the settings of resilience are said to lead to, on networks of several kinds.

use crate::fixture::{AT, made, ms};
use model::{Directory, Record};
use policy::advice::{Advice, Trip, Values, resilience};
use std::fmt::Write;
use std::time::Duration;

fn trip(median: Duration, worst: Duration) -> Trip {
    Trip {
        from: "boston".to_owned(),
        to: "newyork".to_owned(),
        median,
        worst,
        samples: 100,
    }
}

fn group(settings: &[(&str, &str)]) -> Directory {
    let made = made().directory();
    let settings = settings.iter();
    let settings =
        settings.map(|(key, value)| Record::Setting((*key).to_owned(), None, (*value).to_owned()));
    Directory::from_records(made.records().chain(settings)).unwrap()
}

fn advised(group: &Directory, trips: &[Trip]) -> Advice {
    resilience(group, AT, trips)
}

fn in_words(advice: &Advice) -> String {
    let mut text = String::new();
    writeln!(text, "in force: {:?} {:?}", advice.values, advice.outage).unwrap();
    for other in &advice.alternatives {
        writeln!(
            text,
            "{}: {:?} {:?}",
            other.name, other.values, other.outage
        )
        .unwrap();
    }
    for warning in &advice.warnings {
        writeln!(text, "! {warning}").unwrap();
    }
    text
}

#[test]
fn as_it_is_told() {
    let (near, far) = (trip(ms(1), ms(4)), trip(ms(90), ms(220)));
    let defaults = group(&[]);
    let fast = group(&[
        ("resilience.monitor-interval", "50ms"),
        ("resilience.monitor-attempts", "4"),
    ]);
    let all = [
        (
            "defaults, one room",
            advised(&defaults, std::slice::from_ref(&near)),
        ),
        (
            "fast, one room",
            advised(&fast, std::slice::from_ref(&near)),
        ),
        ("defaults, far apart", advised(&defaults, &[near, far])),
        ("nothing measured", advised(&defaults, &[])),
        (
            "failover off",
            advised(&group(&[("resilience.failover", "false")]), &[]),
        ),
    ];
    let told = all.map(|(what, advice)| format!("{what}\n{}", in_words(&advice)));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_is_advised_is_allowed_and_draws_no_warning() {
    for worst in [0, 1, 3, 30, 100, 500, 900] {
        let trips = [trip(ms(worst / 2), ms(worst))];
        let advice = advised(&group(&[]), &trips);
        let mut last = Duration::ZERO;
        for other in &advice.alternatives {
            assert!(other.outage.expected <= other.outage.worst && other.outage.expected > last);
            last = other.outage.expected;
            let ms_of = |span: Duration| format!("{}ms", span.as_millis());
            let Values {
                monitor_interval,
                monitor_attempts,
                rank_delay,
            } = other.values;
            let chosen = group(&[
                ("resilience.monitor-interval", &ms_of(monitor_interval)),
                ("resilience.monitor-attempts", &monitor_attempts.to_string()),
                ("resilience.rank-delay", &ms_of(rank_delay)),
            ]);
            chosen.settings().check().unwrap();
            let again = advised(&chosen, &trips);
            assert_eq!(
                again.warnings,
                Vec::<String>::new(),
                "{} at {worst} ms",
                other.name
            );
            assert_eq!(again.outage, Some(other.outage));
        }
    }
}
