//! Stories by seed, in virtual time. A seed that failed once stays in `KEPT`.

use sim::{run, seeds};

/// Seeds that once found a mistake.
const KEPT: &[u64] = &[];

#[test]
fn many_seeds() {
    let mut reports = Vec::new();
    for seed in KEPT.iter().copied().chain(seeds(3).expect("numbers")) {
        match run(seed) {
            Ok(report) => reports.push(report),
            Err(broken) => panic!("seed {seed}: {broken}\nbefore it: {reports:#?}"),
        }
    }
    let primaries: u64 = reports.iter().map(|report| report.primaries).sum();
    assert!(
        primaries >= reports.len() as u64,
        "hardly anything happened: {reports:#?}"
    );
}

#[test]
fn the_same_seed_tells_the_same_story() {
    assert_eq!(run(3), run(3));
}
