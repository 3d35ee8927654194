//! The log against its plain twin (a vector), through stops, crashes, damage and full disks, in virtual time.

use super::*;
use crate::disk::{Disk, MemoryDisk, RealDisk, Weather, read_all};
use crate::types::{LeaderId, Proposal};
use bytes::Bytes;
use model::{FormationId, IncarnationId, ServerId};
use openraft::EntryPayload;
use openraft::vote::RaftLeaderId;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::path::PathBuf;

const DIR: &str = "/f";
const SMALL: LogOptions = LogOptions {
    segment_size: 64 << 10,
    driver: Driver::Tasks {
        sync: Duration::from_millis(2),
    },
};

const THREADS: LogOptions = LogOptions {
    driver: Driver::Threads,
    ..SMALL
};

fn owner() -> LogOwner {
    LogOwner {
        formation: FormationId::from_bytes([1; 16]),
        incarnation: IncarnationId::from_bytes([2; 16]),
    }
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, ServerId::from_bytes([3; 16])), index)
}

fn entry(term: u64, index: u64, size: usize) -> Entry {
    let bytes = Bytes::from(vec![(index % 251) as u8; size]);
    Entry {
        log_id: id(term, index),
        payload: EntryPayload::Normal(Proposal::from_bytes(bytes)),
    }
}

fn fresh(disk: &SharedDisk, options: LogOptions) -> Log {
    disk.create_dir(Path::new(DIR)).expect("a folder");
    Log::create(disk, Path::new(DIR), owner(), options.segment_size, None).expect("made");
    Log::open(disk, Path::new(DIR), options).expect("opened")
}

async fn append(log: &Log, entries: Vec<Entry>) -> io::Result<()> {
    let (answer, written) = oneshot::channel();
    log.append(entries, Done::Answer(answer));
    written.await.expect("an answer")
}

fn all(log: &Log) -> Vec<Entry> {
    log.entries(0, u64::MAX, usize::MAX)
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_there_again() {
    let disk: SharedDisk = Arc::new(MemoryDisk::new());
    let log = fresh(&disk, SMALL);
    let mut expected = Vec::new();
    for index in 1..=300 {
        let next = entry(1, index, 700);
        expected.push(next.clone());
        append(&log, vec![next]).await.expect("written");
    }
    let vote = Vote::new(4, ServerId::from_bytes([3; 16]));
    log.save_vote(vote).await.expect("written");
    log.purge(id(1, 100));
    log.save_committed(id(1, 250));
    log.flush().await.expect("written");
    append(&log, vec![entry(2, 301, 10)])
        .await
        .expect("written");
    drop(log);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let names = disk.list(Path::new(DIR)).expect("listed");
    assert!(
        !names.contains(&segment_name(1)),
        "a purged segment is still there: {names:?}"
    );
    let log = Log::open(&disk, Path::new(DIR), SMALL).expect("opened");
    expected.push(entry(2, 301, 10));
    assert_eq!(all(&log), expected.split_off(100));
    assert_eq!(log.vote(), Some(vote));
    assert_eq!(log.committed(), Some(id(1, 250)));
    assert_eq!(log.ends(), (Some(id(1, 100)), Some(id(2, 301))));
}

#[test]
fn threads_and_a_real_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk: SharedDisk = Arc::new(RealDisk);
    let options = LogOptions {
        segment_size: 256 << 10,
        driver: Driver::Threads,
    };
    Log::create(&disk, folder.path(), owner(), options.segment_size, None).expect("made");
    let log = Log::open(&disk, folder.path(), options).expect("opened");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        for start in (1..1000).step_by(10) {
            let entries = (start..start + 10)
                .map(|index| entry(1, index, 1000))
                .collect();
            append(&log, entries).await.expect("written");
        }
    });
    let before = all(&log);
    drop(log);
    let log = Log::open(&disk, folder.path(), options).expect("opened");
    assert_eq!(all(&log), before);
    assert_eq!(before.len(), 1000);
}

