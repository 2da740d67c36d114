//! The tiers of the cache: what is believed, what is bounded, what happens when one fails, and servers that share one.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use ananke::cache::{CacheConfig, CacheError, EntryName, Kind, Tiers};
use ananke::engine::EngineConfig;
use ananke::maze::{Client, GenerateRequest, Language, Maze, Prompt, SamplingParams, SourceContext};
use serde_json::json;
use tempfile::TempDir;

#[path = "common/scripted.rs"]
mod scripted;

/// How long anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const PASSWORD: &str = "hunter2";

/// What a server that speaks RESP does with questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    /// What Redis does.
    Honest,
    /// Says nothing.
    Silent,
    /// Sends a byte of its reply every 20 ms.
    Dripping,
    /// Answers what is no RESP.
    Garbage,
    /// Announces a value of a gigabyte.
    Huge,
    /// Sends a line without an end.
    Endless,
    /// Closes in the middle of a value.
    Cut,
    /// Repeats what it was sent, in an error.
    Indiscreet,
    /// Answers with a number.
    Numbers,
}

/// What a connection is spoken over.
trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// As much of a Redis as is asked for, on loopback.
struct FakeRedis {
    address: SocketAddr,
    entries: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    manners: Arc<Mutex<Manners>>,
    num_connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl FakeRedis {
    fn start() -> Self {
        Self::start_with(None)
    }

    fn start_with(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let redis = Self {
            address: listener.local_addr().expect("an address"),
            entries: Arc::default(),
            manners: Arc::new(Mutex::new(Manners::Honest)),
            num_connections: Arc::default(),
            stop: Arc::default(),
        };
        let (entries, manners) = (redis.entries.clone(), redis.manners.clone());
        let (num_connections, stop) = (redis.num_connections.clone(), redis.stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(SeqCst) {
                    return;
                }
                num_connections.fetch_add(1, SeqCst);
                let (entries, manners, stop) = (entries.clone(), manners.clone(), stop.clone());
                let tls = tls.clone().map(|config| rustls::ServerConnection::new(config).expect("a connection"));
                let stream: Box<dyn Stream> = match tls {
                    Some(tls) => Box::new(rustls::StreamOwned::new(tls, stream)),
                    None => Box::new(stream),
                };
                std::thread::spawn(move || serve(stream, &entries, &manners, &stop));
            }
        });
        redis
    }

    fn url(&self) -> String {
        format!("redis://:{PASSWORD}@{}/2", self.address)
    }

    fn behave(&self, manners: Manners) {
        *self.manners.lock().expect("no panic") = manners;
    }
}

