//! What may become of a log, done to real ones: every byte changed, every line removed, moved and cut, disks that fail.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    folder::{Folder, Sink, Storage},
    *,
};

const KEY: [u8; 32] = [7; 32];

/// A folder with a key in it, and a log beside.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        write_key(&place.path("key"), &KEY);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> AuditConfig {
        AuditConfig {
            fsync: FsyncPolicy::Never,
            retry_every: Duration::from_millis(5),
            close_wait_max: Duration::from_millis(50),
            ..AuditConfig::new(self.path("log"), self.path("key"))
        }
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.path("log").join(folder::file_name(number))
    }

    /// The kinds that are found, each once.
    fn check(&self, head: Option<&Head>) -> (Summary, Vec<FindingKind>) {
        check(&self.path("log"), head)
    }

    fn records(&self) -> Vec<Value> {
        let segments = folder::segments_at(&self.path("log")).expect("a log");
        let text: String = segments.iter().map(|(_, path)| fs::read_to_string(path).expect("a segment")).collect();
        text.lines().map(|line| serde_json::from_str(line).expect("lines are JSON")).collect()
    }
}

fn check(path: &Path, head: Option<&Head>) -> (Summary, Vec<FindingKind>) {
    let mut kinds = BTreeSet::new();
    let found = |finding: Finding| {
        kinds.insert(finding.kind);
    };
    let summary = verify(path, &AuditKey::from_bytes(&KEY), head, found).expect("the log is readable");
    (summary, kinds.into_iter().collect())
}