/// Writes three batches of one entry each and returns the disk and where each batch begins.
async fn three_batches() -> (MemoryDisk, Vec<usize>) {
    let disk = MemoryDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let log = fresh(&shared, SMALL);
    for index in 1..=3 {
        append(&log, vec![entry(1, index, 100)])
            .await
            .expect("written");
    }
    drop(log);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let bytes: Bytes = read_all(&disk, &segment(), 1 << 20).expect("read").into();
    let mut starts = Vec::new();
    let mut from = SEGMENT_HEADER;
    while let Some((start, _)) = format::find_batch(&owner(), &bytes, from, 1) {
        starts.push(start);
        from = start + 8;
    }
    assert_eq!(starts.len(), 3);
    (disk, starts)
}

fn segment() -> PathBuf {
    Path::new(DIR).join(segment_name(1))
}

#[tokio::test(start_paused = true)]
async fn a_damaged_last_batch_is_cut_off() {
    let (disk, starts) = three_batches().await;
    disk.damage(&segment(), starts[2] as u64 + 60, &[0xff])
        .expect("damaged");
    let shared: SharedDisk = Arc::new(disk);
    let log = Log::open(&shared, Path::new(DIR), SMALL).expect("opened");
    assert_eq!(all(&log).len(), 2);
    append(&log, vec![entry(2, 3, 5)]).await.expect("written");
    drop(log);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let log = Log::open(&shared, Path::new(DIR), SMALL).expect("opened again");
    assert_eq!(log.ends().1, Some(id(2, 3)));
}