impl Drop for FakeRedis {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// One connection: to its end, or to the first reply that is none.
fn serve(
    stream: Box<dyn Stream>,
    entries: &Mutex<HashMap<String, Vec<u8>>>,
    manners: &Mutex<Manners>,
    stop: &AtomicBool,
) -> Option<()> {
    // Questions come one at a time, so nothing is lost by reading ahead.
    let mut stream = BufReader::new(stream);
    let mut is_known = false;
    loop {
        let words = command(&mut stream)?;
        if stop.load(SeqCst) {
            return None;
        }
        let manners = *manners.lock().expect("no panic");
        let word = |index: usize| String::from_utf8_lossy(&words[index]).into_owned();
        let reply = match (manners, word(0).as_str()) {
            (Manners::Silent, _) => continue,
            (Manners::Garbage, _) => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            (Manners::Huge, _) => b"$1000000000\r\n".to_vec(),
            (Manners::Endless, _) => vec![b'+'; 1 << 20],
            (Manners::Numbers, _) => b":1\r\n".to_vec(),
            (Manners::Indiscreet, _) => {
                let said: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
                format!("-ERR unknown command, with args beginning with: {}\r\n", said.join(" ")).into_bytes()
            }
            (Manners::Cut, _) => {
                let _ = stream.get_mut().write_all(b"$100\r\nabc");
                return None;
            }
            (_, "AUTH") if word(words.len() - 1) == PASSWORD => {
                is_known = true;
                b"+OK\r\n".to_vec()
            }
            (_, "AUTH") => b"-WRONGPASS invalid username-password pair or user is disabled.\r\n".to_vec(),
            _ if !is_known => b"-NOAUTH Authentication required.\r\n".to_vec(),
            (_, "SELECT") => b"+OK\r\n".to_vec(),
            (_, "GET") => match entries.lock().expect("no panic").get(&word(1)) {
                Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
                None => b"$-1\r\n".to_vec(),
            },
            (_, "SET") => {
                assert_eq!((words.len(), word(3).as_str()), (5, "PX"));
                entries.lock().expect("no panic").insert(word(1), words[2].clone());
                b"+OK\r\n".to_vec()
            }
            (_, other) => panic!("{other} was sent"),
        };
        if manners == Manners::Dripping {
            for byte in reply {
                stream.get_mut().write_all(&[byte]).ok()?;
                std::thread::sleep(Duration::from_millis(20));
            }
        } else {
            stream.get_mut().write_all(&reply).ok()?;
        }
    }
}

fn command(reader: &mut impl BufRead) -> Option<Vec<Vec<u8>>> {
    let mut number = |kind: char| {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let number = line.strip_prefix(kind)?.trim_end().parse::<usize>().ok()?;
        Some(number)
    };
    let num_words = number('*')?;
    let mut words = Vec::new();
    for _ in 0..num_words {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let len: usize = line.strip_prefix('$')?.trim_end().parse().ok()?;
        let mut word = vec![0; len + 2];
        reader.read_exact(&mut word).ok()?;
        word.truncate(len);
        words.push(word);
    }
    Some(words)
}

/// A folder with a key in it.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a temporary folder"));
        files.key("key", &"5e".repeat(32));
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn key(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("the folder is writable");
        set_mode(&path, 0o600);
        path
    }

    fn on_disk(&self) -> CacheConfig {
        CacheConfig { dir: Some(self.path("cache")), key: Some(self.path("key")), ..CacheConfig::default() }
    }

    fn on_redis(&self, url: &str) -> CacheConfig {
        let redis = Some(url.parse().expect("an address"));
        // Time enough for a machine that does other things as well; what is bounded is tested with less.
        let redis_time_max = Duration::from_secs(5);
        CacheConfig { redis, key: Some(self.path("key")), redis_time_max, ..CacheConfig::default() }
    }

    fn entries(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.path("cache")).expect("the folder of the cache");
        let paths = folder.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "entry")).collect()
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn open(config: &CacheConfig) -> Tiers {
    Tiers::open(config).expect("they can be opened")
}

fn name(tiers: &Tiers, text: &str) -> EntryName {
    tiers.name(Kind::Ir, &[text.as_bytes()])
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what} did not become so");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Stores a value in every tier, and waits until it is there.
fn store(tiers: &Tiers, tier: &str, text: &str, value: &str) {
    let before = tiers.num_operations(tier, "stored");
    tiers.put(name(tiers, text), &value.to_owned());
    wait_until("it is stored", || tiers.num_operations(tier, "stored") > before);
}

fn get(tiers: &Tiers, text: &str) -> Option<String> {
    tiers.get(name(tiers, text))
}

#[test]
fn names_say_all_that_a_value_depends_on() {
    let files = Files::new();
    let tiers = open(&files.on_disk());
    let named = |kind, parts: &[&[u8]]| tiers.name(kind, parts);
    assert_eq!(named(Kind::Ir, &[b"a", b"b"]), named(Kind::Ir, &[b"a", b"b"]));
    let different = [
        named(Kind::Ir, &[b"a", b"b"]),
        named(Kind::Admission, &[b"a", b"b"]),
        named(Kind::Ir, &[b"b", b"a"]),
        named(Kind::Ir, &[b"ab"]),
        named(Kind::Ir, &[b"ab", b""]),
        named(Kind::Ir, &[b"", b"ab"]),
    ];
    for (index, one) in different.iter().enumerate() {
        assert!(different[index + 1..].iter().all(|other| other != one));
    }
    let other = CacheConfig { key: Some(files.key("other", &"00".repeat(32))), ..files.on_disk() };
    assert_ne!(open(&other).name(Kind::Ir, &[b"a", b"b"]), different[0], "servers with other keys do not meet");
}