fn write_key(path: &Path, key: &[u8; 32]) {
    fs::write(path, format!("{}\n", blake3::Hash::from_bytes(*key).to_hex())).expect("writable");
    set_mode(path, 0o600);
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn request(id: usize) -> Request {
    let prompts = PromptRecord::all(PromptPolicy::Hash, [PromptSource::Text(format!("prompt {id}").into())]);
    Request { id: format!("req-{id}"), endpoint: "/generate".into(), model: "m".into(), prompts, ..Request::default() }
}

/// Requests that begin and end one after the other.
fn serve(log: &AuditLog, ids: std::ops::Range<usize>) {
    for id in ids {
        block_on(async { log.admit(request(id)).await?.complete().await }).expect("the disk takes it");
    }
}

/// A log with these requests, closed.
fn closed_log(config: AuditConfig, ids: std::ops::Range<usize>) {
    let log = AuditLog::open(config).expect("a log");
    serve(&log, ids);
    log.close().expect("the disk takes it");
}

fn lines_of(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("a segment");
    bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn events(records: &[Value]) -> Vec<&str> {
    records.iter().filter_map(|record| record["event"].as_str()).collect()
}

#[test]
fn a_log_says_what_happened_and_verifies_up_to_its_head() {
    let place = Place::new();
    let log = AuditLog::open(place.config()).expect("a log");
    serve(&log, 0..1);
    block_on(log.admit(request(1))).map(drop).expect("admitted");
    block_on(log.admit(request(2))).expect("admitted").refuse("out_of_range");
    log.close().expect("the disk takes it");
    let records = place.records();
    let expected = ["segment", "open", "request", "reply", "request", "reply", "request", "reply", "checkpoint"];
    assert_eq!(events(&records), expected);
    let ends: Vec<_> = [3, 5, 7].map(|i| (&records[i]["id"], &records[i]["status"])).into();
    assert_eq!(
        format!("{ends:?}"),
        r#"[(String("req-0"), String("complete")), (String("req-1"), String("dropped")), (String("req-2"), String("refused"))]"#
    );
    assert_eq!(records[7]["code"], "out_of_range");
    let (summary, kinds) = place.check(Some(&read_head(&place.path("log")).expect("a head")));
    assert_eq!((summary.outcome, summary.records, summary.closed, kinds), (Outcome::Whole, 9, true, vec![]));
    assert!(matches!(block_on(log.admit(request(3))), Err(Unavailable::Failed)), "a closed log admits nothing");
}

#[test]
fn every_changed_byte_is_found() {
    let place = Place::new();
    closed_log(place.config(), 0..2);
    let path = place.segment(1);
    let whole = fs::read(&path).expect("a segment");
    for position in 0..whole.len() {
        for with in [whole[position] ^ 1, b'\n'] {
            let mut bytes = whole.clone();
            bytes[position] = with;
            fs::write(&path, &bytes).expect("writable");
            let expected = if bytes == whole { Outcome::Whole } else { Outcome::Tampered };
            let (summary, kinds) = place.check(None);
            assert_eq!(summary.outcome, expected, "byte {position} as {with}: {kinds:?}");
        }
    }
}

#[test]
fn every_line_that_is_removed_moved_copied_edited_or_cut_is_found_and_named() {
    let place = Place::new();
    closed_log(place.config(), 0..3);
    let path = place.segment(1);
    let lines = lines_of(&path);
    let head = read_head(&path).expect("a head");
    let check = |lines: &[Vec<u8>], what: &str, expected: &[FindingKind]| {
        fs::write(&path, lines.concat()).expect("writable");
        let (_, kinds) = place.check(Some(&head));
        assert_eq!(kinds, expected, "{what}");
    };
    use FindingKind::{Changed, CutOff, Removed, Reordered};
    check(&lines, "nothing", &[]);
    for i in 0..lines.len() {
        let is_last = i + 1 == lines.len();
        let mut removed = lines.clone();
        removed.remove(i);
        check(&removed, &format!("line {i} removed"), if is_last { &[CutOff] } else { &[Removed] });
        for to in 0..lines.len() {
            let mut copied = lines.clone();
            copied.insert(to, lines[i].clone());
            check(&copied, &format!("line {i} copied to {to}"), &[Reordered]);
            if to != i {
                let mut swapped = lines.clone();
                swapped.swap(i, to);
                check(&swapped, &format!("lines {i} and {to} swapped"), &[Reordered]);
            }
        }
        let mut edited = lines.clone();
        edited[i] = String::from_utf8(edited[i].clone()).expect("UTF-8").replace("time_ms\":1", "time_ms\":2").into();
        check(&edited, &format!("line {i} edited"), &[Changed]);
        let mut inserted = lines.clone();
        inserted.insert(i, b"{}\n".to_vec());
        check(&inserted, &format!("a line inserted before {i}"), &[Changed]);
        let mut cut = lines.clone();
        cut[i].drain(40..lines[i].len() - 1);
        check(&cut, &format!("line {i} cut"), &[Changed]);
    }
}

#[test]
fn a_log_that_ends_early_is_torn_inside_a_line_and_cut_off_under_a_head() {
    let place = Place::new();
    closed_log(place.config(), 0..2);
    let path = place.segment(1);
    let whole = fs::read(&path).expect("a segment");
    let head = read_head(&path).expect("a head");
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).expect("writable");
        let at_a_line = len > 0 && whole[len - 1] == b'\n';
        let expected: &[FindingKind] = if at_a_line { &[] } else { &[FindingKind::TornTail] };
        assert_eq!(place.check(None).1, expected, "{len} bytes");
        let (summary, kinds) = place.check(Some(&head));
        let lost = len + 1 < whole.len();
        assert_eq!(kinds.contains(&FindingKind::CutOff), lost, "{len} bytes: {kinds:?}");
        assert_eq!(summary.outcome, if lost { Outcome::Tampered } else { Outcome::TornTail });
    }
}

#[test]
fn segments_follow_each_other_and_a_missing_one_is_found() {
    let place = Place::new();
    let small = AuditConfig { segment_bytes: 2_500, checkpoint_records: 5, ..place.config() };
    closed_log(small, 0..20);
    let (summary, kinds) = place.check(None);
    assert!(summary.segments >= 5 && kinds.is_empty(), "{summary:?} {kinds:?}");
    for (number, path) in folder::segments_at(&place.path("log")).expect("a log") {
        assert!(fs::metadata(&path).expect("it is there").len() <= 2_500, "{number:?} is too large");
        assert_eq!(check(&path, None).1, [], "a segment verifies by itself");
    }
    use FindingKind::{CutOff, Removed, Reordered};
    let head = read_head(&place.path("log")).expect("a head");
    let without = |number: u64, head: Option<&Head>| {
        fs::rename(place.segment(number), place.path("aside")).expect("it is ours");
        let kinds = place.check(head).1;
        fs::rename(place.path("aside"), place.segment(number)).expect("it is ours");
        kinds
    };
    assert_eq!(without(1, None), [Removed]);
    assert_eq!(without(3, None), [Removed]);
    assert_eq!(without(summary.segments, None), [], "a chain alone does not show that its end is missing");
    assert_eq!(without(summary.segments, Some(&head)), [CutOff]);

    fs::rename(place.segment(2), place.path("aside")).expect("it is ours");
    fs::rename(place.segment(3), place.segment(2)).expect("it is ours");
    fs::rename(place.path("aside"), place.segment(3)).expect("it is ours");
    assert_eq!(place.check(None).1, [Reordered]);
    fs::rename(place.segment(2), place.path("aside")).expect("it is ours");
    fs::rename(place.segment(3), place.segment(2)).expect("it is ours");
    fs::rename(place.path("aside"), place.segment(3)).expect("it is ours");

    let lines = lines_of(&place.segment(2));
    for (kept, expected) in [(&lines[..lines.len() - 2], CutOff), (&lines[1..], Removed)] {
        fs::write(place.segment(2), kept.concat()).expect("writable");
        assert_eq!(place.check(None).1, [expected]);
    }
    let whole = lines.concat();
    fs::write(place.segment(2), &whole[..whole.len() - 20]).expect("writable");
    assert_eq!(place.check(None).1, [CutOff], "a torn line is only at the end of the log no sign of tampering");
}

