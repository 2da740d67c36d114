//! What the programs are told on the command line, in the environment and in a file, as one checked value.
//!
//! A flag wins over its environment variable (`ANANKE_` and the flag's name), that over the file of `--config`, and
//! that over the default. The file is TOML with the tables `[server]`, `[security]`, `[model]`, `[audit]`, `[cache]`,
//! `[remote]` and `[limits]`; a key it does not know is an error.

use std::{
    fmt,
    fs::File,
    io::Read,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{Args, Parser, ValueEnum};
use serde::Deserialize;

use crate::{
    audit::{AuditConfig, FsyncPolicy, PromptPolicy},
    cache::{BadRedisUrl, CacheConfig, RedisUrl},
    maze::{self, EmbeddedModel, MazeConfig, ModelSource, OpenOptions, ProbeConfig},
    model::{GpuId, Quantization},
    otlp::ExporterConfig,
    remote::{Address, BackendConfig, Key, RemoteError, Service},
    server::{ApiKeys, KeyFileError, ProfileError, ProfileFiles, ServerConfig, Tls, TlsError, TlsFiles},
};

/// Serves a code model whose output is bound, token by token, by constraints.
#[derive(Debug, Default, Parser)]
#[command(name = "ananke-serve", version)]
pub struct ServeArgs {
    /// A TOML file with the tables `server`, `security`, `model`, `audit`, `cache`, `remote` and `limits`.
    #[arg(long, env = "ANANKE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where and how to serve.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Who may use it.
    #[command(flatten)]
    pub security: SecurityArgs,
    /// What to run.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to record.
    #[command(flatten)]
    pub audit: AuditArgs,
    /// Where to keep results.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// What answers in place of a local model.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// Be the process that `--probe-compile` starts: read constraints on standard input, compile them, say so.
    #[arg(long, hide = true)]
    pub probe_child: bool,
}

/// Where and how to serve: flags, and the keys of `[server]`.
#[derive(Clone, Debug, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerArgs {
    /// The address to listen on [default: 127.0.0.1].
    #[arg(long, env = "ANANKE_HOST", value_name = "ADDRESS")]
    pub host: Option<Host>,
    /// The port to listen on; 0 picks a free one [default: 8000].
    #[arg(long, env = "ANANKE_PORT")]
    pub port: Option<u16>,
    /// How to write the log to standard error [default: text].
    #[arg(long, env = "ANANKE_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// The whole address that a span of each request is posted to as OTLP, such as http://127.0.0.1:4318/v1/traces;
    /// without one there are no spans.
    #[arg(long, env = "ANANKE_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// The authorities in PEM that the collector of --otlp-endpoint is known by [default: those of the web].
    #[arg(long, env = "ANANKE_OTLP_CA", value_name = "FILE")]
    pub otlp_ca: Option<PathBuf>,
    /// The largest request body [default: 4MiB].
    #[arg(long, env = "ANANKE_MAX_BODY", value_name = "BYTES")]
    pub max_body: Option<ByteSize>,
    /// Seconds after which a silent stream sends a comment [default: 15].
    #[arg(long, env = "ANANKE_KEEP_ALIVE", value_name = "SECONDS")]
    pub keep_alive: Option<u64>,
    /// Seconds that open replies get to finish on shutdown [default: 30].
    #[arg(long, env = "ANANKE_DRAIN", value_name = "SECONDS")]
    pub drain: Option<u64>,
    /// Connections at once; more wait [default: 1024].
    #[arg(long, env = "ANANKE_MAX_CONNECTIONS", value_name = "COUNT")]
    pub max_connections: Option<usize>,
    /// Header lines of a request [default: 100].
    #[arg(long, env = "ANANKE_MAX_HEADERS", value_name = "COUNT")]
    pub max_headers: Option<usize>,
    /// The largest head of a request, and what is buffered of a reply [default: 64KiB].
    #[arg(long, env = "ANANKE_MAX_HEADER_BYTES", value_name = "BYTES")]
    pub max_header_bytes: Option<ByteSize>,
    /// Seconds that a client gets to send the head of a request, and again for its body [default: 30].
    #[arg(long, env = "ANANKE_READ_TIMEOUT", value_name = "SECONDS")]
    pub read_timeout: Option<u64>,
    /// Seconds after which a request is given up [default: 600].
    #[arg(long, env = "ANANKE_REQUEST_TIMEOUT", value_name = "SECONDS")]
    pub request_timeout: Option<u64>,
    /// Seconds after which a client that takes nothing of its reply is cut [default: 30].
    #[arg(long, env = "ANANKE_STALLED_STREAM", value_name = "SECONDS")]
    pub stalled_stream: Option<u64>,
    /// What the system buffers of each connection's replies [default: 256KiB].
    #[arg(long, env = "ANANKE_SEND_BUFFER", value_name = "BYTES")]
    pub send_buffer: Option<ByteSize>,
    /// Replies whose provenance is kept for `GET /v1/provenance/{id}`; 0 keeps none [default: 1024].
    #[arg(long, env = "ANANKE_PROVENANCE_RECORDS", value_name = "COUNT")]
    pub provenance_records: Option<usize>,
    /// The largest memory of those records [default: 64MiB].
    #[arg(long, env = "ANANKE_PROVENANCE_BYTES", value_name = "BYTES")]
    pub provenance_bytes: Option<ByteSize>,
    /// Requests to extract, compile or validate at once; more are told to try again [default: 8].
    #[arg(long, env = "ANANKE_MAX_ANALYSES", value_name = "COUNT")]
    pub max_analyses: Option<usize>,
    /// The largest request body with sources to extract from [default: 24MiB].
    #[arg(long, env = "ANANKE_MAX_SOURCE_BODY", value_name = "BYTES")]
    pub max_source_body: Option<ByteSize>,
    /// Compile each new constraint in a process of its own first, so that a crash there leaves the server unharmed.
    #[arg(long, env = "ANANKE_PROBE_COMPILE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub probe_compile: Option<bool>,
}

/// Who may use the server: flags, and the keys of `[security]`.
#[derive(Clone, Debug, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityArgs {
    /// A TOML file with the keys that are let in, as `ananke keys new` writes them; read again on SIGHUP.
    #[arg(long, env = "ANANKE_API_KEYS", value_name = "FILE")]
    pub api_keys: Option<PathBuf>,
    /// Named rule sets for requests and keys: a TOML file of `[profile.NAME]`, or a folder in which each NAME.json is a
    /// constraint set; read again on SIGHUP.
    #[arg(long, env = "ANANKE_PROFILES", value_name = "PATH")]
    pub profiles: Option<PathBuf>,
    /// Serve beyond this machine without API keys: whoever reaches the address can use it.
    #[arg(long, env = "ANANKE_ALLOW_OPEN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_open: Option<bool>,
    /// The server's certificate in PEM, followed by those that lead to a root; with it, only TLS is spoken. Read again
    /// on SIGHUP.
    #[arg(long, env = "ANANKE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert in PEM, not encrypted; read again on SIGHUP.
    #[arg(long, env = "ANANKE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Lets in only clients with a certificate that an authority in this PEM file has signed; read again on SIGHUP.
    #[arg(long, env = "ANANKE_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
}