#[test]
fn a_restart_finds_what_the_folder_keeps_and_nobody_else_can_read_it() {
    let files = Files::new();
    let tiers = open(&files.on_disk());
    assert_eq!(get(&tiers, "a"), None);
    store(&tiers, "disk", "a", "one");
    drop(tiers);
    let tiers = open(&files.on_disk());
    assert_eq!(get(&tiers, "a").as_deref(), Some("one"));
    assert_eq!((tiers.num_operations("disk", "hit"), tiers.num_operations("disk", "miss")), (1, 0));
    assert_eq!((mode(&files.path("cache")), mode(&files.entries()[0])), (0o700, 0o600));
}

#[test]
fn an_entry_that_was_altered_cut_or_moved_is_refused_and_removed() {
    let files = Files::new();
    let tiers = open(&files.on_disk());
    store(&tiers, "disk", "b", "two");
    let other = files.entries().remove(0);
    store(&tiers, "disk", "a", "one");
    let path = files.entries().into_iter().find(|path| *path != other).expect("two entries");
    let whole = fs::read(&path).expect("it is there");
    let mut cases: Vec<Vec<u8>> = (0..whole.len())
        .map(|index| {
            let mut altered = whole.clone();
            altered[index] ^= 1;
            altered
        })
        .collect();
    cases.extend([Vec::new(), whole[..31].to_vec(), whole[..32].to_vec(), whole[..whole.len() - 1].to_vec()]);
    cases.push([&whole[..], b" "].concat());
    cases.push(fs::read(&other).expect("it is there"));
    for (num_refused, bytes) in cases.iter().enumerate() {
        fs::write(&path, bytes).expect("it can be written");
        assert_eq!(get(&tiers, "a"), None, "{bytes:?}");
        assert_eq!(tiers.num_operations("disk", "refused"), num_refused as u64 + 1);
        assert!(!path.exists(), "it is removed");
    }
    fs::write(&path, &whole).expect("it can be written");
    assert_eq!(get(&tiers, "a").as_deref(), Some("one"));
    // The right MAC over what is no such value, as another kind of entry under this name would be.
    assert_eq!(tiers.get::<u64>(name(&tiers, "a")), None);
}

#[test]
fn another_key_refuses_what_is_there() {
    let files = Files::new();
    let redis = FakeRedis::start();
    let tiers = open(&files.on_redis(&redis.url()));
    store(&tiers, "redis", "a", "one");
    let other = open(&CacheConfig { key: Some(files.key("other", &"00".repeat(32))), ..files.on_redis(&redis.url()) });
    assert_eq!(get(&other, "a"), None, "under its own name there is nothing");
    // Someone files it under the name that the other server looks for.
    let mut entries = redis.entries.lock().expect("no panic");
    let sealed = entries.drain().next().expect("one entry").1;
    entries.insert(format!("ananke:1:{}", name(&other, "a")), sealed);
    drop(entries);
    assert_eq!(get(&other, "a"), None);
    assert_eq!(other.num_operations("redis", "refused"), 1);
}

