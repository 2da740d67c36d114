//! The server behind TLS: who gets in, what is cut, and certificates that change while it runs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ananke::engine::EngineConfig;
use ananke::maze::Maze;
use ananke::server::{ServerConfig, Tls, TlsError, TlsFiles, router, serve_tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

#[path = "common/scripted.rs"]
mod scripted;

/// How long a client here waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

type Client = StreamOwned<ClientConnection, TcpStream>;

/// Signs for others.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    /// A certificate for `localhost` and its key, in PEM.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".into()]).expect("a name");
        (params.signed_by(&key, &self.0).expect("a certificate").pem(), key.serialize_pem())
    }
}

/// The files of a server.
struct Files {
    folder: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a temporary folder"), authority: Authority::new() };
        files.renew();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("the temporary folder is writable");
    }

    /// Puts a fresh certificate in place, and says which.
    fn renew(&self) -> CertificateDer<'static> {
        let (cert, key) = self.authority.sign();
        self.write("cert.pem", &cert);
        self.write("key.pem", &key);
        CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate")
    }

    fn names(&self) -> TlsFiles {
        TlsFiles { cert: self.path("cert.pem"), key: self.path("key.pem"), client_ca: None }
    }

    fn open(&self) -> Arc<Tls> {
        Arc::new(Tls::open(self.names()).expect("good files"))
    }

    /// The same, for clients with a certificate of `authority` alone.
    fn open_for(&self, authority: &Authority) -> Arc<Tls> {
        self.write("clients.pem", &authority.0.pem());
        let files = TlsFiles { client_ca: Some(self.path("clients.pem")), ..self.names() };
        Arc::new(Tls::open(files).expect("good files"))
    }

    /// How a client is set up that trusts this server's authority and shows `own`.
    fn client(&self, versions: &[&'static SupportedProtocolVersion], own: Option<(String, String)>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.0.der().clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("the provider has these versions")
            .with_root_certificates(roots);
        let Some((cert, key)) = own else { return builder.with_no_client_auth() };
        let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        builder.with_client_auth_cert(vec![cert], key).expect("they belong together")
    }
}

/// A server on loopback with threads of its own, until it is dropped.
struct Server {
    door: Door,
    maze: Maze,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
    runtime: Runtime,
}

impl Server {
    fn start(tls: Arc<Tls>, config: ServerConfig, time_per_step: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let maze = scripted::maze(time_per_step, EngineConfig::default());
        let routes = router(maze.clone(), config);
        runtime.spawn(async move {
            let stopped = async move {
                let _ = stopped.await;
            };
            serve_tls(listener, tls, routes, config, stopped).await;
            let _ = end.send(());
        });
        Self { door: Door { address }, maze, stop: Some(stop), ended: Some(ended), runtime }
    }
}

impl Deref for Server {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

/// Where a server is asked.
struct Door {
    address: SocketAddr,
}

impl Door {
    fn raw(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn connect(&self, config: &Arc<ClientConfig>) -> Client {
        let name = ServerName::try_from("localhost").expect("a name");
        StreamOwned::new(ClientConnection::new(config.clone(), name).expect("a client"), self.raw())
    }

    /// Sends a request; the reply is then read from what comes back.
    fn send(&self, config: &Arc<ClientConfig>, method: &str, path: &str, body: &str) -> io::Result<Client> {
        let mut client = self.connect(config);
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        let len = body.len();
        write!(client, "{head}content-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}")?;
        Ok(client)
    }

    /// A reply to its end, which TLS says too.
    fn ask(&self, config: &Arc<ClientConfig>, method: &str, path: &str, body: &str) -> io::Result<(Client, String)> {
        let mut client = self.send(config, method, path, body)?;
        let mut text = String::new();
        client.read_to_string(&mut text)?;
        Ok((client, text))
    }

    fn is_healthy(&self, config: &Arc<ClientConfig>) -> bool {
        self.ask(config, "GET", "/health", "").is_ok_and(|(_, text)| text.starts_with("HTTP/1.1 200"))
    }

    /// The certificate that the server shows.
    fn shown(&self, config: &Arc<ClientConfig>) -> CertificateDer<'static> {
        let (client, _) = self.ask(config, "GET", "/health", "").expect("a reply");
        client.conn.peer_certificates().expect("the server shows one")[0].clone().into_owned()
    }
}

/// Looks again until it is so.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what} did not become so");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn both_versions_are_spoken_and_streams_come_whole() {
    let files = Files::new();
    let server = Server::start(files.open(), ServerConfig::default(), Duration::ZERO);
    let body = json!({"prompt": "x", "n": 4, "max_tokens": 200, "logprobs": 20, "stream": true, "seed": 1}).to_string();
    for (version, name) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let mut config = files.client(&[version], None);
        config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        let config = Arc::new(config);
        let (client, text) = server.ask(&config, "POST", "/v1/completions", &body).expect("a reply");
        assert_eq!(client.conn.protocol_version(), Some(name));
        assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(
            text.starts_with("HTTP/1.1 200") && text.contains("[DONE]") && text.len() > 100 << 10,
            "{}",
            text.len()
        );
    }
    let mut config = files.client(&[&TLS13], None);
    config.alpn_protocols = vec![b"h2".into()];
    assert!(!server.is_healthy(&Arc::new(config)), "HTTP/2 is not spoken");
    let stranger = Files::new();
    assert!(!server.is_healthy(&Arc::new(stranger.client(&[&TLS13], None))), "this client trusts another authority");
}