/// What to run and with how much: flags of both programs, and the keys of `[model]`.
#[derive(Clone, Debug, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelArgs {
    /// A model folder, a .gguf file, or OWNER/REPOSITORY [default: the model in this binary].
    #[arg(long, env = "ANANKE_MODEL", value_name = "PATH|REPO")]
    pub model: Option<String>,
    /// The GPU to run on: its index, or its UUID as `nvidia-smi -L` prints it [default: the CPU].
    #[arg(long, env = "ANANKE_GPU", value_name = "N|UUID")]
    pub gpu: Option<GpuId>,
    /// Whether a GPU records decode steps and replays them; where it does not, every step runs launch by launch
    /// [default: true].
    #[arg(long, env = "ANANKE_DECODE_GRAPHS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub decode_graphs: Option<bool>,
    /// Give a request the same bytes whatever runs beside it and however its prompt is cut, on a GPU too; it is slower
    /// there for prompts and larger batches. On the CPU it is always so.
    #[arg(long, env = "ANANKE_BATCH_INVARIANT", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub batch_invariant: Option<bool>,
    /// Where weights come from.
    #[arg(long, env = "ANANKE_LOAD_FORMAT", value_name = "FORMAT")]
    pub load_format: Option<LoadFormat>,
    /// Round the weights to 8 or 4 bits as they are loaded [default: as they are stored].
    #[arg(long, env = "ANANKE_QUANTIZE", value_enum, value_name = "FORMAT")]
    pub quantize: Option<QuantizeArg>,
    /// Never open a connection, not even for a model that is missing.
    #[arg(long, env = "ANANKE_OFFLINE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub offline: Option<bool>,
    /// Positions of a sequence, prompt and answer together [default: the model's own].
    #[arg(long, env = "ANANKE_MAX_MODEL_LEN", value_name = "TOKENS")]
    pub max_model_len: Option<usize>,
    /// Sequences that run at once [default: 32].
    #[arg(long, env = "ANANKE_MAX_NUM_SEQS", value_name = "COUNT")]
    pub max_num_seqs: Option<usize>,
    /// Memory of the KV cache, such as 2GiB [default: what all sequences can use, at most 2GiB].
    #[arg(long, env = "ANANKE_KV_MEMORY", value_name = "BYTES")]
    pub kv_memory: Option<ByteSize>,
}

/// What to record of requests, and where: flags, and the keys of `[audit]`, there without `audit_`.
#[derive(Clone, Debug, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditArgs {
    /// A folder for the audit log; without one nothing is recorded.
    #[arg(long, env = "ANANKE_AUDIT_DIR", value_name = "FOLDER")]
    #[serde(rename = "dir")]
    pub audit_dir: Option<PathBuf>,
    /// The key of the audit log: a file of 64 hex digits that only its owner may read.
    #[arg(long, env = "ANANKE_AUDIT_KEY", value_name = "FILE")]
    #[serde(rename = "key")]
    pub audit_key: Option<PathBuf>,
    /// When audit records are forced to the disk: `always`, `interval`, `interval:MS` or `never` [default: interval:1000].
    #[arg(long, env = "ANANKE_AUDIT_FSYNC", value_name = "POLICY")]
    #[serde(rename = "fsync")]
    pub audit_fsync: Option<FsyncPolicy>,
    /// What audit records keep of prompts: `hash` or `text` [default: hash].
    #[arg(long, env = "ANANKE_AUDIT_PROMPTS", value_name = "POLICY", value_parser = prompt_policy)]
    #[serde(rename = "prompts")]
    pub audit_prompts: Option<PromptPolicy>,
    /// A segment of the audit log is ended before it grows past this [default: 64MiB].
    #[arg(long, env = "ANANKE_AUDIT_SEGMENT_BYTES", value_name = "BYTES")]
    #[serde(rename = "segment_bytes")]
    pub audit_segment_bytes: Option<ByteSize>,
}

/// Where results are kept beyond this process: flags, and the keys of `[cache]`, there without `cache_`.
#[derive(Clone, Debug, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheArgs {
    /// A folder that keeps extraction results, compiled IRs and verdicts over restarts; without one they live as long
    /// as the process.
    #[arg(long, env = "ANANKE_CACHE_DIR", value_name = "FOLDER")]
    #[serde(rename = "dir")]
    pub cache_dir: Option<PathBuf>,
    /// A Redis that keeps them for several servers, with TLS if it begins with rediss://; needs --cache-key. A password belongs into the environment or the
    /// file, since others on the machine see flags.
    #[arg(long, env = "ANANKE_CACHE_URL", value_name = "redis://[:PASSWORD@]HOST[:PORT][/DB]", hide_env_values = true)]
    #[serde(rename = "url")]
    pub cache_url: Option<Unshown>,
    /// The authorities in PEM that a Redis with TLS is known by.
    #[arg(long, env = "ANANKE_CACHE_CA", value_name = "FILE")]
    #[serde(rename = "ca")]
    pub cache_ca: Option<PathBuf>,
    /// The secret that entries are authenticated with, the same for all servers that share them: a file of 64 hex digits
    /// that only its owner may read.
    #[arg(long, env = "ANANKE_CACHE_KEY", value_name = "FILE")]
    #[serde(rename = "key")]
    pub cache_key: Option<PathBuf>,
    /// Bytes of the folder; beyond it the oldest entries are removed [default: 1GiB].
    #[arg(long, env = "ANANKE_CACHE_DISK_BYTES", value_name = "BYTES")]
    #[serde(rename = "disk_bytes")]
    pub cache_disk_bytes: Option<ByteSize>,
    /// Bytes of one entry; a larger one is not kept [default: 4MiB].
    #[arg(long, env = "ANANKE_CACHE_ENTRY_BYTES", value_name = "BYTES")]
    #[serde(rename = "entry_bytes")]
    pub cache_entry_bytes: Option<ByteSize>,
    /// Milliseconds that one question to the Redis may take [default: 50].
    #[arg(long, env = "ANANKE_CACHE_TIMEOUT", value_name = "MILLISECONDS")]
    #[serde(rename = "timeout")]
    pub cache_timeout: Option<u64>,
    /// Seconds for which a tier that keeps failing is left alone [default: 5].
    #[arg(long, env = "ANANKE_CACHE_RETRY_AFTER", value_name = "SECONDS")]
    #[serde(rename = "retry_after")]
    pub cache_retry_after: Option<u64>,
}

/// A model server that answers in place of a local model: flags, and the keys of `[remote]`, there without `remote_`.
#[derive(Clone, Debug, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteArgs {
    /// The address of a model server to pass requests on to, such as http://127.0.0.1:8001/v1; no model is loaded then.
    /// What comes back is checked here all the same.
    #[arg(long, env = "ANANKE_REMOTE_URL", value_name = "URL")]
    #[serde(rename = "url")]
    pub remote_url: Option<String>,
    /// What that server calls its model.
    #[arg(long, env = "ANANKE_REMOTE_MODEL", value_name = "NAME")]
    #[serde(rename = "model")]
    pub remote_model: Option<String>,
    /// What that server is [default: openai].
    #[arg(long, env = "ANANKE_REMOTE_SERVICE", value_enum, value_name = "SERVICE")]
    #[serde(rename = "service")]
    pub remote_service: Option<ServiceArg>,
    /// A file with the key that opens it.
    #[arg(long, env = "ANANKE_REMOTE_KEY_FILE", value_name = "FILE")]
    #[serde(rename = "key_file")]
    pub remote_key_file: Option<PathBuf>,
    /// The authorities in PEM that it is known by [default: those of the web].
    #[arg(long, env = "ANANKE_REMOTE_CA", value_name = "FILE")]
    #[serde(rename = "ca")]
    pub remote_ca: Option<PathBuf>,
    /// Seconds that an answer may take with all its attempts [default: 300].
    #[arg(long, env = "ANANKE_REMOTE_TIMEOUT", value_name = "SECONDS")]
    #[serde(rename = "timeout")]
    pub remote_timeout: Option<u64>,
    /// Seconds for which nothing may come [default: 120].
    #[arg(long, env = "ANANKE_REMOTE_STALL", value_name = "SECONDS")]
    #[serde(rename = "stall")]
    pub remote_stall: Option<u64>,
    /// How often an answer is asked for at most [default: 3].
    #[arg(long, env = "ANANKE_REMOTE_ATTEMPTS", value_name = "COUNT")]
    #[serde(rename = "attempts")]
    pub remote_attempts: Option<usize>,
    /// Answers at once; more are told to try again [default: 64].
    #[arg(long, env = "ANANKE_REMOTE_MAX_ANSWERS", value_name = "COUNT")]
    #[serde(rename = "max_answers")]
    pub remote_max_answers: Option<usize>,
}

