//! What the settings of resilience are said to lead to, on networks of several kinds.

use crate::fixture::{made, ms};
use model::Settings;
use policy::advice::{Advice, Trip, resilience};
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

fn settings(of: &[(&'static str, &'static str)]) -> Settings {
    let mut made = made();
    made.settings = of.to_vec();
    made.directory().settings().clone()
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
    let defaults = settings(&[]);
    let fast = settings(&[
        ("resilience.monitor-interval", "50ms"),
        ("resilience.monitor-attempts", "4"),
    ]);
    let all = [
        (
            "defaults, one room",
            resilience(&defaults, true, std::slice::from_ref(&near)),
        ),
        (
            "fast, one room",
            resilience(&fast, true, std::slice::from_ref(&near)),
        ),
        (
            "defaults, far apart",
            resilience(&defaults, true, &[near, far]),
        ),
        ("nothing measured", resilience(&defaults, true, &[])),
        ("failover off", resilience(&defaults, false, &[])),
    ];
    let told = all.map(|(what, advice)| format!("{what}\n{}", in_words(&advice)));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_is_advised_is_allowed_and_draws_no_warning() {
    for worst in [0, 1, 3, 30, 100, 500, 900] {
        let trips = [trip(ms(worst / 2), ms(worst))];
        let advice = resilience(&settings(&[]), true, &trips);
        let mut last = Duration::ZERO;
        for other in &advice.alternatives {
            assert!(other.outage.expected <= other.outage.worst && other.outage.expected > last);
            last = other.outage.expected;
            let mut chosen = Settings::default();
            let ms_of = |span: Duration| format!("{}ms", span.as_millis());
            let values = other.values;
            for (key, value) in [
                (
                    "resilience.monitor-interval",
                    ms_of(values.monitor_interval),
                ),
                (
                    "resilience.monitor-attempts",
                    values.monitor_attempts.to_string(),
                ),
                ("resilience.rank-delay", ms_of(values.rank_delay)),
            ] {
                chosen.set(key, None, &value).unwrap();
            }
            chosen.check().unwrap();
            let again = resilience(&chosen, true, &trips);
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