#[test]
fn the_folder_is_bounded_and_the_oldest_entries_go_first() {
    let files = Files::new();
    let config = CacheConfig { disk_bytes_max: 10 * 4096, ..files.on_disk() };
    let tiers = open(&config);
    fs::write(files.path("cache").join("notes.txt"), vec![0; 1 << 20]).expect("the folder is writable");
    for (age, text) in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].iter().enumerate() {
        store(&tiers, "disk", text, "value");
        let path = files.path("cache").join(format!("{}.entry", name(&tiers, text)));
        let modified = SystemTime::now() - Duration::from_secs(1000 - 10 * age as u64);
        let file = fs::File::options().write(true).open(path).expect("it is there");
        file.set_modified(modified).expect("it is ours");
    }
    assert_eq!(files.entries().len(), 10);
    store(&tiers, "disk", "k", "value");
    assert_eq!(files.entries().len(), 9, "a tenth is made free at once");
    assert!(get(&tiers, "a").is_none() && get(&tiers, "b").is_none());
    assert!(get(&tiers, "c").is_some() && get(&tiers, "k").is_some());
    let large = "x".repeat(6 * 4096);
    store(&tiers, "disk", "l", &large);
    assert_eq!(get(&tiers, "l"), Some(large));
    let num_bytes: u64 = files.entries().iter().map(|path| fs::metadata(path).expect("it is there").len()).sum();
    assert!(num_bytes <= 10 * 4096, "{num_bytes}");
    assert!(files.path("cache").join("notes.txt").exists(), "what is not ours stays");
    drop(tiers);
    let left = files.path("cache").join("1-1.tmp");
    fs::write(&left, "half").expect("the folder is writable");
    let old = SystemTime::now() - Duration::from_secs(7200);
    fs::File::options().write(true).open(&left).expect("it is there").set_modified(old).expect("it is ours");
    let smaller = CacheConfig { disk_bytes_max: 3 * 4096, ..config };
    drop(open(&smaller));
    assert!(files.entries().len() <= 3 && !left.exists());
}

#[test]
fn an_entry_has_a_largest_size() {
    let files = Files::new();
    let redis = FakeRedis::start();
    let large = "x".repeat(2000);
    let config = CacheConfig { dir: files.on_disk().dir, ..files.on_redis(&redis.url()) };
    let roomy = open(&config);
    store(&roomy, "redis", "a", &large);
    assert_eq!(get(&roomy, "a").as_ref(), Some(&large));
    let narrow = open(&CacheConfig { entry_bytes_max: 1024, ..config });
    assert_eq!(get(&narrow, "a"), None);
    assert_eq!((narrow.num_operations("disk", "refused"), narrow.num_operations("redis", "error")), (1, 1));
    narrow.put(name(&narrow, "b"), &large);
    assert_eq!((narrow.num_operations("disk", "dropped"), narrow.num_operations("redis", "dropped")), (1, 1));
}

#[test]
fn what_does_not_read_back_the_same_is_not_stored() {
    let files = Files::new();
    let tiers = open(&files.on_disk());
    tiers.put(name(&tiers, "a"), &f64::NAN);
    assert_eq!((tiers.num_operations("disk", "dropped"), files.entries().len()), (1, 0));
}

#[test]
fn two_servers_share_a_redis_and_the_nearest_tier_answers_next_time() {
    let files = Files::new();
    let redis = FakeRedis::start();
    let first = open(&files.on_redis(&redis.url()));
    let second = open(&CacheConfig { dir: files.on_disk().dir, ..files.on_redis(&redis.url()) });
    store(&first, "redis", "a", "one");
    assert_eq!(get(&second, "a").as_deref(), Some("one"));
    wait_until("it is on the disk too", || second.num_operations("disk", "stored") == 1);
    redis.behave(Manners::Silent);
    assert_eq!(get(&second, "a").as_deref(), Some("one"));
    assert_eq!((second.num_operations("disk", "hit"), second.num_operations("redis", "hit")), (1, 1));
    assert_eq!(second.num_operations("redis", "stored"), 0, "it came from there");
}