/// What a model server is, as flags and the file name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ServiceArg {
    /// OpenAI's completions and chat completions with nothing beside them.
    #[default]
    Openai,
    /// vLLM, SGLang, and what else takes `structured_outputs`.
    Vllm,
    /// llama.cpp's server.
    #[value(name = "llamacpp")]
    LlamaCpp,
    /// Another ananke.
    Ananke,
    /// The service on Modal with `POST /generate`.
    Modal,
}

impl From<ServiceArg> for Service {
    fn from(service: ServiceArg) -> Self {
        match service {
            ServiceArg::Openai => Self::Openai,
            ServiceArg::Vllm => Self::Vllm,
            ServiceArg::LlamaCpp => Self::LlamaCpp,
            ServiceArg::Ananke => Self::Ananke,
            ServiceArg::Modal => Self::Modal,
        }
    }
}

/// Bytes of a file with a key that are read; a longer key is none.
const KEY_FILE_BYTES_MAX: u64 = 8 << 10;

/// Text that may hold a password: read as it is, so that no parser repeats it in an error, and never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Unshown(String);

impl From<String> for Unshown {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Unshown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

fn prompt_policy(text: &str) -> Result<PromptPolicy, String> {
    match text {
        "hash" => Ok(PromptPolicy::Hash),
        "text" => Ok(PromptPolicy::Text),
        _ => Err("expected `hash` or `text`".into()),
    }
}

/// The keys of `[limits]`: what one request may ask for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    prompt_bytes: Option<ByteSize>,
    choices: Option<u32>,
    constraints: Option<usize>,
    rules: Option<usize>,
    description_bytes: Option<ByteSize>,
    default_max_tokens: Option<u32>,
    queue_len: Option<usize>,
    compile_threads: Option<usize>,
    compile_queue_len: Option<usize>,
    compile_wait_s: Option<u64>,
    compile_ms_per_minute: Option<u64>,
    cached_constraints: Option<usize>,
    cached_constraint_bytes: Option<ByteSize>,
}

/// The file of `--config`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(default)]
    server: ServerArgs,
    #[serde(default)]
    security: SecurityArgs,
    #[serde(default)]
    model: ModelArgs,
    #[serde(default)]
    audit: AuditArgs,
    #[serde(default)]
    cache: CacheArgs,
    #[serde(default)]
    remote: RemoteArgs,
    #[serde(default)]
    limits: LimitsTable,
}