#[test]
fn two_logs_under_one_key_do_not_mix() {
    let (place, other) = (Place::new(), Place::new());
    for place in [&place, &other] {
        closed_log(place.config(), 0..3);
    }
    let (mut lines, others) = (lines_of(&place.segment(1)), lines_of(&other.segment(1)));
    let head = read_head(&place.segment(1)).expect("a head");
    lines.truncate(4);
    lines.extend_from_slice(&others[4..]);
    fs::write(place.segment(1), lines.concat()).expect("writable");
    assert_eq!(place.check(None).1, [FindingKind::Forked]);
    fs::write(place.segment(1), others.concat()).expect("writable");
    assert_eq!(place.check(None).1, [], "it is a whole log");
    assert_eq!(place.check(Some(&head)).1, [FindingKind::Forked], "but not the one that the head is of");
}

#[test]
fn another_key_is_named_and_not_called_a_change() {
    let place = Place::new();
    closed_log(place.config(), 0..2);
    let mut findings = Vec::new();
    let other = AuditKey::from_bytes(&[8; 32]);
    let summary = verify(&place.path("log"), &other, None, |finding| findings.push(finding)).expect("readable");
    assert_eq!((findings.len(), findings[0].kind, summary.records), (1, FindingKind::ForeignKey, 0));
    write_key(&place.path("key"), &[8; 32]);
    let error = AuditLog::open(place.config()).expect_err("not under another key");
    assert!(matches!(error, AuditError::NotWhole { .. }) && error.to_string().contains("foreign key"), "{error}");
}

#[test]
fn a_key_that_others_can_read_is_refused_and_none_is_shown() {
    let place = Place::new();
    for mode in [0o640, 0o604, 0o620] {
        set_mode(&place.path("key"), mode);
        assert!(matches!(AuditKey::read(&place.path("key")), Err(AuditError::KeyReadable { .. })), "{mode:o}");
    }
    for text in ["", "07", &"0".repeat(63), &"g".repeat(64), &format!("{}\n{}", "0".repeat(64), "0".repeat(64))] {
        fs::write(place.path("key"), text).expect("writable");
        set_mode(&place.path("key"), 0o600);
        assert!(matches!(AuditKey::read(&place.path("key")), Err(AuditError::KeyMalformed { .. })), "{text}");
    }
    let shown = format!("{:?}", AuditKey::from_bytes(&KEY));
    assert!(!shown.contains("0707") && shown.len() < 40, "{shown}");
}

#[test]
fn one_folder_has_one_writer() {
    let place = Place::new();
    let _log = AuditLog::open(place.config()).expect("a log");
    assert!(matches!(AuditLog::open(place.config()), Err(AuditError::Locked { .. })));
}

#[test]
fn a_torn_tail_of_any_length_is_cut_recorded_and_gone_on_from() {
    let place = Place::new();
    closed_log(place.config(), 0..2);
    let whole = fs::read(place.segment(1)).expect("a segment");
    let last_line = lines_of(&place.segment(1)).last().expect("lines").len();
    let kept = whole.len() - last_line;
    for len in kept + 1..whole.len() {
        let zeros = if len % 2 == 0 { vec![0; len % 7] } else { Vec::new() };
        fs::write(place.segment(1), [&whole[..len], &zeros].concat()).expect("writable");
        closed_log(place.config(), 5..6);
        let records = place.records();
        let recovered: Vec<_> = records.iter().filter(|record| record["event"] == "recovered").collect();
        // A line that lacks only its end is a record, and stays.
        let cut = if len + 1 == whole.len() { zeros.len() } else { len - kept + zeros.len() };
        assert_eq!(recovered.len(), 1, "{len}");
        assert_eq!(recovered[0]["cut_bytes"], cut, "{len}");
        assert_eq!(place.check(None).1, [], "{len}");
    }
}