#[test]
fn a_redis_without_manners_costs_a_bounded_time_and_is_then_left_alone() {
    let files = Files::new();
    for manners in [
        Manners::Silent,
        Manners::Dripping,
        Manners::Garbage,
        Manners::Huge,
        Manners::Endless,
        Manners::Cut,
        Manners::Indiscreet,
        Manners::Numbers,
    ] {
        let redis = FakeRedis::start();
        let config = CacheConfig {
            redis_time_max: Duration::from_millis(100),
            retry_after: Duration::from_secs(3600),
            ..files.on_redis(&redis.url())
        };
        let tiers = open(&config);
        redis.behave(manners);
        for num_errors in 1..=3 {
            let start = Instant::now();
            assert_eq!(get(&tiers, "a"), None, "{manners:?}");
            assert!(start.elapsed() < Duration::from_secs(5), "{manners:?}: {:?}", start.elapsed());
            assert_eq!(tiers.num_operations("redis", "error"), num_errors, "{manners:?}");
        }
        let num_connections = redis.num_connections.load(SeqCst);
        assert_eq!(get(&tiers, "a"), None);
        assert_eq!(tiers.num_operations("redis", "skipped"), 1, "{manners:?}");
        assert_eq!(redis.num_connections.load(SeqCst), num_connections, "{manners:?}");
    }
}

#[test]
fn a_tier_that_answers_again_is_used_again() {
    let files = Files::new();
    let redis = FakeRedis::start();
    let config = CacheConfig { retry_after: Duration::from_millis(300), ..files.on_redis(&redis.url()) };
    let tiers = open(&config);
    store(&tiers, "redis", "a", "one");
    redis.behave(Manners::Cut);
    wait_until("it is left alone", || get(&tiers, "a").is_none() && tiers.num_operations("redis", "skipped") > 0);
    redis.behave(Manners::Honest);
    wait_until("it is asked again", || get(&tiers, "a").is_some());
    assert_eq!(get(&tiers, "a").as_deref(), Some("one"));
}

#[test]
fn connections_are_kept_bounded_and_nobody_waits_for_one() {
    let files = Files::new();
    let redis = FakeRedis::start();
    let tiers = open(&CacheConfig { num_connections_max: 2, ..files.on_redis(&redis.url()) });
    store(&tiers, "redis", "a", "one");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert!(get(&tiers, "a").is_none_or(|value| value == "one"));
                }
            });
        }
    });
    assert!(redis.num_connections.load(SeqCst) <= 2, "{}", redis.num_connections.load(SeqCst));
    let (hits, skipped) = (tiers.num_operations("redis", "hit"), tiers.num_operations("redis", "skipped"));
    assert!(hits + skipped == 400 && hits > 0, "{hits} hits, {skipped} skipped");
}

#[test]
fn a_wrong_password_is_a_failure_like_any_other() {
    let files = Files::new();
    let redis = FakeRedis::start();
    let tiers = open(&files.on_redis(&redis.url().replace(PASSWORD, "wrong")));
    assert_eq!(get(&tiers, "a"), None);
    assert_eq!(tiers.num_operations("redis", "error"), 1);
}

#[test]
fn a_redis_is_reached_with_tls_and_known_by_its_certificate() {
    let files = Files::new();
    let certificate = |name: &str| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(files.path(name), certificate.pem()).expect("the folder is writable");
        (certificate, key)
    };
    let (own, key) = certificate("own.pem");
    let _ = certificate("other.pem");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], key.serialize_der().try_into().expect("a key"))
        .expect("they belong together");
    let redis = FakeRedis::start_with(Some(Arc::new(config)));
    let url = redis.url().replace("redis://", "rediss://");
    let trusting = |name: &str| CacheConfig { redis_ca: Some(files.path(name)), ..files.on_redis(&url) };
    let tiers = open(&trusting("own.pem"));
    // Larger than a record of TLS.
    let value = "x".repeat(100_000);
    store(&tiers, "redis", "a", &value);
    assert_eq!(get(&tiers, "a"), Some(value));
    assert_eq!(redis.num_connections.load(SeqCst), 1);
    let strange = open(&trusting("other.pem"));
    assert_eq!((get(&strange, "a"), strange.num_operations("redis", "error")), (None, 1));
    let clear = open(&files.on_redis(&redis.url()));
    assert_eq!((get(&clear, "a"), clear.num_operations("redis", "error")), (None, 1));
    assert!(matches!(Tiers::open(&files.on_redis(&url)), Err(CacheError::NoAuthorities)));
    for (name, text) in [("missing.pem", None), ("empty.pem", Some("")), ("key.pem", Some(PASSWORD))] {
        text.map_or(Ok(()), |text| fs::write(files.path(name), text)).expect("the folder is writable");
        let error = Tiers::open(&trusting(name)).err().expect("it cannot be opened");
        assert!(matches!(error, CacheError::Authorities { .. }) && error.to_string().contains(name), "{error}");
    }
}