#[test]
fn only_clients_with_a_certificate_of_the_authority_get_in() {
    let (files, clients, others) = (Files::new(), Authority::new(), Authority::new());
    let server = Server::start(files.open_for(&clients), ServerConfig::default(), Duration::ZERO);
    for version in [&TLS12, &TLS13] {
        let client = |own| Arc::new(files.client(&[version], own));
        assert!(server.is_healthy(&client(Some(clients.sign()))));
        assert!(!server.is_healthy(&client(None)), "no certificate");
        assert!(!server.is_healthy(&client(Some(others.sign()))), "another authority's");
        assert!(!server.is_healthy(&client(Some(files.authority.sign()))), "the server's own authority's");
    }
}

#[test]
fn a_reload_shows_the_new_certificate_and_a_bad_file_keeps_the_old() {
    let files = Files::new();
    let first = files.renew();
    let tls = files.open();
    let server = Server::start(tls.clone(), ServerConfig::default(), Duration::ZERO);
    let client = Arc::new(files.client(&[&TLS13], None));
    assert_eq!(server.shown(&client), first);
    let second = files.renew();
    assert_eq!(server.shown(&client), first, "nobody said that it changed");
    tls.reload().expect("good files");
    assert_eq!(server.shown(&client), second);
    let (_, key) = files.authority.sign();
    files.write("key.pem", &key);
    assert!(matches!(tls.reload(), Err(TlsError::Mismatch { .. })));
    files.write("cert.pem", "");
    assert!(matches!(tls.reload(), Err(TlsError::NoCertificate { .. })));
    assert_eq!(server.shown(&client), second);
}

#[test]
fn an_authority_that_is_taken_out_lets_nobody_in_even_where_a_session_could_be_resumed() {
    let (files, before, after) = (Files::new(), Authority::new(), Authority::new());
    let tls = files.open_for(&before);
    let server = Server::start(tls.clone(), ServerConfig::default(), Duration::ZERO);
    // One client for all its connections, so that it offers the session it has.
    let clients = [&TLS12, &TLS13].map(|version| Arc::new(files.client(&[version], Some(before.sign()))));
    for client in &clients {
        assert!(server.is_healthy(client) && server.is_healthy(client));
    }
    files.write("clients.pem", &after.0.pem());
    tls.reload().expect("good files");
    for client in &clients {
        assert!(!server.is_healthy(client));
    }
    assert!(server.is_healthy(&Arc::new(files.client(&[&TLS13], Some(after.sign())))));
}

#[test]
fn plain_http_is_cut_without_a_reply() {
    let files = Files::new();
    let server = Server::start(files.open(), ServerConfig::default(), Duration::ZERO);
    for bytes in [&b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"[..], &[0; 64], &[0x16, 3, 1, 0xff, 0xff, 1]] {
        let mut stream = server.raw();
        stream.write_all(bytes).expect("it listens");
        if bytes.len() == 6 {
            stream.shutdown(std::net::Shutdown::Write).expect("it is open");
        }
        let start = Instant::now();
        let mut reply = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut reply);
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
        assert!(reply.len() < 16 && !reply.starts_with(b"HTTP"), "an alert at most: {reply:?}");
    }
    assert!(server.is_healthy(&Arc::new(files.client(&[&TLS13], None))));
}