#[tokio::test(start_paused = true)]
async fn damage_before_a_whole_batch_stops_with_the_remedy() {
    let (disk, starts) = three_batches().await;
    disk.damage(&segment(), starts[1] as u64 + 60, &[0xff])
        .expect("damaged");
    let before = read_all(&disk, &segment(), 1 << 20).expect("read");
    let shared: SharedDisk = Arc::new(disk.clone());
    let error = Log::open(&shared, Path::new(DIR), SMALL).expect_err("damaged");
    let text = error.to_string();
    assert!(text.contains("00000000000000000001.log"), "{text}");
    assert!(text.contains(&format!("offset {}", starts[1])), "{text}");
    assert!(text.contains("join the group again"), "{text}");
    assert_eq!(
        read_all(&disk, &segment(), 1 << 20).expect("read"),
        before,
        "a damaged log was changed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_was_cut_stops_with_the_remedy() {
    let (disk, starts) = three_batches().await;
    let whole = read_all(&disk, &segment(), 1 << 20).expect("read");
    for length in [starts[1], starts[2], whole.len() - 1] {
        let mut file = disk.create(&segment(), length as u64).expect("cut");
        file.write_at(0, &whole[..length]).expect("written");
        file.sync().expect("synced");
        let shared: SharedDisk = Arc::new(disk.clone());
        let error = Log::open(&shared, Path::new(DIR), SMALL).expect_err("cut");
        let text = error.to_string();
        assert!(text.contains("was cut"), "{text}");
        assert!(text.contains("join the group again"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_single_damaged_byte_is_noticed_or_cut_off() {
    let (disk, starts) = three_batches().await;
    let whole = read_all(&disk, &segment(), 1 << 20).expect("read");
    for offset in 0..starts[2] + 160 {
        disk.damage(&segment(), 0, &whole).expect("restored");
        let damaged = [whole[offset] ^ 0x55];
        disk.damage(&segment(), offset as u64, &damaged)
            .expect("damaged");
        let shared: SharedDisk = Arc::new(disk.clone());
        match recover::read_log(&*shared, Path::new(DIR)) {
            Err(_) => assert!(
                offset < starts[2],
                "offset {offset}: a damaged last batch is no error"
            ),
            Ok(content) => {
                let count = content.entries.len();
                assert!(
                    offset >= starts[2] && count >= 2,
                    "offset {offset}: {count} entries, and nothing was noticed"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_segment_is_noticed() {
    let disk = MemoryDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let log = fresh(&shared, SMALL);
    for index in 1..=400 {
        append(&log, vec![entry(1, index, 700)])
            .await
            .expect("written");
    }
    drop(log);
    tokio::time::sleep(Duration::from_secs(1)).await;
    disk.remove(&Path::new(DIR).join(segment_name(1)))
        .expect("removed");
    let error = Log::open(&shared, Path::new(DIR), SMALL).expect_err("the beginning is missing");
    assert!(
        matches!(error, OpenLogError::EntriesMissing { .. }),
        "{error}"
    );
    disk.remove(&Path::new(DIR).join(segment_name(3)))
        .expect("removed");
    let error = Log::open(&shared, Path::new(DIR), SMALL).expect_err("the middle is missing");
    assert!(matches!(error, OpenLogError::Gap { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_seen_before_writing_and_passes() {
    let disk = MemoryDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let log = fresh(&shared, SMALL);
    assert_eq!(log.admit(1000).await.map(|_| ()), Ok(()));
    disk.set_weather(Weather {
        capacity: Some(2 * SMALL.segment_size),
        broken: false,
        ..Weather::default()
    });
    let mut index = 0;
    let refused = loop {
        match log.admit(1000).await {
            Ok(_admitted) => {
                index += 1;
                append(&log, vec![entry(1, index, 1000)])
                    .await
                    .expect("what was admitted is written");
            }
            Err(refused) => break refused,
        }
        assert!(index < 200, "the disk never was full");
    };
    assert_eq!(refused.room, Room::Full);
    log.save_vote(Vote::new(9, ServerId::from_bytes([3; 16])))
        .await
        .expect("a vote still fits");
    disk.set_weather(Weather::default());
    while log.room() != Room::Ready {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    append(&log, vec![entry(1, index + 1, 1000)])
        .await
        .expect("written");
}

#[tokio::test(start_paused = true)]
async fn after_an_error_nothing_is_called_written() {
    let disk = MemoryDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let log = fresh(&shared, SMALL);
    append(&log, vec![entry(1, 1, 10)]).await.expect("written");
    disk.set_weather(Weather {
        capacity: None,
        broken: true,
        ..Weather::default()
    });
    assert!(append(&log, vec![entry(1, 2, 10)]).await.is_err());
    disk.set_weather(Weather::default());
    assert!(append(&log, vec![entry(1, 3, 10)]).await.is_err());
}

/// The log, and what a vector remembers of the same jobs.
struct Pair {
    disk: MemoryDisk,
    log: Log,
    entries: Vec<Entry>,
    /// The entries as of each job, so that a crash may lose any number of unacknowledged jobs.
    history: Vec<Vec<Entry>>,
    acknowledged: usize,
    vote: Option<Vote>,
    answers: Vec<(usize, oneshot::Receiver<io::Result<()>>)>,
}

impl Pair {
    fn new() -> Self {
        let disk = MemoryDisk::new();
        let shared: SharedDisk = Arc::new(disk.clone());
        Self {
            log: fresh(&shared, SMALL),
            disk,
            entries: Vec::new(),
            history: vec![Vec::new()],
            acknowledged: 0,
            vote: None,
            answers: Vec::new(),
        }
    }

    fn next(&self) -> u64 {
        self.entries
            .last()
            .map_or(1, |entry| entry.log_id.index + 1)
    }

    async fn truncate(&mut self, keep: u64) {
        let kept = self.entries.iter().find(|entry| entry.log_id.index == keep);
        let Some(kept) = kept.map(|entry| entry.log_id) else {
            return;
        };
        self.entries.retain(|entry| entry.log_id.index <= keep);
        self.history.push(self.entries.clone());
        self.log.truncate_after(Some(kept)).await.expect("written");
        self.acknowledged = self.history.len() - 1;
    }

    async fn vote(&mut self, term: u64) {
        let vote = Vote::new(term, ServerId::from_bytes([3; 16]));
        self.log.save_vote(vote).await.expect("written");
        self.vote = Some(vote);
        // Jobs are written in order, so that all before this one are on disk too.
        self.acknowledged = self.history.len() - 1;
    }

    fn append(&mut self, entries: Vec<Entry>) {
        let (answer, written) = oneshot::channel();
        self.log.append(entries.clone(), Done::Answer(answer));
        // A job may be written in several batches, so that a crash may keep a part of it.
        for entry in entries {
            self.entries.push(entry);
            self.history.push(self.entries.clone());
        }
        self.answers.push((self.history.len() - 1, written));
    }

    fn crash(&mut self, seed: u64, what: &str) {
        self.disk = self.disk.crash(seed);
        for (job, mut answer) in self.answers.drain(..) {
            if let Ok(Ok(())) = answer.try_recv() {
                self.acknowledged = self.acknowledged.max(job);
            }
        }
        let shared: SharedDisk = Arc::new(self.disk.clone());
        self.log = Log::open(&shared, Path::new(DIR), SMALL)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(
            self.log.vote(),
            self.vote,
            "{what}: a promise was forgotten"
        );
        let found = all(&self.log);
        let possible = self.history.get(self.acknowledged..).unwrap_or_default();
        let acknowledged = possible.first().map_or(0, Vec::len);
        assert!(
            possible.contains(&found),
            "{what}: {} entries, {acknowledged} acknowledged",
            found.len()
        );
        self.history = vec![found.clone()];
        self.entries = found;
        self.acknowledged = 0;
    }
}

#[tokio::test(start_paused = true)]
async fn random_work_and_crashes_against_the_twin() {
    for seed in 0..60 {
        let mut chance = SmallRng::seed_from_u64(seed);
        let mut pair = Pair::new();
        for step in 0..120 {
            let next = pair.next();
            match chance.random_range(0..20) {
                0 if next > 3 => pair.truncate(chance.random_range(1..next - 1)).await,
                1 => tokio::time::sleep(Duration::from_millis(chance.random_range(0..5))).await,
                3 => pair.vote(step).await,
                2 => pair.crash(chance.random(), &format!("seed {seed}, step {step}")),
                _ => {
                    let count = chance.random_range(1..4);
                    let size = chance.random_range(0..3000);
                    let range = next..next + count;
                    pair.append(range.map(|index| entry(step, index, size)).collect());
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_on_disk_once_it_is_synced() {
    let disk = MemoryDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let log = fresh(&shared, SMALL);
    log.until_on_disk(7).await.expect("there is nothing");
    log.append(vec![entry(1, 1, 100)], Done::Nobody);
    let early = tokio::time::timeout(Duration::from_millis(1), log.until_on_disk(1)).await;
    assert!(early.is_err(), "a sync takes 2 ms");
    log.until_on_disk(7).await.expect("all that there is");
    disk.set_weather(Weather {
        broken: true,
        ..Weather::default()
    });
    log.append(vec![entry(1, 2, 100)], Done::Nobody);
    log.until_on_disk(2).await.expect_err("the disk failed");
}

/// Runs until `until` has passed, and stops like a process that is killed: nothing of it goes on.
fn run_and_kill(disk: &MemoryDisk, until: Duration, work: impl AsyncFn(&Log)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let shared: SharedDisk = Arc::new(disk.clone());
    runtime.block_on(async {
        let log = Log::open(&shared, Path::new(DIR), SMALL).expect("opened");
        // The work is given up where it is.
        let _ = tokio::time::timeout(until, work(&log)).await;
    });
}

/// It is killed between writing and syncing a batch, reads the batch at its next start, and loses its power.
#[test]
fn what_a_killed_process_had_written_survives_a_power_loss_once_it_was_read() {
    let before_its_sync = Duration::from_millis(1);
    for seed in 0..50 {
        let disk = MemoryDisk::new();
        let shared: SharedDisk = Arc::new(disk.clone());
        shared.create_dir(Path::new(DIR)).expect("a folder");
        Log::create(&shared, Path::new(DIR), owner(), SMALL.segment_size, None).expect("made");
        for index in 1..=2 {
            run_and_kill(&disk, before_its_sync, async |log| {
                assert_eq!(all(log).len() as u64, index - 1, "seed {seed}");
                let size = 4096;
                append(log, vec![entry(1, index, size)])
                    .await
                    .expect("written");
            });
        }
        let disk = disk.crash(seed);
        let opened = Log::open(&(Arc::new(disk) as SharedDisk), Path::new(DIR), THREADS);
        let log = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let kept = all(&log);
        assert_eq!(kept.first(), Some(&entry(1, 1, 4096)), "seed {seed}");
    }
}