#[test]
fn what_cannot_be_opened_is_an_error_that_says_why() {
    let files = Files::new();
    type Check = fn(&CacheError) -> bool;
    let dir = files.on_disk().dir;
    let keyed = |key: PathBuf| CacheConfig { key: Some(key), ..files.on_disk() };
    let open_key = files.key("open", &"5e".repeat(32));
    set_mode(&open_key, 0o640);
    let redis = Some("redis://127.0.0.1:1".parse().expect("an address"));
    let a_file = files.path("key");
    let cases: [(CacheConfig, Check); 7] = [
        (CacheConfig::default(), |error| matches!(error, CacheError::NoTier)),
        (CacheConfig { redis, dir: dir.clone(), ..CacheConfig::default() }, |error| matches!(error, CacheError::NoKey)),
        (keyed(files.path("missing")), |error| matches!(error, CacheError::Read { .. })),
        (keyed(files.key("short", "5e5e")), |error| matches!(error, CacheError::KeyMalformed { .. })),
        (keyed(files.key("long", &"5e".repeat(60))), |error| matches!(error, CacheError::KeyMalformed { .. })),
        (keyed(open_key), |error| matches!(error, CacheError::KeyReadable { mode: 0o640, .. })),
        (CacheConfig { dir: Some(a_file), ..CacheConfig::default() }, |error| {
            matches!(error, CacheError::Folder { .. })
        }),
    ];
    for (config, is_right) in cases {
        let error = Tiers::open(&config).err().expect("it cannot be opened");
        assert!(is_right(&error), "{error:?}");
    }
    let shared = files.path("shared");
    fs::create_dir(&shared).expect("the folder is writable");
    set_mode(&shared, 0o777);
    let without_key = CacheConfig { dir: Some(shared.clone()), ..CacheConfig::default() };
    assert!(matches!(Tiers::open(&without_key), Err(CacheError::FolderWritable { mode: 0o777, .. })));
    assert!(Tiers::open(&CacheConfig { key: files.on_disk().key, ..without_key }).is_ok(), "a key tells");
}

/// A source of which a type is mined, differently for each `salt`.
fn request(salt: usize) -> GenerateRequest {
    let source = format!(
        "interface Order {{\n  /** @maxLength 8 */ name: string;\n  kind: \"a{salt}\" | \"b\";\n  count: {salt};\n}}\n"
    );
    let file = format!("order{salt}.ts");
    GenerateRequest {
        prompt: Prompt::Text("x".into()),
        context: Some(SourceContext { source, language: Language::Typescript, file, type_name: Some("Order".into()) }),
        constraints: vec![
            serde_json::from_value(json!({"forbidden_text": [{"text": format!("zz{salt}")}]})).expect("an IR"),
        ],
        sampling: SamplingParams::default(),
        max_tokens: Some(200),
        num_choices: 1,
        seed: Some(7),
        ..GenerateRequest::default()
    }
}

fn maze(config: &CacheConfig) -> Maze {
    scripted::maze(Duration::ZERO, EngineConfig::default()).with_tiers(open(config))
}

async fn text(maze: &Maze, salt: usize) -> String {
    let generation = maze.generate(request(salt)).await.expect("it is admitted");
    let completed = generation.collect().await.expect("it ends");
    completed[0].text.clone()
}