#[test]
fn a_segment_that_was_only_begun_is_begun_again() {
    let place = Place::new();
    closed_log(AuditConfig { segment_bytes: 2_500, ..place.config() }, 0..8);
    let last = folder::segments_at(&place.path("log")).expect("a log").len() as u64;
    let first_line = lines_of(&place.segment(last)).remove(0);
    for len in [0, 1, 100, first_line.len() - 1] {
        fs::write(place.segment(last), &first_line[..len]).expect("writable");
        assert_eq!(place.check(None).1, [FindingKind::TornTail]);
        closed_log(place.config(), 0..1);
        assert_eq!((place.check(None).1, place.check(None).0.segments), (vec![], last), "{len}");
    }
    let head_of_first = lines_of(&place.segment(1)).remove(0);
    for number in 2..=last {
        fs::remove_file(place.segment(number)).expect("it is ours");
    }
    fs::write(place.segment(1), &head_of_first[..50]).expect("writable");
    closed_log(place.config(), 0..1);
    assert_eq!(events(&place.records())[..3], ["segment", "recovered", "open"]);
    assert_eq!(place.check(None).1, []);
}

#[test]
fn a_log_whose_end_does_not_verify_is_not_continued() {
    let place = Place::new();
    closed_log(place.config(), 0..3);
    let lines = lines_of(&place.segment(1));
    for i in 0..lines.len() {
        let mut changed = lines.clone();
        changed[i][10] ^= 1;
        fs::write(place.segment(1), changed.concat()).expect("writable");
        let error = AuditLog::open(place.config()).expect_err("it was changed");
        assert!(error.to_string().contains(&format!("jsonl:{}: changed", i + 1)), "{error}");
        assert_eq!(fs::read(place.segment(1)).expect("a segment"), changed.concat(), "and nothing was written");
    }
}

#[test]
fn a_log_is_opened_again_and_says_how_it_ended() {
    let place = Place::new();
    closed_log(place.config(), 0..1);
    closed_log(place.config(), 1..2);
    let records = place.records();
    let after: Vec<_> = records.iter().filter(|record| record["event"] == "open").map(|open| &open["after"]).collect();
    assert_eq!(after, ["new", "closed"]);
    // The checkpoint is gone, as after a kill.
    let mut lines = lines_of(&place.segment(1));
    lines.pop();
    fs::write(place.segment(1), lines.concat()).expect("writable");
    closed_log(place.config(), 2..3);
    let records = place.records();
    let last_open = records.iter().rfind(|record| record["event"] == "open").expect("it was opened");
    assert_eq!(last_open["after"], "killed");
}

#[test]
fn every_open_request_has_its_place_and_no_more_are_admitted_than_there_are() {
    let place = Place::new();
    let log = AuditLog::open(AuditConfig { queue_records_max: 4, ..place.config() }).expect("a log");
    let open: Vec<_> = (0..3).map(|id| block_on(log.admit(request(id))).expect("there is room")).collect();
    assert!(matches!(block_on(log.admit(request(3))), Err(Unavailable::Full { records: 4 })));
    drop(open);
    // The ends are on their way; once they are written there is room again.
    let entry = until_admitted(&log, 4);
    drop(entry);
    log.close().expect("the disk takes it");
    let records = place.records();
    let refused: u64 = records.iter().filter_map(|record| record["refused"].as_u64()).sum();
    assert!(refused >= 1, "{records:?}");
    assert_eq!(events(&records).iter().filter(|&&event| event == "reply").count(), 4);
}