#[test]
fn a_handshake_that_never_ends_is_cut_holds_nobody_up_and_gives_its_place_back() {
    let files = Files::new();
    let config = ServerConfig { max_connections: 3, read_timeout_s: 3, ..ServerConfig::default() };
    let server = Server::start(files.open(), config, Duration::ZERO);
    let client = Arc::new(files.client(&[&TLS13], None));
    let start = Instant::now();
    let mut silent = server.raw();
    let mut half = server.raw();
    // The head of a record that promises more.
    half.write_all(&[0x16, 3, 1, 1, 0, 1]).expect("it listens");
    assert!(server.is_healthy(&client));
    for stream in [&mut silent, &mut half] {
        stream.set_nonblocking(true).expect("a socket");
        let read = stream.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(read, Err(std::io::ErrorKind::WouldBlock), "it is not cut yet");
        stream.set_nonblocking(false).expect("a socket");
    }
    for mut stream in [silent, half] {
        let num_bytes = stream.read_to_end(&mut Vec::new()).unwrap_or(0);
        assert!(num_bytes < 16 && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    }
    assert!(start.elapsed() > Duration::from_millis(2900), "{:?}", start.elapsed());
    let held: Vec<_> = (0..3).map(|_| server.raw()).collect();
    let start = Instant::now();
    assert!(server.is_healthy(&client), "a place became free");
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    drop(held);
}

#[test]
fn a_stalled_reader_is_cut_and_its_generation_dropped() {
    let files = Files::new();
    let config = ServerConfig {
        stalled_stream_s: 1,
        send_buffer_bytes: 8 << 10,
        max_header_bytes: 8 << 10,
        ..ServerConfig::default()
    };
    let server = Server::start(files.open(), config, Duration::from_millis(5));
    let client = Arc::new(files.client(&[&TLS13], None));
    let body = json!({"prompt": "x", "n": 32, "max_tokens": 480, "logprobs": 20, "stream": true, "seed": 1});
    let mut stalled = server.send(&client, "POST", "/v1/completions", &body.to_string()).expect("it is sent");
    wait_until("it runs", || server.maze.health().engine.running > 0);
    wait_until("nothing runs", || server.maze.health().engine.running == 0);
    let mut bytes = Vec::new();
    // The end is no end of TLS, as the server could not say one.
    let _ = stalled.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 200") && !text.contains("[DONE]"), "{} bytes came", bytes.len());
}

#[test]
fn a_slow_reader_is_not_cut() {
    let files = Files::new();
    let config = ServerConfig {
        stalled_stream_s: 2,
        send_buffer_bytes: 8 << 10,
        max_header_bytes: 8 << 10,
        ..ServerConfig::default()
    };
    let server = Server::start(files.open(), config, Duration::ZERO);
    let client = Arc::new(files.client(&[&TLS13], None));
    let body = json!({"prompt": "x", "n": 8, "max_tokens": 300, "logprobs": 20, "stream": true, "seed": 1});
    let mut slow = server.send(&client, "POST", "/v1/completions", &body.to_string()).expect("it is sent");
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        let num_read = slow.read(&mut buffer).expect("it is not cut");
        if num_read == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..num_read]);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(String::from_utf8_lossy(&bytes).contains("[DONE]"), "{} bytes came", bytes.len());
}

#[test]
fn stopping_finishes_replies_and_waits_for_no_handshake() {
    let files = Files::new();
    let mut server = Server::start(files.open(), ServerConfig::default(), Duration::from_millis(5));
    let client = Arc::new(files.client(&[&TLS13], None));
    let silent = server.raw();
    let body = json!({"prompt": "x", "max_tokens": 100, "stream": true, "seed": 1}).to_string();
    let mut open = server.send(&client, "POST", "/v1/completions", &body).expect("it is sent");
    wait_until("it runs", || server.maze.health().engine.running > 0);
    let start = Instant::now();
    drop(server.stop.take());
    let mut text = String::new();
    open.read_to_string(&mut text).expect("the reply comes whole");
    assert!(text.contains("[DONE]"), "{text}");
    let ended = server.ended.take().expect("it runs");
    server.runtime.block_on(ended).expect("it ends");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(silent);
}

