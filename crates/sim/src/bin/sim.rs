//! Tells many stories on all cores, and says how many, how fast, how many shapes of failure, and how to tell the first one again
//! that broke a rule. `cargo xtask sim` starts it.

use clap::Parser;
use model::ResilienceMode;
use sim::{Breadth, Failed, Planted, Plot, Report, run};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How often is said how far it is.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// A story that takes longer is named.
const LONG: Duration = Duration::from_secs(60);

/// Runs the simulation.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim")]
struct Arguments {
    /// How many seeds, each a story of its own.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How long things go wrong in each story, in seconds of simulated time.
    #[arg(long = "for", default_value = "12s", value_parser = span)]
    storm: Duration,
    /// One seed only, with all that happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Stories in this mode only: quorum or availability.
    #[arg(long, value_parser = mode)]
    mode: Option<ResilienceMode>,
    /// Stories as they were told at first: seeds that were kept then tell the same again.
    #[arg(long)]
    narrow: bool,
    /// A bug to plant: its number, counted from 0.
    #[arg(long, hide = true)]
    planted: Option<usize>,
}

fn mode(text: &str) -> Result<ResilienceMode, String> {
    let known = [ResilienceMode::Quorum, ResilienceMode::Availability];
    let found = known.into_iter().find(|mode| mode.as_str() == text);
    found.ok_or_else(|| "quorum or availability".to_owned())
}

fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(|it: char| it.is_alphabetic()).len());
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a number with s, m or h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|error| format!("{error}"))?;
    Ok(Duration::from_secs(number * seconds))
}

/// What came of the seeds so far.
#[derive(Debug, Default)]
struct Sum {
    told: u64,
    acknowledged: usize,
    primaries: u64,
    took: Duration,
    shapes: BTreeMap<String, u64>,
    failed: Vec<Failed>,
}

impl Sum {
    fn add(&mut self, told: Result<Report, Box<Failed>>) {
        self.told += 1;
        match told {
            Ok(report) => {
                self.acknowledged += report.acknowledged;
                self.primaries += report.primaries;
                self.took += report.took;
                for shape in report.shapes {
                    *self.shapes.entry(shape).or_default() += 1;
                }
            }
            Err(failed) => self.failed.push(*failed),
        }
    }
}

#[expect(clippy::print_stdout, reason = "what the program is for")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let planted = arguments
        .planted
        .and_then(|it| Planted::ALL.get(it).copied());
    let plot = |seed| Plot {
        seed,
        storm: arguments.storm,
        planted,
        mode: arguments.mode,
        breadth: if arguments.narrow {
            Breadth::Narrow
        } else {
            Breadth::Whole
        },
    };
    if let Some(seed) = arguments.seed {
        return one(plot(seed));
    }
    let begun = Instant::now();
    let sum = many(&arguments, plot);
    let seconds = begun.elapsed().as_secs_f64();
    let rate = sum.told as f64 / seconds * 60.0;
    println!(
        "{} stories in {seconds:.0} s ({rate:.0} a minute), {:.1} h of simulated time",
        sum.told,
        sum.took.as_secs_f64() / 3600.0
    );
    println!(
        "{} changes acknowledged, {} changes of primary, {} shapes of failure",
        sum.acknowledged,
        sum.primaries,
        sum.shapes.len()
    );
    let Some(first) = sum.failed.iter().min_by_key(|failed| failed.seed) else {
        println!("no rule was broken");
        return ExitCode::SUCCESS;
    };
    println!("{} stories broke a rule; the first:", sum.failed.len());
    println!("{first}");
    println!(
        "again: cargo xtask sim --seed {} --for {}s{}",
        first.seed,
        arguments.storm.as_secs(),
        if arguments.narrow { " --narrow" } else { "" }
    );
    for failed in sum.failed.iter().skip(1).take(20) {
        let text = failed.to_string();
        println!("{}", text.chars().take(200).collect::<String>());
    }
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "what the program is for")]
fn one(plot: Plot) -> ExitCode {
    let (events, end) = match run(plot) {
        Ok(report) => {
            let end = format!(
                "no rule was broken; {} changes acknowledged, {} unknown, {} changes of primary\n{:#?}",
                report.acknowledged, report.unknown, report.primaries, report.shapes
            );
            (report.events, Ok(end))
        }
        Err(failed) => (failed.events.clone(), Err(failed.to_string())),
    };
    for event in events {
        println!("{event}");
    }
    match end {
        Ok(end) => {
            println!("{end}");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("{broken}");
            ExitCode::FAILURE
        }
    }
}

/// The stories that are being told, by seed, and since when.
type UnderWay = Mutex<BTreeMap<u64, Instant>>;

fn under_way(begun: &UnderWay) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
    begun.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names stories that do not seem to come to an end, each once, until nobody tells any more.
#[expect(clippy::print_stderr, reason = "nobody else could say so")]
fn name_long_ones(begun: &UnderWay, nobody_left: &mpsc::Receiver<()>) {
    let mut named = BTreeSet::new();
    while nobody_left.recv_timeout(SAY_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
        for (seed, since) in &*under_way(begun) {
            if since.elapsed() > LONG && named.insert(*seed) {
                eprintln!("seed {seed} has been told for {LONG:?}: does it come to an end?");
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "how far it is, beside what it came to")]
fn many(arguments: &Arguments, plot: impl Fn(u64) -> Plot + Sync) -> Sum {
    let sum = Mutex::new(Sum::default());
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from.saturating_add(arguments.seeds);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let said = Mutex::new(Instant::now());
    let begun = Mutex::default();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            under_way(&begun).insert(seed, Instant::now());
            let told = run(plot(seed));
            under_way(&begun).remove(&seed);
            if let Err(failed) = &told {
                eprintln!("{:.300}", failed.to_string());
            }
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.add(told);
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.elapsed() > SAY_EVERY {
                *said = Instant::now();
                let (told, broken) = (sum.told, sum.failed.len());
                let shapes = sum.shapes.len();
                eprintln!("{told} stories, {shapes} shapes, {broken} broke a rule");
            }
        }
    };
    std::thread::scope(|scope| {
        let (over, nobody_left) = mpsc::channel::<()>();
        for _ in 0..threads {
            let over = over.clone();
            scope.spawn(move || {
                work();
                drop(over);
            });
        }
        drop(over);
        name_long_ones(&begun, &nobody_left);
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}