/// Admits a request, asking again while the log is not to be had. Ten seconds at most.
fn until_admitted(log: &AuditLog, id: usize) -> Entry {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match block_on(log.admit(request(id))) {
            Ok(entry) => return entry,
            Err(why) => assert!(Instant::now() < deadline, "{why}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the disk does not do just now.
#[derive(Default)]
struct Faults {
    /// Bytes that still fit.
    free_bytes: Option<usize>,
    sync_fails: bool,
    create_fails: bool,
}

/// A folder on a disk that fails as told, and on a failed fsync forgets what was not synced.
struct Faulty {
    folder: Folder,
    faults: Arc<Mutex<Faults>>,
}

struct FaultySink {
    sink: Box<dyn Sink>,
    faults: Arc<Mutex<Faults>>,
    len: u64,
    synced_len: u64,
}

fn no_space() -> io::Error {
    ErrorKind::StorageFull.into()
}

impl Storage for Faulty {
    fn create(&mut self, segment: u64) -> io::Result<Box<dyn Sink>> {
        if self.faults.lock().expect("no panic").create_fails {
            return Err(no_space());
        }
        let sink = self.folder.create(segment)?;
        Ok(Box::new(FaultySink { sink, faults: self.faults.clone(), len: 0, synced_len: 0 }))
    }
}

impl Sink for FaultySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut faults = self.faults.lock().expect("no panic");
        let room = faults.free_bytes.unwrap_or(usize::MAX).min(bytes.len());
        if room == 0 {
            return Err(no_space());
        }
        let written = self.sink.write(&bytes[..room])?;
        if let Some(free_bytes) = &mut faults.free_bytes {
            *free_bytes -= written;
        }
        self.len += written as u64;
        Ok(written)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.faults.lock().expect("no panic").sync_fails {
            self.sink.rewind(self.synced_len)?;
            self.len = self.synced_len;
            return Err(io::Error::other("planted"));
        }
        self.synced_len = self.len;
        self.sink.sync()
    }

    fn rewind(&mut self, len: u64) -> io::Result<()> {
        self.len = len;
        self.synced_len = self.synced_len.min(len);
        self.sink.rewind(len)
    }
}

fn faulty(config: AuditConfig) -> (AuditLog, Arc<Mutex<Faults>>) {
    let faults = Arc::new(Mutex::new(Faults::default()));
    let planted = faults.clone();
    let log = AuditLog::open_in(config, |folder| Box::new(Faulty { folder, faults: planted })).expect("a log");
    (log, faults)
}

/// A folder that is let go late.
struct Slow(Folder);

impl Storage for Slow {
    fn create(&mut self, segment: u64) -> io::Result<Box<dyn Sink>> {
        self.0.create(segment)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_log_that_was_closed_can_be_opened_at_once() {
    let place = Place::new();
    for _ in 0..3 {
        let log = AuditLog::open_in(place.config(), |folder| Box::new(Slow(folder))).expect("nobody holds it");
        log.close().expect("the disk takes it");
    }
}

/// Each request of the log and its end, once.
fn assert_each_has_its_end(place: &Place, wanted: std::ops::Range<usize>) {
    let records = place.records();
    for id in wanted {
        let name = format!("req-{id}");
        let of: Vec<_> = records.iter().filter(|record| record["id"] == name.as_str()).cloned().collect();
        assert_eq!(events(&of), ["request", "reply"], "{name}");
    }
    assert_eq!(place.check(None).1, []);
}

#[test]
fn a_full_disk_stops_admission_and_loses_no_record() {
    for free_bytes in [0, 1, 100, 1_000, 3_333] {
        for fsync in [FsyncPolicy::Never, FsyncPolicy::Always, FsyncPolicy::Interval(Duration::from_millis(3))] {
            let place = Place::new();
            let (log, faults) = faulty(AuditConfig { fsync, ..place.config() });
            let open: Vec<_> = (0..3).map(|id| block_on(log.admit(request(id))).expect("there is room")).collect();
            faults.lock().expect("no panic").free_bytes = Some(free_bytes);
            let mut num_refused = 0;
            for id in 3..40 {
                match block_on(log.admit(request(id))) {
                    Ok(entry) => drop(entry),
                    Err(why) => {
                        assert_eq!(why, Unavailable::Failed);
                        num_refused += 1;
                    }
                }
            }
            assert!(num_refused > 10, "{num_refused} with {free_bytes} bytes free");
            // What was admitted goes on, and ends while nothing can be written.
            drop(open);
            faults.lock().expect("no panic").free_bytes = None;
            drop(until_admitted(&log, 100));
            log.close().expect("there is room again");
            assert_each_has_its_end(&place, 0..3);
            assert_each_has_its_end(&place, 100..101);
            let records = place.records();
            let of = |event: &str| events(&records).iter().filter(|&&name| name == event).count();
            assert_eq!(of("request"), of("reply"));
            let refused: u64 = records.iter().filter_map(|record| record["refused"].as_u64()).sum();
            assert!(refused >= num_refused, "{refused} of {num_refused}");
        }
    }
}

#[test]
fn after_a_failed_fsync_everything_since_the_last_good_one_is_written_again() {
    for fsync in [FsyncPolicy::Always, FsyncPolicy::Interval(Duration::from_millis(20))] {
        let place = Place::new();
        let (log, faults) = faulty(AuditConfig { fsync, ..place.config() });
        serve(&log, 0..5);
        let entry = block_on(log.admit(request(5))).expect("admitted");
        faults.lock().expect("no panic").sync_fails = true;
        let ended = block_on(entry.complete());
        assert_eq!(ended.is_err(), fsync == FsyncPolicy::Always, "an end that is not synced is not sent");
        let deadline = Instant::now() + Duration::from_secs(10);
        while block_on(log.admit(request(6))).map(drop).is_ok() {
            assert!(Instant::now() < deadline, "a failed fsync does not stop admission");
        }
        faults.lock().expect("no panic").sync_fails = false;
        drop(until_admitted(&log, 7));
        log.close().expect("the disk takes it");
        assert_each_has_its_end(&place, 0..6);
        assert_each_has_its_end(&place, 7..8);
    }
}

#[test]
fn a_segment_that_cannot_be_begun_stops_admission_until_it_can() {
    let place = Place::new();
    let (log, faults) = faulty(AuditConfig { segment_bytes: 2_500, ..place.config() });
    faults.lock().expect("no panic").create_fails = true;
    let num_served = (0..100).take_while(|&id| block_on(log.admit(request(id))).map(drop).is_ok()).count();
    assert!((1..50).contains(&num_served), "{num_served}");
    faults.lock().expect("no panic").create_fails = false;
    drop(until_admitted(&log, 100));
    log.close().expect("the disk takes it");
    assert!(place.check(None).0.segments > 1);
    assert_each_has_its_end(&place, 0..num_served);
}

#[test]
fn a_disk_that_stays_full_makes_closing_say_how_much_is_lost() {
    let place = Place::new();
    let (log, faults) = faulty(place.config());
    let entry = block_on(log.admit(request(0))).expect("admitted");
    faults.lock().expect("no panic").free_bytes = Some(10);
    drop(entry);
    let error = log.close().expect_err("the disk is full");
    assert!(matches!(error, AuditError::NotWritten { records: 1, .. }), "{error}");
    assert_eq!(place.check(None).1, [FindingKind::TornTail]);
}

#[test]
fn many_at_once_are_chained_in_one_order() {
    let place = Place::new();
    let small = AuditConfig { segment_bytes: 20_000, fsync: FsyncPolicy::Always, ..place.config() };
    let log = AuditLog::open(small).expect("a log");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let log = &log;
            scope.spawn(move || serve(log, thread * 50..thread * 50 + 50));
        }
    });
    log.close().expect("the disk takes it");
    assert_each_has_its_end(&place, 0..400);
}