/// What `ananke-serve` runs on; every value is in its range.
#[derive(Debug)]
pub struct Config {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port to listen on; 0 picks a free one.
    pub port: u16,
    /// How the log is written.
    pub log_format: LogFormat,
    /// Where spans of requests go, if there are to be any.
    pub otlp: Option<ExporterConfig>,
    /// The bounds and times of the HTTP layer.
    pub server: ServerConfig,
    /// Who may use it; everyone who reaches the address where there is none.
    pub keys: Option<ApiKeys>,
    /// TLS, if it is to be spoken.
    pub tls: Option<Tls>,
    /// The rule sets that requests may name and keys are bound by, not yet compiled.
    pub profiles: Option<ProfileFiles>,
    /// The audit log, if there is to be one.
    pub audit: Option<AuditConfig>,
    /// The model, and the bounds of everything below.
    pub open: OpenOptions,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Where weights come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LoadFormat {
    /// From the model's files.
    #[default]
    Auto,
    /// Made up, in the shapes of the folder's config.json: for timing, its answers are noise.
    Dummy,
}

/// What weights are rounded to, as flags and the file name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
pub enum QuantizeArg {
    /// 8.5 bits per weight.
    #[value(name = "q8_0")]
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 4.5 bits per weight; 6.5 for the embedding and the head, 5.5 where rows are no multiples of 256.
    #[value(name = "q4_k")]
    #[serde(rename = "q4_k")]
    Q4K,
    /// 8-bit floats (E4M3) with a scale for every 128 weights; the embedding and the head stay as they are stored.
    #[serde(rename = "fp8")]
    Fp8,
}

impl From<QuantizeArg> for Quantization {
    fn from(format: QuantizeArg) -> Self {
        match format {
            QuantizeArg::Q8_0 => Self::Q8_0,
            QuantizeArg::Q4K => Self::Q4K,
            QuantizeArg::Fp8 => Self::Fp8,
        }
    }
}

/// Why the programs cannot run as they were told.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file of `--config` could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The file of `--config` is not what it should be.
    #[error("{}: {}", path.display(), source.to_string().trim_end())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        #[source]
        source: toml::de::Error,
    },
    /// A number outside its range.
    #[error("{name} is {value}, outside {min}..={max}")]
    OutOfRange {
        /// The flag, or the key of the file.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// The file of `--api-keys` is not what it should be.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// TLS cannot be spoken with the files that were named.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// One of `--tls-cert` and `--tls-key` without the other, or a list of authorities without both.
    #[error("{given} was given without {missing}")]
    HalfTls {
        /// What was given.
        given: &'static str,
        /// What it needs.
        missing: &'static str,
    },
    /// What `--profiles` names is not what it should be.
    #[error(transparent)]
    Profiles(#[from] ProfileError),
    /// An address beyond this machine, and everyone may use it.
    #[error("{host} is reached from other machines, and there are no API keys: anyone could use this server")]
    OpenToOthers {
        /// The address.
        host: IpAddr,
    },
    /// `--gpu` on a build that has none.
    #[error("--gpu {gpu} was given, but this build has no GPU support")]
    NoGpuSupport {
        /// The GPU asked for.
        gpu: GpuId,
    },
    /// `--load-format dummy` without a folder of a model.
    #[error("--load-format dummy was given without --model FOLDER")]
    DummyWithoutFolder,
    /// One of `--audit-dir` and `--audit-key` without the other.
    #[error("{given} was given without {missing}")]
    HalfAudit {
        /// What was given.
        given: &'static str,
        /// What it needs.
        missing: &'static str,
    },
    /// `--probe-compile` on a system that does not say which program runs.
    #[error("--probe-compile starts this program again, which cannot be found: {0}")]
    NoProgram(#[source] std::io::Error),
    /// A Redis without the key that its entries are authenticated with, or a key or bound without anything to keep in.
    #[error("{given} was given without {missing}")]
    HalfCache {
        /// What was given.
        given: &'static str,
        /// What it needs.
        missing: &'static str,
    },
    /// The address of the Redis.
    #[error("--cache-url: {0}")]
    CacheUrl(#[from] BadRedisUrl),
    /// `--offline` with a Redis that is not on this machine.
    #[error("--offline was given, and --cache-url names {host}, which is not this machine")]
    OfflineCache {
        /// Its host.
        host: String,
    },
    /// One of the flags of a remote model without another, or beside a local one.
    #[error("{given} was given {what} {other}")]
    RemoteFlags {
        /// What was given.
        given: &'static str,
        /// `without` or `together with`.
        what: &'static str,
        /// What it needs, or does not go with.
        other: &'static str,
    },
    /// The address or the key of the remote model.
    #[error("{flag}: {source}")]
    Remote {
        /// The flag.
        flag: &'static str,
        /// What is wrong; never the key.
        #[source]
        source: Box<RemoteError>,
    },
    /// The file with the key of the remote model could not be read.
    #[error("cannot read {}: {source}", path.display())]
    RemoteKey {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// `--offline` with a remote model that is not on this machine.
    #[error("--offline was given, and --remote-url names {host}, which is not this machine")]
    OfflineRemote {
        /// Its host.
        host: String,
    },
    /// The address of the collector of spans.
    #[error("--otlp-endpoint: {0}")]
    OtlpEndpoint(#[source] Box<RemoteError>),
    /// The address of the collector is only a host.
    #[error("--otlp-endpoint names {host} and no path there")]
    OtlpPath {
        /// Its host.
        host: String,
    },
    /// The authorities of a collector without a collector.
    #[error("--otlp-ca was given without --otlp-endpoint")]
    HalfOtlp,
    /// `--offline` with a collector that is not on this machine.
    #[error("--offline was given, and --otlp-endpoint names {host}, which is not this machine")]
    OfflineOtlp {
        /// Its host.
        host: String,
    },
    /// No model was named and none is compiled in.
    #[error("no --model was given, and this build has no model in it")]
    NoModel,
    /// No model in this process was named and none is compiled in.
    #[error("--semantic-local names no model, and this build has none in it")]
    NoLocalModel,
    /// `--offline` with an address that is not on this machine.
    #[error("--offline was given, and --semantic-url names {host}, which is not this machine")]
    OfflineAddress {
        /// The host that was named.
        host: String,
    },
    /// The model's name means nothing.
    #[error(transparent)]
    Model(Box<maze::Error>),
}

impl ConfigError {
    /// What the reader can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "give the path of a TOML file to --config",
            Self::File { .. } => {
                "the tables are [server], [security], [model], [audit], [cache], [remote] and [limits]; --help names the keys of all but the last"
            }
            Self::OutOfRange { .. } => "--help lists the defaults",
            Self::Keys(_) => "`ananke keys new --name NAME` prints a key, and the entry to put into the file",
            Self::Tls(_) | Self::HalfTls { .. } => {
                "TLS needs --tls-cert FILE and --tls-key FILE, both in PEM; docs/security.md says how they are made and changed"
            }
            Self::Profiles(_) => "docs/constraints-in-requests.md says what a file of profiles looks like",
            Self::OpenToOthers { .. } => {
                "give --api-keys FILE, or --host 127.0.0.1, or --allow-open where something in front lets in only some"
            }
            Self::NoGpuSupport { .. } => {
                "leave --gpu out to run on the CPU, or build with GPU support: scripts/build_gpu.sh, which is `--features cuda`"
            }
            Self::DummyWithoutFolder => {
                "give the folder of a model: its config.json and its tokenizer's files are read"
            }
            Self::HalfAudit { .. } => {
                "an audit log needs --audit-dir FOLDER and --audit-key FILE; `openssl rand -hex 32` makes a key"
            }
            Self::HalfCache { .. } => {
                "a cache needs --cache-dir FOLDER or --cache-url redis://HOST, a Redis also --cache-key FILE, with TLS --cache-ca FILE; `openssl rand \
                 -hex 32` makes a key"
            }
            Self::CacheUrl(_) => "write redis://HOST:PORT/DB, with :PASSWORD@ in front of the host where there is one",
            Self::OfflineCache { .. } => {
                "a Redis on this machine is named in digits (redis://127.0.0.1), so that nothing is looked up"
            }
            Self::NoProgram(_) => "leave --probe-compile out",
            Self::RemoteFlags { .. } | Self::Remote { .. } => {
                "a remote model needs --remote-url URL and --remote-model NAME, and goes with no --model; \
                 docs/remote-models.md says what each server can be asked for"
            }
            Self::RemoteKey { .. } => "--remote-key-file names a file with the key as one word",
            Self::OfflineRemote { .. } => {
                "a server on this machine is named in digits (http://127.0.0.1:8001/v1), so that nothing is looked up"
            }
            Self::OtlpEndpoint(_) | Self::OtlpPath { .. } | Self::HalfOtlp => {
                "--otlp-endpoint takes the whole address that spans are posted to over HTTP, such as \
                 http://127.0.0.1:4318/v1/traces"
            }
            Self::OfflineOtlp { .. } => {
                "a collector on this machine is named in digits (http://127.0.0.1:4318/v1/traces), so that nothing is \
                 looked up"
            }
            Self::NoModel => "give --model PATH or OWNER/REPOSITORY, or build with `--features embedded-model`",
            Self::NoLocalModel => "give --semantic-local=MODEL, or build with `--features embedded-model`",
            Self::OfflineAddress { .. } => {
                "a server on this machine is named in digits (127.0.0.1), so that nothing is looked up; --semantic-local \
                 asks a model in this process"
            }
            Self::Model(_) => "`scripts/fetch_model.sh smollm2` brings a small model into models/",
        }
    }
}

impl ServeArgs {
    /// Reads the file, fills in the defaults, and checks every value.
    ///
    /// # Errors
    /// [`ConfigError`], naming the first value that cannot be.
    pub fn into_config(self, embedded: Option<EmbeddedModel>) -> Result<Config, ConfigError> {
        let file = self.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
        let server = self.server.or(file.server);
        let model = self.model.or(file.model);
        let remote = self.remote.or(file.remote).backend(&model)?;
        let mut open = match remote {
            Some(remote) => model.options_over(ModelSource::Remote(Box::new(remote)))?,
            None => model.open_options(embedded)?,
        };
        file.limits.apply(&mut open)?;
        open.cache = self.cache.or(file.cache).tiers(open.offline)?;
        if server.probe_compile == Some(true) {
            let probe = ProbeConfig::this_program(vec!["--probe-child".into()]).map_err(ConfigError::NoProgram)?;
            open.maze.probe = Some(probe);
        }
        let security = self.security.or(file.security);
        let host = server.host.unwrap_or_default().0;
        let tls = security.tls_files()?.map(Tls::open).transpose()?;
        if !security.asks_who() && !host.is_loopback() && security.allow_open != Some(true) {
            return Err(ConfigError::OpenToOthers { host });
        }
        Ok(Config {
            host,
            port: server.port.unwrap_or(8000),
            log_format: server.log_format.unwrap_or_default(),
            otlp: server.exporter(open.offline)?,
            server: server.http()?,
            keys: security.api_keys.as_deref().map(ApiKeys::open).transpose()?,
            tls,
            profiles: security.profiles.as_deref().map(ProfileFiles::read).transpose()?,
            audit: self.audit.or(file.audit).log()?,
            open,
        })
    }
}

impl ConfigFile {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::File { path: path.into(), source })
    }
}

impl ServerArgs {
    /// These values, and `others` where they are silent.
    fn or(self, others: Self) -> Self {
        Self {
            host: self.host.or(others.host),
            port: self.port.or(others.port),
            log_format: self.log_format.or(others.log_format),
            otlp_endpoint: self.otlp_endpoint.or(others.otlp_endpoint),
            otlp_ca: self.otlp_ca.or(others.otlp_ca),
            max_body: self.max_body.or(others.max_body),
            keep_alive: self.keep_alive.or(others.keep_alive),
            drain: self.drain.or(others.drain),
            max_connections: self.max_connections.or(others.max_connections),
            max_headers: self.max_headers.or(others.max_headers),
            max_header_bytes: self.max_header_bytes.or(others.max_header_bytes),
            read_timeout: self.read_timeout.or(others.read_timeout),
            request_timeout: self.request_timeout.or(others.request_timeout),
            stalled_stream: self.stalled_stream.or(others.stalled_stream),
            send_buffer: self.send_buffer.or(others.send_buffer),
            provenance_records: self.provenance_records.or(others.provenance_records),
            provenance_bytes: self.provenance_bytes.or(others.provenance_bytes),
            max_analyses: self.max_analyses.or(others.max_analyses),
            max_source_body: self.max_source_body.or(others.max_source_body),
            probe_compile: self.probe_compile.or(others.probe_compile),
        }
    }

    /// What sends spans, if anything does.
    fn exporter(&self, is_offline: bool) -> Result<Option<ExporterConfig>, ConfigError> {
        let Some(url) = &self.otlp_endpoint else {
            return if self.otlp_ca.is_none() { Ok(None) } else { Err(ConfigError::HalfOtlp) };
        };
        let endpoint = Address::parse(url).map_err(|error| ConfigError::OtlpEndpoint(error.into()))?;
        if !endpoint.has_path() {
            return Err(ConfigError::OtlpPath { host: endpoint.host().to_owned() });
        }
        if is_offline && !endpoint.is_loopback() {
            return Err(ConfigError::OfflineOtlp { host: endpoint.host().to_owned() });
        }
        Ok(Some(ExporterConfig { authorities: self.otlp_ca.clone(), ..ExporterConfig::new(endpoint) }))
    }

    fn http(&self) -> Result<ServerConfig, ConfigError> {
        let default = ServerConfig::default();
        let body = |name, size: Option<ByteSize>, default: usize| {
            within(name, size.map_or(default as u64, |size| size.0), 1 << 10, 1 << 30).map(|size| size as usize)
        };
        let records = self.provenance_records.unwrap_or(default.max_provenance_records) as u64;
        let provenance_bytes = self.provenance_bytes.map_or(default.max_provenance_bytes as u64, |size| size.0);
        Ok(ServerConfig {
            max_body_bytes: body("--max-body", self.max_body, default.max_body_bytes)?,
            max_source_body_bytes: body("--max-source-body", self.max_source_body, default.max_source_body_bytes)?,
            max_analyses: optional("--max-analyses", self.max_analyses, 1 << 10)?.unwrap_or(default.max_analyses),
            max_provenance_records: within("--provenance-records", records, 0, 1 << 20)? as usize,
            max_provenance_bytes: within("--provenance-bytes", provenance_bytes, 0, 1 << 40)? as usize,
            max_drained_bytes: default.max_drained_bytes,
            keep_alive_s: within("--keep-alive", self.keep_alive.unwrap_or(default.keep_alive_s), 1, 3600)?,
            drain_s: within("--drain", self.drain.unwrap_or(default.drain_s), 0, 3600)?,
            max_connections: optional("--max-connections", self.max_connections, 1 << 20)?
                .unwrap_or(default.max_connections),
            max_headers: optional("--max-headers", self.max_headers, 1 << 12)?.unwrap_or(default.max_headers),
            max_header_bytes: size("--max-header-bytes", self.max_header_bytes, default.max_header_bytes, 8 << 10)?,
            read_timeout_s: seconds("--read-timeout", self.read_timeout, default.read_timeout_s)?,
            request_timeout_s: seconds("--request-timeout", self.request_timeout, default.request_timeout_s)?,
            stalled_stream_s: seconds("--stalled-stream", self.stalled_stream, default.stalled_stream_s)?,
            send_buffer_bytes: size("--send-buffer", self.send_buffer, default.send_buffer_bytes, 4 << 10)?,
        })
    }
}

/// Seconds of waiting: at least one, at most a day.
fn seconds(name: &'static str, value: Option<u64>, default: u64) -> Result<u64, ConfigError> {
    within(name, value.unwrap_or(default), 1, 24 * 3600)
}

/// Bytes of a buffer: at least `min`, at most 16 MiB.
fn size(name: &'static str, value: Option<ByteSize>, default: usize, min: u64) -> Result<usize, ConfigError> {
    within(name, value.map_or(default as u64, |size| size.0), min, 16 << 20).map(|size| size as usize)
}

impl SecurityArgs {
    /// These values, and `others` where they are silent.
    fn or(self, others: Self) -> Self {
        Self {
            api_keys: self.api_keys.or(others.api_keys),
            profiles: self.profiles.or(others.profiles),
            allow_open: self.allow_open.or(others.allow_open),
            tls_cert: self.tls_cert.or(others.tls_cert),
            tls_key: self.tls_key.or(others.tls_key),
            tls_client_ca: self.tls_client_ca.or(others.tls_client_ca),
        }
    }

    /// Whether a stranger who reaches the address is turned away.
    fn asks_who(&self) -> bool {
        self.api_keys.is_some() || self.tls_client_ca.is_some()
    }

    fn tls_files(&self) -> Result<Option<TlsFiles>, ConfigError> {
        let half = |given, missing| Err(ConfigError::HalfTls { given, missing });
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                Ok(Some(TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: self.tls_client_ca.clone() }))
            }
            (Some(_), None) => half("--tls-cert", "--tls-key"),
            (None, Some(_)) => half("--tls-key", "--tls-cert"),
            (None, None) if self.tls_client_ca.is_some() => half("--tls-client-ca", "--tls-cert"),
            (None, None) => Ok(None),
        }
    }
}

