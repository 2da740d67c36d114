//! The server: configuration to maze to HTTP, until it is told to stop.
//!
//! Standard output says what runs, where, and how to try it; the log goes to standard error.
//! Exit status: 0 stopped, 1 failed, 2 told to do what cannot be done.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use ananke::{
    audit::{AuditError, AuditLog},
    cli,
    config::{Config, LogFormat, ServeArgs},
    idle,
    maze::{self, Maze, ModelCard},
    otlp::Exporter,
    panics,
    remote::RemoteError,
    server::{self, Policy, PolicyError, Tls},
};
use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

#[path = "embedded.rs"]
mod embedded;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` in mimalloc.h, which libmimalloc-sys does not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Gives pages back as soon as they are free, and has idle workers look for more. mimalloc waits a second, and then until
/// something else is freed, so that a server at rest keeps what hostile inputs once took.
#[allow(unsafe_code, reason = "the allocator is C")]
fn give_memory_back() {
    // SAFETY: sets a number that every thread reads atomically.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, 0) }
    // SAFETY: any thread may ask at any time for its own memory to be looked through.
    idle::on_idle(|| unsafe { libmimalloc_sys::mi_collect(true) });
}

fn main() -> ExitCode {
    give_memory_back();
    let args = ServeArgs::parse();
    if args.probe_child {
        return probe();
    }
    let mut config = match args.into_config(embedded::model()) {
        Ok(config) => config,
        Err(error) => return fail(2, &error, error.hint()),
    };
    init_log(config.log_format);
    config.open.progress = Some(cli::load_progress());
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Open { error, gpu: true }) => {
            fail(2, &error, "`nvidia-smi -L` lists the devices; leave --gpu out to run on the CPU")
        }
        Err(Failure::Open { error, gpu: false }) => {
            fail(1, &error, "`scripts/fetch_model.sh smollm2` brings a small model into models/")
        }
        Err(Failure::Listen { address, error }) => {
            fail(1, &format!("cannot listen on {address}: {error}"), "--port 0 picks a free port")
        }
        Err(Failure::Policy(error)) => fail(1, &error, "docs/constraints-in-requests.md says what profiles are"),
        Err(Failure::Audit(error)) => fail(1, &error, "docs/audit.md says how the log is set up, kept and checked"),
        Err(Failure::Otlp(error)) => {
            fail(1, &error, "--otlp-ca names a PEM file with the authorities of the collector")
        }
        Err(Failure::Io(error)) => fail(1, &error, "the server stopped"),
    }
}

/// The life of the process that `--probe-compile` starts.
fn probe() -> ExitCode {
    match maze::serve_probe(io::BufReader::new(io::stdin()), io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error, "--probe-child is how the server starts itself for --probe-compile"),
    }
}

/// Stack of the async workers and of the threads beside them. Default 16 MiB of address space each: what is judged and
/// dropped there is as deep as the bounds of the guide allow.
const WORKER_STACK_BYTES: usize = 16 << 20;

/// How long a thread beside the async workers waits for more to do; with it goes the memory that it keeps.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Why the server stopped before it was told to.
enum Failure {
    /// The model could not be opened; `gpu` where a device was asked for.
    Open {
        error: Box<maze::Error>,
        gpu: bool,
    },
    /// The address is taken or not ours.
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    /// The audit log cannot be opened, or could not be written to its end.
    Audit(AuditError),
    /// The profiles cannot be compiled, or a key names one that is not there.
    Policy(PolicyError),
    /// The authorities of the collector of spans cannot be read.
    Otlp(RemoteError),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn run(config: Config) -> Result<(), Failure> {
    // Before the model: a log that cannot be written is known at once.
    let log = config.audit.clone().map(AuditLog::open).transpose().map_err(Failure::Audit)?;
    let result = serve(config, log.as_ref());
    // After the runtime, with which the last replies ended.
    let closed = log.map_or(Ok(()), |log| log.close());
    result.and(closed.map_err(Failure::Audit))
}

fn serve(config: Config, log: Option<&AuditLog>) -> Result<(), Failure> {
    let gpu = config.open.gpu.is_some();
    let maze = maze::open(config.open).map_err(|error| Failure::Open { error: error.into(), gpu })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(WORKER_STACK_BYTES)
        .thread_keep_alive(KEEP_ALIVE)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let address = SocketAddr::new(config.host, config.port);
        let listener = TcpListener::bind(address).await.map_err(|error| Failure::Listen { address, error })?;
        // Before anyone is told the address: whoever reads it may send a signal.
        let stop = stop_signal()?;
        let policy = Policy::new(config.keys, config.profiles, &maze).await.map_err(Failure::Policy)?;
        if policy.has_files() {
            reload_policy_on_hangup(policy.clone(), maze.clone())?;
        }
        check_remote(&maze);
        let tls = config.tls.map(Arc::new);
        if let Some(tls) = &tls {
            reload_tls_on_hangup(tls.clone())?;
        }
        let exporter = config.otlp.map(Exporter::start).transpose().map_err(Failure::Otlp)?;
        let scheme = if tls.is_some() { "https://" } else { "http://" };
        announce(maze.model(), scheme, listener.local_addr()?, policy.has_keys())?;
        if !config.host.is_loopback() && tls.is_none() {
            let who = if policy.has_keys() { "whoever has a key" } else { "anyone who reaches it" };
            tracing::warn!("listening beyond this machine without TLS, where {who} can use it");
        }
        let mut router = server::router_with_policy(maze, config.server, policy);
        if let Some(log) = log {
            router = server::audited(router, log.clone());
        }
        if let Some((spans, _)) = &exporter {
            router = server::traced(router, spans.clone());
        }
        match tls {
            Some(tls) => server::serve_tls(listener, tls, router, config.server, stop).await,
            None => server::serve(listener, router, config.server, stop).await,
        }
        if let Some((_, exporter)) = exporter {
            exporter.close().await;
        }
        Ok(())
    })
}

/// Says in the log whether a remote model can be reached; the server starts all the same, since it may come later.
fn check_remote(maze: &Maze) {
    let maze = maze.clone();
    tokio::spawn(async move {
        if let Err(error) = maze.check_remote().await {
            tracing::warn!(%error, "the remote model does not answer yet");
        }
    });
}

/// Reads the certificates again whenever the process gets SIGHUP; files that cannot be used change nothing.
fn reload_tls_on_hangup(tls: Arc<Tls>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match tls.reload() {
                Ok(()) => tracing::info!("certificates read again"),
                Err(error) => tracing::error!(%error, "certificates stay as they were"),
            }
        }
    });
    Ok(())
}

/// Reads the API keys and the profiles again whenever the process gets SIGHUP; a file that cannot be used changes
/// nothing.
fn reload_policy_on_hangup(policy: Policy, maze: Maze) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let reloaded = match policy.reload(&maze).await {
                Ok(reloaded) => reloaded,
                Err(error) => {
                    tracing::error!(%error, "API keys and profiles stay as they were");
                    continue;
                }
            };
            match reloaded.keys {
                Some(Ok(num_keys)) => tracing::info!(num_keys, "API keys read again"),
                Some(Err(error)) => tracing::error!(%error, "API keys stay as they were"),
                None => {}
            }
            match reloaded.profiles {
                Some(Ok(num_profiles)) => tracing::info!(num_profiles, "profiles read again"),
                Some(Err(error)) => tracing::error!(%error, "profiles stay as they were"),
                None => {}
            }
        }
    });
    Ok(())
}

/// Ready when the process is asked to end: by the terminal, or by whoever supervises it.
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping: open replies may finish");
    })
}

fn announce(model: &ModelCard, scheme: &str, address: SocketAddr, has_keys: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if model.embedded {
        writeln!(out, "no --model given: running the embedded {}", model.id)?;
    }
    let millions = model.num_parameters as f64 / 1e6;
    let ModelCard { id, architecture, context_len, .. } = model;
    if model.is_remote() {
        writeln!(out, "model: {id}, remote; what it writes is checked here")?;
    } else {
        writeln!(
            out,
            "model: {id} ({architecture}, {millions:.1} million parameters, window of {context_len} tokens)"
        )?;
    }
    if let Some(report) = &model.quantization {
        writeln!(out, "quantized on load: {report}")?;
    }
    writeln!(out, "listening on {scheme}{address}")?;
    writeln!(out, "try it:")?;
    writeln!(out, "{}", curl_line(scheme, address, has_keys))?;
    out.flush()
}

/// A request that works when pasted into a shell: JSON under a schema. A key comes from the shell's `ANANKE_API_KEY`.
fn curl_line(scheme: &str, address: SocketAddr, has_keys: bool) -> String {
    let body = concat!(
        r#"{"prompt": "user = ", "max_tokens": 128, "response_format": {"type": "json_schema", "#,
        r#""json_schema": {"name": "user", "schema": {"type": "object", "properties": {"#,
        r#""name": {"type": "string", "pattern": "^[A-Z][a-z]{2,9}$"}, "age": {"type": "integer", "minimum": 0, "#,
        r#""maximum": 120}}, "required": ["name", "age"], "additionalProperties": false}}}}"#
    );
    // A server on all addresses is reached on loopback.
    let host = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { address.ip().to_string() };
    let authority = if host.contains(':') { format!("[{host}]") } else { host };
    let url = format!("{scheme}{authority}:{}/v1/completions", address.port());
    let key = if has_keys { " -H \"authorization: Bearer $ANANKE_API_KEY\"" } else { "" };
    format!("curl -s {url}{key} -H 'content-type: application/json' -d '{body}'")
}

fn init_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("ANANKE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log =
        tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).with_env_filter(filter);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    panics::log_in_one_line();
}

fn fail(status: u8, error: &impl Display, hint: &str) -> ExitCode {
    eprintln!("error: {error}");
    eprintln!("hint: {hint}");
    ExitCode::from(status)
}
