//! Runs one harness of the crate `fuzz` under libFuzzer, whose options are its command line: `cargo xtask fuzz` knows them.
//!
//! The environment variable `STEAD_FUZZ_TARGET` names the harness.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static HARNESS: OnceLock<fn(&[u8])> = OnceLock::new();

/// Finds the harness, or says which there are.
fn chosen() -> fn(&[u8]) {
    let name = std::env::var("STEAD_FUZZ_TARGET").unwrap_or_default();
    let found = fuzz::TARGETS.iter().find(|target| target.name == name);
    let Some(target) = found else {
        let names: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!(
            "STEAD_FUZZ_TARGET is {name:?} and has to be one of: {}",
            names.join(", ")
        );
        std::process::exit(2);
    };
    target.harness
}

fuzz_target!(|bytes: &[u8]| HARNESS.get_or_init(chosen)(bytes));