impl ModelArgs {
    /// These values, and `others` where they are silent.
    fn or(self, others: Self) -> Self {
        Self {
            model: self.model.or(others.model),
            gpu: self.gpu.or(others.gpu),
            decode_graphs: self.decode_graphs.or(others.decode_graphs),
            batch_invariant: self.batch_invariant.or(others.batch_invariant),
            load_format: self.load_format.or(others.load_format),
            quantize: self.quantize.or(others.quantize),
            offline: self.offline.or(others.offline),
            max_model_len: self.max_model_len.or(others.max_model_len),
            max_num_seqs: self.max_num_seqs.or(others.max_num_seqs),
            kv_memory: self.kv_memory.or(others.kv_memory),
        }
    }

    /// What [`maze::open`] needs, with defaults for what was not said.
    ///
    /// # Errors
    /// [`ConfigError`], naming the first value that cannot be.
    pub fn open_options(&self, embedded: Option<EmbeddedModel>) -> Result<OpenOptions, ConfigError> {
        if let Some(gpu) = &self.gpu
            && !cfg!(feature = "cuda")
        {
            return Err(ConfigError::NoGpuSupport { gpu: gpu.clone() });
        }
        let source = match (&self.model, embedded) {
            (Some(name), _) => ModelSource::parse(name).map_err(Box::new).map_err(ConfigError::Model)?,
            (None, Some(embedded)) => ModelSource::Embedded(embedded),
            (None, None) => return Err(ConfigError::NoModel),
        };
        let source = match (self.load_format.unwrap_or_default(), source) {
            (LoadFormat::Auto, source) => source,
            (LoadFormat::Dummy, ModelSource::Path(folder)) if folder.is_dir() => ModelSource::Dummy(folder),
            (LoadFormat::Dummy, _) => return Err(ConfigError::DummyWithoutFolder),
        };
        self.options_over(source)
    }

    fn options_over(&self, source: ModelSource) -> Result<OpenOptions, ConfigError> {
        let mut options = OpenOptions::new(source);
        options.gpu = self.gpu.clone();
        options.quantize = self.quantize.map(Quantization::from);
        if !self.decode_graphs.unwrap_or(true) {
            options.decode_graphs = None;
        }
        options.batch_invariant = self.batch_invariant.unwrap_or(false);
        options.offline = self.offline.unwrap_or(false);
        options.context_len_max = optional("--max-model-len", self.max_model_len, 1 << 24)?;
        options.kv_bytes = self.kv_memory.map(|size| within("--kv-memory", size.0, 1 << 10, 1 << 50)).transpose()?;
        if let Some(num_seqs) = optional("--max-num-seqs", self.max_num_seqs, 4096)? {
            options.engine.num_seqs_max = num_seqs;
        }
        Ok(options)
    }
}

impl AuditArgs {
    /// These values, and `others` where they are silent.
    fn or(self, others: Self) -> Self {
        Self {
            audit_dir: self.audit_dir.or(others.audit_dir),
            audit_key: self.audit_key.or(others.audit_key),
            audit_fsync: self.audit_fsync.or(others.audit_fsync),
            audit_prompts: self.audit_prompts.or(others.audit_prompts),
            audit_segment_bytes: self.audit_segment_bytes.or(others.audit_segment_bytes),
        }
    }

    fn log(self) -> Result<Option<AuditConfig>, ConfigError> {
        let half = |given, missing| Err(ConfigError::HalfAudit { given, missing });
        let (dir, key) = match (&self.audit_dir, &self.audit_key) {
            (Some(dir), Some(key)) => (dir.clone(), key.clone()),
            (Some(_), None) => return half("--audit-dir", "--audit-key"),
            (None, Some(_)) => return half("--audit-key", "--audit-dir"),
            (None, None) if self == Self::default() => return Ok(None),
            (None, None) => return half("an option of the audit log", "--audit-dir"),
        };
        let mut config = AuditConfig::new(dir, key);
        config.fsync = self.audit_fsync.unwrap_or_default();
        config.prompts = self.audit_prompts.unwrap_or_default();
        if let Some(size) = self.audit_segment_bytes {
            config.segment_bytes = within("--audit-segment-bytes", size.0, 64 << 10, 1 << 40)?;
        }
        Ok(Some(config))
    }
}