/// Outcomes of a tier so far, as the metrics say them.
fn outcomes(maze: &Maze, tier: &str, outcome: &str) -> u64 {
    let families = maze.metrics();
    let family = families.iter().find(|family| family.name() == "ananke_cache_tier_operations_total");
    let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
    let is_it = |metric: &&prometheus::proto::Metric| {
        let labels: Vec<_> = metric.get_label().iter().map(|label| label.value()).collect();
        labels.contains(&tier) && labels.contains(&outcome)
    };
    metrics.iter().find(is_it).map_or(0, |metric| metric.get_counter().get_value() as u64)
}

async fn share(config: &CacheConfig, poison: impl Fn()) {
    let alone = scripted::maze(Duration::ZERO, EngineConfig::default());
    let expected = text(&alone, 1).await;
    assert!(outcomes(&alone, "redis", "miss") == 0 && expected.contains("\"kind\""), "{expected}");
    let first = maze(config);
    assert_eq!(text(&first, 1).await, expected);
    wait_until("three entries and more are stored", || outcomes(&first, "redis", "stored") >= 3);
    assert_eq!(outcomes(&first, "redis", "hit"), 0);
    let second = maze(config);
    assert_eq!(text(&second, 1).await, expected);
    assert_eq!((outcomes(&second, "redis", "hit"), outcomes(&second, "redis", "miss")), (3, 0));
    poison();
    let third = maze(config);
    assert_eq!(text(&third, 1).await, expected);
    assert_eq!(outcomes(&third, "redis", "hit"), 0);
    assert!(outcomes(&third, "redis", "refused") >= 3);
    wait_until("the entries are mended", || outcomes(&third, "redis", "stored") >= 3);
    let fourth = maze(config);
    assert_eq!(text(&fourth, 1).await, expected);
    assert_eq!((outcomes(&fourth, "redis", "hit"), outcomes(&fourth, "redis", "refused")), (3, 0));
}

#[tokio::test]
async fn what_one_server_found_out_another_takes_over_and_a_poisoned_entry_changes_nothing() {
    let files = Files::new();
    let redis = FakeRedis::start();
    let poison = || {
        for value in redis.entries.lock().expect("no panic").values_mut() {
            let last = value.len() - 2;
            value[last] ^= 1;
        }
    };
    share(&files.on_redis(&redis.url()), poison).await;
}

#[tokio::test]
async fn what_nothing_satisfies_is_refused_the_same_by_whoever_finds_it_in_a_tier() {
    let files = Files::new();
    let mut errors = Vec::new();
    for _ in 0..2 {
        let maze = maze(&files.on_disk());
        let contradiction = json!({"regex_patterns": [{"any_of": [{"pattern": "a+"}], "match": "full"}],
            "forbidden_text": [{"text": "a"}]});
        let request = GenerateRequest {
            prompt: Prompt::Text("x".into()),
            constraints: vec![serde_json::from_value(contradiction).expect("an IR")],
            num_choices: 1,
            ..GenerateRequest::default()
        };
        errors.push(maze.generate(request).await.err().expect("nothing satisfies it").to_string());
        wait_until("it is stored", || outcomes(&maze, "disk", "stored") + outcomes(&maze, "disk", "hit") == 1);
    }
    assert_eq!(errors[0], errors[1]);
    assert!(errors[0].contains("regex_patterns") && errors[0].contains("forbidden_text"), "{}", errors[0]);
}