#[test]
fn refusals_are_written_down_to_a_bound_and_counted_beyond_it() {
    let place = Place::new();
    let log = AuditLog::open(AuditConfig { refusals_per_second_max: 1, ..place.config() }).expect("a log");
    let refusal = |id: usize| Refusal {
        id: format!("req-{id}"),
        endpoint: "/v1/completions".into(),
        status: 401,
        code: "invalid_api_key",
        ..Refusal::default()
    };
    (0..1000).for_each(|id| log.note_refusal(refusal(id)));
    log.close().expect("the disk takes it");
    let records = place.records();
    let refused: Vec<_> = records.iter().filter(|record| record["event"] == "refused").collect();
    assert!((5..20).contains(&refused.len()), "{}", refused.len());
    assert_eq!((&refused[0]["status"], &refused[0]["code"]), (&401.into(), &"invalid_api_key".into()));
    let omitted = |record: &Value, member: &str| record[member].as_u64().unwrap_or(0);
    let in_lines: u64 = refused.iter().map(|record| omitted(record, "omitted")).sum();
    let at_the_end: u64 = records.iter().map(|record| omitted(record, "refusals")).sum();
    assert_eq!(refused.len() as u64 + in_lines + at_the_end, 1000, "none is dropped silently");
    assert_eq!(place.check(None).1, [], "the chain is whole");
}