impl CacheArgs {
    /// These values, and `others` where they are silent.
    fn or(self, others: Self) -> Self {
        Self {
            cache_dir: self.cache_dir.or(others.cache_dir),
            cache_url: self.cache_url.or(others.cache_url),
            cache_ca: self.cache_ca.or(others.cache_ca),
            cache_key: self.cache_key.or(others.cache_key),
            cache_disk_bytes: self.cache_disk_bytes.or(others.cache_disk_bytes),
            cache_entry_bytes: self.cache_entry_bytes.or(others.cache_entry_bytes),
            cache_timeout: self.cache_timeout.or(others.cache_timeout),
            cache_retry_after: self.cache_retry_after.or(others.cache_retry_after),
        }
    }

    fn tiers(self, is_offline: bool) -> Result<Option<CacheConfig>, ConfigError> {
        if self == Self::default() {
            return Ok(None);
        }
        if self.cache_dir.is_none() && self.cache_url.is_none() {
            return Err(ConfigError::HalfCache {
                given: "an option of the cache",
                missing: "--cache-dir or --cache-url",
            });
        }
        if self.cache_url.is_some() && self.cache_key.is_none() {
            return Err(ConfigError::HalfCache { given: "--cache-url", missing: "--cache-key" });
        }
        let redis: Option<RedisUrl> = self.cache_url.map(|url| url.0.parse()).transpose()?;
        if redis.as_ref().is_some_and(RedisUrl::is_tls) && self.cache_ca.is_none() {
            return Err(ConfigError::HalfCache { given: "rediss://", missing: "--cache-ca" });
        }
        if let Some(url) = redis.as_ref().filter(|url| is_offline && !url.is_loopback()) {
            return Err(ConfigError::OfflineCache { host: url.host() });
        }
        let default = CacheConfig::default();
        let entry_bytes_max = size("--cache-entry-bytes", self.cache_entry_bytes, default.entry_bytes_max, 1 << 10)?;
        let disk_bytes = self.cache_disk_bytes.map_or(default.disk_bytes_max, |size| size.0);
        let timeout_ms = self.cache_timeout.unwrap_or(default.redis_time_max.as_millis() as u64);
        let retry_after_s = self.cache_retry_after.unwrap_or(default.retry_after.as_secs());
        Ok(Some(CacheConfig {
            dir: self.cache_dir,
            redis,
            redis_ca: self.cache_ca,
            key: self.cache_key,
            entry_bytes_max,
            // Room for the largest entry, in whole blocks.
            disk_bytes_max: within("--cache-disk-bytes", disk_bytes, entry_bytes_max as u64 + (8 << 10), 1 << 50)?,
            redis_time_max: Duration::from_millis(within("--cache-timeout", timeout_ms, 1, 10_000)?),
            retry_after: Duration::from_secs(within("--cache-retry-after", retry_after_s, 1, 3600)?),
            ..default
        }))
    }
}

impl RemoteArgs {
    /// These values, and `others` where they are silent.
    fn or(self, others: Self) -> Self {
        Self {
            remote_url: self.remote_url.or(others.remote_url),
            remote_model: self.remote_model.or(others.remote_model),
            remote_service: self.remote_service.or(others.remote_service),
            remote_key_file: self.remote_key_file.or(others.remote_key_file),
            remote_ca: self.remote_ca.or(others.remote_ca),
            remote_timeout: self.remote_timeout.or(others.remote_timeout),
            remote_stall: self.remote_stall.or(others.remote_stall),
            remote_attempts: self.remote_attempts.or(others.remote_attempts),
            remote_max_answers: self.remote_max_answers.or(others.remote_max_answers),
        }
    }

    /// The remote model, if there is to be one.
    fn backend(self, local: &ModelArgs) -> Result<Option<BackendConfig>, ConfigError> {
        let flags = |given, what, other| Err(ConfigError::RemoteFlags { given, what, other });
        let Some(url) = &self.remote_url else {
            return match self == Self::default() {
                true => Ok(None),
                false => flags("an option of a remote model", "without", "--remote-url"),
            };
        };
        let Some(model) = self.remote_model.clone() else { return flags("--remote-url", "without", "--remote-model") };
        if local.model.is_some() {
            return flags("--remote-url", "together with", "--model");
        }
        if local.gpu.is_some() {
            return flags("--remote-url", "together with", "--gpu");
        }
        if local.quantize.is_some() {
            return flags("--remote-url", "together with", "--quantize");
        }
        let address = Address::parse(url);
        let address = address.map_err(|error| ConfigError::Remote { flag: "--remote-url", source: error.into() })?;
        if local.offline == Some(true) && !address.is_loopback() {
            return Err(ConfigError::OfflineRemote { host: address.host().to_owned() });
        }
        let default = BackendConfig::new(address, self.remote_service.unwrap_or_default().into(), model);
        let time = |flag, asked: Option<u64>, default: Duration| {
            seconds(flag, asked, default.as_secs()).map(Duration::from_secs)
        };
        let count = |flag, asked, default, max| {
            optional(flag, asked, max).map(|count| count.map_or(default, |count| count as u32))
        };
        Ok(Some(BackendConfig {
            key: self.remote_key_file.as_deref().map(read_key).transpose()?,
            authorities: self.remote_ca,
            timeout: time("--remote-timeout", self.remote_timeout, default.timeout)?,
            stall: time("--remote-stall", self.remote_stall, default.stall)?,
            num_attempts_max: count("--remote-attempts", self.remote_attempts, default.num_attempts_max, 100)?,
            num_answers_max: count("--remote-max-answers", self.remote_max_answers, default.num_answers_max, 1 << 16)?,
            ..default
        }))
    }
}