#[tokio::test]
async fn an_isolated_client_has_entries_of_its_own() {
    let files = Files::new();
    let client = |salt| Client { salt, ..Client::from("x") };
    let mut texts = Vec::new();
    for (client, num_hits) in [
        (None, 0),
        (Some(client(None)), 3),
        (Some(client(Some([1; 32]))), 0),
        (Some(client(Some([1; 32]))), 3),
        (Some(client(Some([2; 32]))), 0),
        (None, 3),
    ] {
        // Each is a server that has just started.
        let maze = maze(&files.on_disk());
        let request = GenerateRequest { client, ..request(1) };
        let generation = maze.generate(request).await.expect("it is admitted");
        texts.push(generation.collect().await.expect("it ends").remove(0).text);
        assert_eq!(outcomes(&maze, "disk", "hit"), num_hits);
        wait_until("all is stored", || num_hits == 3 || outcomes(&maze, "disk", "stored") == 3);
    }
    assert!(texts.iter().all(|text| *text == texts[0]));
}

/// A Redis of its own, as it is installed.
struct RealRedis {
    process: Child,
    port: u16,
}

impl RealRedis {
    fn start(port: u16) -> Self {
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--requirepass", PASSWORD])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on the PATH");
        wait_until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { process, port }
    }

    fn url(&self) -> String {
        format!("redis://default:{PASSWORD}@127.0.0.1:{}/1", self.port)
    }

    fn cli(&self, script: &str) {
        let port = self.port.to_string();
        let output = Command::new("redis-cli")
            .args(["-p", &port, "-a", PASSWORD, "--no-auth-warning", "-n", "1", "eval", script, "0"])
            .output()
            .expect("redis-cli is on the PATH");
        assert!(output.status.success() && !output.stdout.starts_with(b"ERR"), "{output:?}");
    }
}

impl Drop for RealRedis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

#[tokio::test]
#[ignore = "needs redis-server and redis-cli on the PATH"]
async fn servers_share_a_real_redis_and_refuse_what_was_altered_in_it() {
    let files = Files::new();
    let redis = RealRedis::start(free_port());
    // The last byte of each value, which is a bracket or a quote.
    let script = "for _, key in ipairs(redis.call('keys', '*')) do redis.call('setrange', key, \
                  redis.call('strlen', key) - 1, '~') end return 1";
    share(&files.on_redis(&redis.url()), || redis.cli(script)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server on the PATH"]
async fn no_request_fails_when_a_real_redis_is_killed_and_started_again() {
    let files = Files::new();
    let port = free_port();
    let redis = RealRedis::start(port);
    let config = CacheConfig {
        redis_time_max: Duration::from_millis(50),
        retry_after: Duration::from_millis(500),
        ..files.on_redis(&redis.url())
    };
    let mazes = [maze(&config), maze(&config)];
    let num_done = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (maze, num_done, stop) = (mazes[client % 2].clone(), num_done.clone(), stop.clone());
            tokio::spawn(async move {
                let mut salt = client;
                while !stop.load(SeqCst) {
                    // Each is asked for by both servers, and seldom by the same again.
                    text(&maze, salt / 2).await;
                    num_done.fetch_add(1, SeqCst);
                    salt += 2;
                }
            })
        })
        .collect();
    let some = async |count: usize| {
        let goal = num_done.load(SeqCst) + count;
        let start = Instant::now();
        while num_done.load(SeqCst) < goal {
            assert!(start.elapsed() < Duration::from_secs(120), "requests come to an end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    some(20).await;
    drop(redis);
    some(40).await;
    let errors: u64 = mazes.iter().map(|maze| outcomes(maze, "redis", "error")).sum();
    assert!(errors >= 3, "{errors} errors");
    assert!(mazes.iter().any(|maze| outcomes(maze, "redis", "skipped") > 0));
    let stored: u64 = mazes.iter().map(|maze| outcomes(maze, "redis", "stored")).sum();
    let redis = RealRedis::start(port);
    tokio::time::sleep(Duration::from_millis(600)).await;
    some(40).await;
    stop.store(true, SeqCst);
    for client in clients {
        client.await.expect("no request failed");
    }
    let stored_again: u64 = mazes.iter().map(|maze| outcomes(maze, "redis", "stored")).sum();
    assert!(stored_again > stored, "it is used again");
    eprintln!("{} requests, {errors} errors of the tier, none of a request", num_done.load(SeqCst));
    drop(redis);
}