/// The program, until the test ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_reads_its_files_again_on_sighup_and_says_how_it_went() {
    let files = Files::new();
    let first = files.renew();
    let names = files.names();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ananke-serve"));
    command.args(["--port", "0", "--offline", "--tls-cert"]).arg(names.cert).arg("--tls-key").arg(names.key);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut program = Program(child);
    let stdout = BufReader::new(program.0.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let stderr = BufReader::new(program.0.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let (said, log) = mpsc::channel();
    std::thread::spawn(move || stderr.for_each(|line| drop(said.send(line))));
    let mut address = None;
    for line in stdout.take_while(|line| !line.starts_with("curl ")) {
        address = line.strip_prefix("listening on https://").map(str::to_owned).or(address);
    }
    let door = Door { address: address.expect("it says where").parse().expect("an address") };
    let client = Arc::new(files.client(&[&TLS13], None));
    assert_eq!(door.shown(&client), first);
    let hang_up = |expected: &str| {
        let pid = rustix::process::Pid::from_child(&program.0);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it runs");
        loop {
            let line = log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it says `{expected}`"));
            if line.contains(expected) {
                return line;
            }
        }
    };
    let second = files.renew();
    hang_up("certificates read again");
    assert_eq!(door.shown(&client), second);
    files.write("key.pem", "");
    assert!(hang_up("certificates stay as they were").contains("key.pem"));
    assert_eq!(door.shown(&client), second);
}

#[test]
fn files_that_cannot_be_used_are_named_and_never_quoted() {
    let files = Files::new();
    let (cert, key) = files.authority.sign();
    let (_, other_key) = files.authority.sign();
    let secret: String = key.lines().nth(1).expect("the first line of the key").chars().take(24).collect();
    let cut = key.replace("-----END PRIVATE KEY-----", "");
    let garbage = format!("-----BEGIN CERTIFICATE-----\n{secret}\n-----END CERTIFICATE-----\n");
    let no_base64 = format!("-----BEGIN PRIVATE KEY-----\n{secret}!\n-----END PRIVATE KEY-----\n");
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let large = "#".repeat((1 << 20) + 1);
    let none = String::new();
    type Check = fn(&TlsError) -> bool;
    let cases: [(&str, &String, &String, Check); 9] = [
        ("cert.pem", &none, &key, |error| matches!(error, TlsError::NoCertificate { .. })),
        ("cert.pem", &key, &key, |error| matches!(error, TlsError::NoCertificate { .. })),
        ("cert.pem", &garbage, &key, |error| matches!(error, TlsError::Certificate { .. } | TlsError::NotPem { .. })),
        ("cert.pem", &large, &key, |error| matches!(error, TlsError::TooLarge { .. })),
        ("key.pem", &cert, &cert, |error| matches!(error, TlsError::NoKey { .. })),
        ("key.pem", &cert, &encrypted, |error| matches!(error, TlsError::NoKey { .. })),
        ("key.pem", &cert, &cut, |error| matches!(error, TlsError::NotPem { .. })),
        ("key.pem", &cert, &no_base64, |error| matches!(error, TlsError::NotPem { .. })),
        ("key.pem", &cert, &other_key, |error| matches!(error, TlsError::Mismatch { .. })),
    ];
    for (named, cert, key, is_right) in cases {
        files.write("cert.pem", cert);
        files.write("key.pem", key);
        let error = Tls::open(files.names()).expect_err(named);
        let text = format!("{error} {error:?}");
        assert!(is_right(&error) && text.contains(named) && !text.contains(&secret), "{text}");
    }
    files.write("key.pem", no_key);
    files.write("cert.pem", &cert);
    assert!(matches!(Tls::open(files.names()), Err(TlsError::Key { .. })));
    files.write("key.pem", &key);
    let missing = TlsFiles { cert: files.path("missing.pem"), ..files.names() };
    assert!(matches!(Tls::open(missing), Err(TlsError::Read { path, .. }) if path.ends_with("missing.pem")));
    let no_authority = TlsFiles { client_ca: Some(files.path("key.pem")), ..files.names() };
    assert!(matches!(Tls::open(no_authority), Err(TlsError::NoCertificate { path }) if path.ends_with("key.pem")));
}