/// The key in a file; what the file says is in no error.
fn read_key(path: &Path) -> Result<Key, ConfigError> {
    let unreadable = |source| ConfigError::RemoteKey { path: path.into(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Key::new(&text).map_err(|error| ConfigError::Remote { flag: "--remote-key-file", source: error.into() })
}

impl LimitsTable {
    fn apply(&self, options: &mut OpenOptions) -> Result<(), ConfigError> {
        let maze: &mut MazeConfig = &mut options.maze;
        if let Some(size) = self.prompt_bytes {
            maze.prompt_bytes_max = within("limits.prompt_bytes", size.0, 1, 1 << 30)? as usize;
        }
        if let Some(count) = self.choices {
            maze.num_choices_max = within("limits.choices", count.into(), 1, 4096)? as u32;
        }
        if let Some(count) = optional("limits.constraints", self.constraints, 1024)? {
            maze.num_irs_max = count;
        }
        if let Some(count) = optional("limits.rules", self.rules, 1 << 16)? {
            maze.num_rules_max = count;
        }
        if let Some(size) = self.description_bytes {
            maze.description_bytes_max = within("limits.description_bytes", size.0, 1, 1 << 20)? as usize;
        }
        if let Some(count) = self.default_max_tokens {
            maze.max_tokens_default = within("limits.default_max_tokens", count.into(), 1, 1 << 24)? as u32;
        }
        if let Some(count) = optional("limits.queue_len", self.queue_len, 1 << 20)? {
            options.engine.queue_len_max = count;
        }
        self.apply_compiling(maze)
    }

    fn apply_compiling(&self, maze: &mut MazeConfig) -> Result<(), ConfigError> {
        if let Some(count) = optional("limits.compile_threads", self.compile_threads, 1024)? {
            maze.num_compile_threads = count;
        }
        if let Some(count) = optional("limits.compile_queue_len", self.compile_queue_len, 1 << 20)? {
            maze.compile_queue_len_max = count;
        }
        if let Some(seconds) = self.compile_wait_s {
            maze.compile_wait_max = Duration::from_secs(within("limits.compile_wait_s", seconds, 1, 3600)?);
        }
        if let Some(limit_ms) = self.compile_ms_per_minute {
            maze.compile_ms_per_minute = Some(within("limits.compile_ms_per_minute", limit_ms, 1, 1 << 32)?);
        }
        if let Some(count) = optional("limits.cached_constraints", self.cached_constraints, 1 << 20)? {
            maze.num_cached_constraints_max = count;
        }
        if let Some(size) = self.cached_constraint_bytes {
            let size = within("limits.cached_constraint_bytes", size.0, 1 << 20, 1 << 50)?;
            maze.cached_constraint_bytes_max = size as usize;
        }
        Ok(())
    }
}

fn within(name: &'static str, value: u64, min: u64, max: u64) -> Result<u64, ConfigError> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(ConfigError::OutOfRange { name, value, min, max }) }
}

/// A count that is at least 1 where it is given.
fn optional(name: &'static str, value: Option<usize>, max: u64) -> Result<Option<usize>, ConfigError> {
    value.map(|value| within(name, value as u64, 1, max).map(|value| value as usize)).transpose()
}

/// An address to listen on: never a name, so that no look-up leaves the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Host(pub IpAddr);

impl Default for Host {
    fn default() -> Self {
        Self(Ipv4Addr::LOCALHOST.into())
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "localhost" => Ok(Self::default()),
            _ => {
                text.parse().map(Self).map_err(|_| format!("`{text}` is not an IP address; 0.0.0.0 listens everywhere"))
            }
        }
    }
}

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A number of bytes: `1048576`, `"512MiB"`, `"2GiB"`, `"2GB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WireSize")]
pub struct ByteSize(pub u64);

/// A size in TOML: a number, or text with a unit.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number of bytes, or text such as \"2GiB\"")]
enum WireSize {
    Bytes(u64),
    Text(String),
}

impl TryFrom<WireSize> for ByteSize {
    type Error = String;

    fn try_from(size: WireSize) -> Result<Self, String> {
        match size {
            WireSize::Bytes(bytes) => Ok(Self(bytes)),
            WireSize::Text(text) => text.parse(),
        }
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, u64); 8] = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
            ("KB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("B", 1),
        ];
        let (number, unit) =
            UNITS.iter().find_map(|(name, bytes)| Some((text.strip_suffix(name)?, *bytes))).unwrap_or((text, 1));
        let number = number.trim_end().parse::<u64>().ok();
        number.and_then(|number| number.checked_mul(unit)).map(Self).ok_or_else(|| {
            format!("`{text}` is no size; write bytes, or a whole number with KiB, MiB, GiB, KB, MB or GB")
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GraphConfig;

    const EMBEDDED: EmbeddedModel = EmbeddedModel {
        name: "nothing",
        config: b"",
        generation_config: b"",
        tokenizer: b"",
        tokenizer_config: b"",
        weights: b"",
    };

    fn config(flags: &[&str], file: Option<&str>) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut args = ServeArgs::try_parse_from([&["ananke-serve"], flags].concat()).expect("well-formed flags");
        if let Some(text) = file {
            let path = folder.path().join("ananke.toml");
            std::fs::write(&path, text).expect("the temporary folder is writable");
            args.config = Some(path);
        }
        args.into_config(Some(EMBEDDED))
    }

    #[test]
    fn defaults_serve_the_embedded_model_on_loopback() {
        let config = config(&[], None).expect("defaults are in range");
        assert_eq!((config.host.to_string().as_str(), config.port), ("127.0.0.1", 8000));
        assert!(matches!(config.open.source, ModelSource::Embedded(_)));
        assert_eq!(config.server, ServerConfig::default());
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "[server]\nport = 1\nhost = \"0.0.0.0\"\nread_timeout = 7\n[security]\nallow_open = true\n[model]\nkv_memory = \"2GiB\"\nmax_num_seqs = 3\n\
                    [limits]\nchoices = 5\n";
        let flags = ["--port", "2", "--offline", "--max-body", "1MiB", "--max-headers", "9"];
        let config = config(&flags, Some(file)).expect("in range");
        assert_eq!((config.host.to_string().as_str(), config.port), ("0.0.0.0", 2));
        assert_eq!((config.open.kv_bytes, config.open.engine.num_seqs_max), (Some(2 << 30), 3));
        assert_eq!((config.open.maze.num_choices_max, config.server.max_body_bytes), (5, 1 << 20));
        assert_eq!((config.server.read_timeout_s, config.server.max_headers), (7, 9));
        assert!(config.open.offline);
    }

    #[test]
    fn what_cannot_be_is_an_error_that_names_it() {
        for (flags, file, named) in [
            (&["--max-num-seqs", "0"][..], None, "--max-num-seqs"),
            (&["--max-body", "1"], None, "--max-body"),
            (&["--model", "no/such/model"], None, "no/such/model"),
            (&["--max-header-bytes", "8191"], None, "--max-header-bytes"),
            (&["--read-timeout", "0"], None, "--read-timeout"),
            (&["--stalled-stream", "86401"], None, "--stalled-stream"),
            (&["--api-keys", "/no/such/keys.toml"], None, "/no/such/keys.toml"),
            (&["--profiles", "/no/such/profiles.toml"], None, "/no/such/profiles.toml"),
            (&[], Some("[security]\napi_kys = \"keys.toml\"\n"), "api_kys"),
            (&[], Some("[server]\nprot = 1\n"), "prot"),
            (&[], Some("[sever]\n"), "sever"),
            (&[], Some("[model]\nkv_memory = \"2 bananas\"\n"), "2 bananas"),
            (&[], Some("[server]\nhost = \"example.org\"\n"), "example.org"),
            (&["--tls-cert", "a.pem"], None, "--tls-key"),
            (&["--tls-key", "a.pem"], None, "--tls-cert"),
            (&["--tls-client-ca", "a.pem"], None, "--tls-cert"),
            (&["--tls-cert", "/no/such/cert.pem", "--tls-key", "a.pem"], None, "/no/such/cert.pem"),
            (&["--audit-dir", "log"], None, "--audit-key"),
            (&["--audit-key", "key"], None, "--audit-dir"),
            (&["--audit-prompts", "text"], None, "--audit-dir"),
            (
                &["--audit-dir", "log", "--audit-key", "key", "--audit-segment-bytes", "1"],
                None,
                "--audit-segment-bytes",
            ),
            (&[], Some("[audit]\nfsync = \"sometimes\"\n"), "sometimes"),
            (&["--cache-url", "redis://127.0.0.1"], None, "--cache-key"),
            (&["--cache-key", "key"], None, "--cache-dir"),
            (&["--cache-url", "rediss://127.0.0.1", "--cache-key", "key"], None, "--cache-ca"),
            (&["--cache-dir", "cache", "--cache-timeout", "0"], None, "--cache-timeout"),
            (&["--cache-dir", "cache", "--cache-disk-bytes", "1"], None, "--cache-disk-bytes"),
            (&["--offline", "--cache-url", "redis://redis.lan", "--cache-key", "key"], None, "redis.lan:6379"),
            (&[], Some("[cache]\nurl = \"http://127.0.0.1\"\nkey = \"key\"\n"), "redis://"),
            (&["--config", "/no/such/file.toml"], None, "/no/such/file.toml"),
            (&["--remote-url", "http://127.0.0.1:1/v1"], None, "--remote-model"),
            (&["--remote-model", "m"], None, "--remote-url"),
            (&["--remote-url", "127.0.0.1:1", "--remote-model", "m"], None, "http://"),
            (&["--remote-url", "http://a", "--remote-model", "m", "--model", "b/c"], None, "--model"),
            (&["--remote-url", "http://a", "--remote-model", "m", "--offline"], None, "--offline"),
            (&["--remote-url", "http://a", "--remote-model", "m", "--quantize", "q8_0"], None, "--quantize"),
            (&[], Some("[model]\nquantize = \"q3\"\n"), "q3"),
            (&["--remote-url", "http://a", "--remote-model", "m", "--remote-timeout", "0"], None, "--remote-timeout"),
            (&["--remote-url", "http://a", "--remote-model", "m", "--remote-key-file", "/no/key"], None, "/no/key"),
            (&[], Some("[remote]\nurl = \"http://a\"\nmodel = \"m\"\nservice = \"gpt\"\n"), "gpt"),
            (&["--otlp-endpoint", "127.0.0.1:4318/v1/traces"], None, "--otlp-endpoint"),
            (&["--otlp-endpoint", "http://127.0.0.1:4318"], None, "no path"),
            (&["--otlp-endpoint", "http://a/v1/traces?key=1"], None, "no query"),
            (&["--otlp-ca", "ca.pem"], None, "--otlp-endpoint"),
            (&["--offline", "--otlp-endpoint", "http://localhost:4318/v1/traces"], None, "localhost:4318"),
            (&[], Some("[server]\notlp_endpoint = 4318\n"), "otlp_endpoint"),
            (&[], Some("[server]\notlp_endpiont = \"http://127.0.0.1/v1/traces\"\n"), "otlp_endpiont"),
        ] {
            let error = config(flags, file).expect_err(named);
            assert!(error.to_string().contains(named), "{error}");
            assert!(!error.hint().is_empty());
        }
    }

    #[test]
    fn beyond_this_machine_only_with_keys_or_when_told_so() {
        for host in ["0.0.0.0", "::", "192.0.2.1"] {
            let error = config(&["--host", host], None).expect_err("anyone could use it");
            assert!(matches!(error, ConfigError::OpenToOthers { .. }) && error.to_string().contains(host), "{error}");
            assert!(error.hint().contains("--allow-open"));
            assert!(config(&["--host", host, "--allow-open"], None).is_ok_and(|config| config.keys.is_none()));
        }
        assert!(config(&["--host", "::1"], None).is_ok());
        let keys = tempfile::NamedTempFile::new().expect("a temporary file");
        let key = crate::server::NewKey::generate("ci", &[crate::server::Scope::Generate]).expect("a key");
        std::fs::write(keys.path(), key.entry).expect("it can be written");
        let path = keys.path().to_str().expect("a path in UTF-8");
        assert!(config(&["--host", "0.0.0.0", "--api-keys", path], None).is_ok_and(|config| config.keys.is_some()));
    }

    #[test]
    fn spans_are_off_unless_a_collector_is_named() {
        assert_eq!(config(&[], None).expect("defaults are in range").otlp, None);
        let file = "[server]\notlp_endpoint = \"http://127.0.0.1:1/v1/traces\"\notlp_ca = \"ca.pem\"\n[model]\noffline = true\n";
        let flags = ["--otlp-endpoint", "http://[::1]:4318/v1/traces"];
        for (flags, host) in [(&[][..], "127.0.0.1:1"), (&flags[..], "[::1]:4318")] {
            let otlp = config(flags, Some(file)).expect("in range").otlp.expect("it was named");
            assert_eq!((otlp.endpoint.host(), otlp.authorities), (host, Some("ca.pem".into())));
        }
    }

    #[test]
    fn the_audit_log_is_off_unless_it_is_asked_for() {
        assert_eq!(config(&[], None).expect("defaults are in range").audit, None);
        let file = "[audit]\ndir = \"log\"\nkey = \"key\"\nfsync = \"interval:20\"\nprompts = \"text\"\n";
        let flags = ["--audit-fsync", "always", "--audit-segment-bytes", "1MiB"];
        let audit = config(&flags, Some(file)).expect("in range").audit.expect("it was asked for");
        assert_eq!(
            (audit.fsync, audit.prompts, audit.segment_bytes),
            (FsyncPolicy::Always, PromptPolicy::Text, 1 << 20)
        );
        let audit = config(&[], Some(file)).expect("in range").audit.expect("it was asked for");
        assert_eq!(audit.fsync, FsyncPolicy::Interval(Duration::from_millis(20)));
    }

    #[test]
    fn a_remote_model_is_off_unless_it_is_named_and_its_key_is_shown_nowhere() {
        let key = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(key.path(), "hunter2\n").expect("it can be written");
        let path = key.path().to_str().expect("a path in UTF-8");
        let file = format!(
            "[model]\noffline = true\n[remote]\nurl = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\nservice = \"vllm\"\n\
             key_file = \"{path}\"\nstall = 5\n"
        );
        let config = config(&["--remote-stall", "7"], Some(&file)).expect("in range");
        assert!(!format!("{config:?}").contains("hunter2"));
        let ModelSource::Remote(remote) = config.open.source else { panic!("a remote model was named") };
        assert_eq!((remote.service, remote.model.as_str()), (Service::Vllm, "m"));
        assert_eq!((remote.stall, remote.timeout), (Duration::from_secs(7), Duration::from_secs(300)));
        assert!(remote.key.is_some());
        std::fs::write(key.path(), "two words hunter2").expect("it can be written");
        let error = self::config(&[], Some(&file)).expect_err("it is no key");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }

    #[test]
    fn the_password_of_a_redis_is_in_no_error() {
        for file in [
            "[cache]\nkey = \"key\"\nurl = \"redis://:hunter2@host:port\"\n",
            "[cache]\nkey = \"key\"\nurl = \"redis://hunter2@host\"\n",
            "[cache]\nurl = \"redis://:hunter2@host\"\n",
            "[model]\noffline = true\n[cache]\nkey = \"key\"\nurl = \"redis://:hunter2@host\"\n",
        ] {
            let error = config(&[], Some(file)).expect_err("it cannot be used");
            assert!(!format!("{error} {error:?} {}", error.hint()).contains("hunter2"), "{error:?}");
        }
        let file = "[cache]\nkey = \"key\"\nurl = \"redis://:hunter2@127.0.0.1/3\"\ntimeout = 20\n";
        let config = config(&["--cache-dir", "folder"], Some(file)).expect("in range");
        assert!(!format!("{config:?}").contains("hunter2"));
        let cache = config.open.cache.expect("it was asked for");
        assert_eq!((cache.redis_time_max, cache.dir), (Duration::from_millis(20), Some("folder".into())));
        assert_eq!(cache.redis.map(|url| url.host()).as_deref(), Some("127.0.0.1:6379"));
    }

    #[test]
    fn weights_are_made_up_for_a_folder_alone() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models/ananke-nano");
        let made_up = config(&["--load-format", "dummy", "--model", folder], None).expect("a folder is given");
        assert!(matches!(made_up.open.source, ModelSource::Dummy(_)));
        let error = config(&["--load-format", "dummy"], None).expect_err("the embedded model has weights");
        assert!(matches!(error, ConfigError::DummyWithoutFolder));
    }

    #[test]
    fn weights_are_rounded_only_where_it_is_asked_for() {
        assert_eq!(config(&[], None).expect("defaults are in range").open.quantize, None);
        let file = Some("[model]\nquantize = \"q4_k\"\n");
        assert_eq!(config(&[], file).expect("in range").open.quantize, Some(Quantization::Q4K));
        let flags = ["--quantize", "q8_0"];
        assert_eq!(config(&flags, file).expect("in range").open.quantize, Some(Quantization::Q8_0));
    }

    #[test]
    fn decode_graphs_are_recorded_unless_it_is_said() {
        let graphs = |flags: &[&str], file| config(flags, file).expect("in range").open.decode_graphs;
        assert_eq!(graphs(&[], None), Some(GraphConfig::default()));
        assert_eq!(graphs(&["--decode-graphs=false"], None), None);
        assert_eq!(graphs(&[], Some("[model]\ndecode_graphs = false\n")), None);
        assert!(graphs(&["--decode-graphs"], Some("[model]\ndecode_graphs = false\n")).is_some());
    }

    #[test]
    fn batch_invariance_is_taken_on_the_cpu_too() {
        let is_asked_for = |flags: &[&str], file| config(flags, file).expect("in range").open.batch_invariant;
        assert!(!is_asked_for(&[], None));
        assert!(is_asked_for(&["--batch-invariant"], None));
        assert!(is_asked_for(&[], Some("[model]\nbatch_invariant = true\n")));
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_gpu_without_cuda_is_an_error_that_says_what_to_do() {
        let error = config(&["--gpu", "0"], None).expect_err("this build has no CUDA");
        assert!(matches!(error, ConfigError::NoGpuSupport { gpu: GpuId::Index(0) }));
        assert!(error.hint().contains("--features cuda"));
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("7", 7), ("7B", 7), ("2GiB", 2 << 30), ("3 MB", 3_000_000), ("1KiB", 1024)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1", "1.5GiB", "2gib", "99999999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
