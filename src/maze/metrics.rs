//! What requests took and gave, as Prometheus families.
//!
//! Names are vLLM's where it has them, with `ananke_` in front. What a reply takes is recorded as it is made; what the
//! engine counts for itself is read when somebody asks. Sequences are counted one by one: a request with `n` choices
//! has `n`.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as HistogramProto, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts};

use super::backend::Backend;
use super::{FinishReason, Maze};
use crate::engine::{Distribution, EngineStats};
use crate::remote::BackendStats;

/// Seconds until something can be seen: a decade in three steps, from a cached prefix to a long prompt on a CPU.
const LATENCY_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0];
/// Seconds between two tokens; forced ones come together.
const TOKEN_BUCKETS: &[f64] = &[0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Seconds of a compile.
const COMPILE_BUCKETS: &[f64] = &[0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 60.0];

/// What is recorded while replies are made.
pub(super) struct Metrics {
    pub(super) time_to_first_token: Histogram,
    pub(super) inter_token_latency: Histogram,
    e2e_request_latency: Histogram,
    pub(super) prompt_tokens: IntCounter,
    pub(super) generation_tokens: IntCounter,
    request_success: IntCounterVec,
    dead_ends: IntCounter,
}

impl Default for Metrics {
    fn default() -> Self {
        let counter = |name, help| IntCounter::new(name, help).expect("the name is valid");
        let reasons = Opts::new("ananke_request_success_total", "Sequences that came to an end, by why.");
        Self {
            time_to_first_token: histogram(
                "ananke_time_to_first_token_seconds",
                "From the arrival of a request to the first token of a sequence, waiting and compiling included.",
                LATENCY_BUCKETS,
            ),
            inter_token_latency: histogram(
                "ananke_inter_token_latency_seconds",
                "From one token of a sequence to the next, as the reply takes them.",
                TOKEN_BUCKETS,
            ),
            e2e_request_latency: histogram(
                "ananke_e2e_request_latency_seconds",
                "From the arrival of a request to the end of a sequence.",
                LATENCY_BUCKETS,
            ),
            prompt_tokens: counter("ananke_prompt_tokens_total", "Tokens of the prompts of admitted requests."),
            generation_tokens: counter("ananke_generation_tokens_total", "Tokens generated for replies."),
            request_success: IntCounterVec::new(reasons, &["finished_reason"]).expect("the name is valid"),
            dead_ends: counter("ananke_dead_ends_total", "Sequences that no token could continue."),
        }
    }
}

impl Metrics {
    /// Books the end of a sequence.
    pub(super) fn finished(&self, reason: FinishReason, took: Duration) {
        self.e2e_request_latency.observe(took.as_secs_f64());
        self.request_success.with_label_values(&[reason.as_str()]).inc();
        if reason == FinishReason::DeadEnd {
            self.dead_ends.inc();
        }
    }

    fn families(&self) -> Vec<MetricFamily> {
        let histograms = [&self.time_to_first_token, &self.inter_token_latency, &self.e2e_request_latency];
        let counters = [&self.prompt_tokens, &self.generation_tokens, &self.dead_ends];
        let histograms = histograms.into_iter().flat_map(|histogram| histogram.collect());
        let counters = counters.into_iter().flat_map(|counter| counter.collect());
        histograms.chain(counters).chain(self.request_success.collect()).collect()
    }
}

/// The histogram of compile times, for the pool that compiles.
pub(super) fn compile_seconds() -> Histogram {
    let help = "Compiles of constraints, refused ones and probes included.";
    histogram("ananke_constraint_compile_seconds", help, COMPILE_BUCKETS)
}

impl Maze {
    /// All figures now, as Prometheus families; families without a value are left out.
    #[must_use]
    pub fn metrics(&self) -> Vec<MetricFamily> {
        let mut families = self.inner.metrics.families();
        families.extend(self.inner.constraints.compile_seconds().collect());
        families.extend(self.inner.constraints.kept().metrics());
        families.extend(match &self.inner.backend {
            Backend::Local(engine) => engine_families(engine.stats()),
            Backend::Remote(remote) => remote_families(&remote.stats()),
        });
        families.extend(self.constraint_families());
        families.retain(|family| !family.get_metric().is_empty());
        families
    }

    fn constraint_families(&self) -> Vec<MetricFamily> {
        let now = self.inner.constraints.stats();
        vec![
            counter("ananke_constraint_cache_hits_total", "Constraints that were found compiled.", now.hits),
            counter("ananke_constraint_cache_misses_total", "Constraints that had to be compiled.", now.misses),
            counter("ananke_constraint_compile_joins_total", "Requests that joined a compile under way.", now.waits),
            gauge("ananke_constraint_cache_bytes", "Constraints that are kept, by estimate.", now.cached_bytes as f64),
            gauge("ananke_constraint_compiles_pending", "Compiles under way or waiting.", now.pending as f64),
        ]
    }
}

fn engine_families(engine: &EngineStats) -> Vec<MetricFamily> {
    let now = engine.snapshot();
    let used = now.blocks_total - now.blocks_free.min(now.blocks_total);
    let usage = used as f64 / now.blocks_total.max(1) as f64;
    vec![
        gauge("ananke_num_requests_running", "Sequences that hold KV blocks.", now.running as f64),
        gauge("ananke_num_requests_waiting", "Sequences that wait for KV blocks.", now.waiting as f64),
        gauge("ananke_kv_cache_usage_ratio", "Share of the KV blocks that sequences hold, 0 to 1.", usage),
        counter("ananke_prefill_tokens_total", "Prompt tokens computed.", now.prefill_tokens),
        counter(
            "ananke_prefix_cache_hit_tokens_total",
            "Prompt tokens found in the prefix cache.",
            now.prefix_hit_tokens,
        ),
        counter(
            "ananke_num_preemptions_total",
            "Sequences that lost their KV blocks and began again.",
            now.preemptions,
        ),
        counter("ananke_engine_restarts_total", "Steps that failed, and all sequences with them.", now.restarts),
        counter(
            "ananke_forced_tokens_total",
            "Tokens appended without sampling, as the constraint determines them.",
            now.forced_tokens,
        ),
        counter(
            "ananke_retracted_tokens_total",
            "Tokens taken back before they were sent, as no end was within reach.",
            now.retracted_tokens,
        ),
        counter("ananke_masks_late_total", "Masks that came after their step.", now.masks_late),
        counter("ananke_graph_replays_total", "Steps that a GPU ran as recorded graphs.", now.graph_replays),
        counter(
            "ananke_steps_ahead_total",
            "Forward passes that a GPU began before the last tokens were known.",
            now.steps_ahead,
        ),
        eager_steps(engine),
        distribution("ananke_mask_seconds", "Computing one mask.", &engine.mask_time(), 1e-9),
        distribution("ananke_batch_size", "Sequences in one step.", &engine.step_len(), 1.0),
    ]
}

/// Why steps on a GPU were no replays.
fn eager_steps(engine: &EngineStats) -> MetricFamily {
    let help = "Steps that a GPU ran launch by launch, by why.";
    let metrics = engine.eager_steps().map(|(reason, num_steps)| {
        let mut counter = Counter::default();
        counter.set_value(num_steps as f64);
        let mut label = LabelPair::default();
        label.set_name("reason".into());
        label.set_value(reason.as_str().into());
        let mut metric = Metric::default();
        metric.set_label(vec![label]);
        metric.set_counter(counter);
        metric
    });
    family("ananke_eager_steps_total", help, MetricType::COUNTER, metrics.collect())
}

fn remote_families(now: &BackendStats) -> Vec<MetricFamily> {
    let answers = "Answers of the remote model that are under way.";
    let left_alone = "1 while the remote model keeps failing and is not asked, else 0.";
    vec![
        counter("ananke_remote_attempts_total", "Times that the remote model was asked.", now.num_attempts),
        counter("ananke_remote_failures_total", "Of them, those that gave no whole answer.", now.num_failed),
        gauge("ananke_remote_answers_running", answers, now.num_answers as f64),
        gauge("ananke_remote_left_alone", left_alone, f64::from(u8::from(now.is_left_alone))),
    ]
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    Histogram::with_opts(options).expect("the name is valid and the buckets ascend")
}

fn counter(name: &str, help: &str, value: u64) -> MetricFamily {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    family(name, help, MetricType::COUNTER, vec![metric])
}

fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::default();
    metric.set_gauge(gauge);
    family(name, help, MetricType::GAUGE, vec![metric])
}

/// What the engine counted in buckets, times `unit`.
fn distribution(name: &str, help: &str, values: &Distribution, unit: f64) -> MetricFamily {
    let mut num_values = 0;
    let mut buckets = Vec::with_capacity(values.counts.len());
    for &(bound, count) in &values.counts {
        num_values += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound as f64 * unit);
        bucket.set_cumulative_count(num_values);
        buckets.push(bucket);
    }
    let mut histogram = HistogramProto::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(num_values + values.num_larger);
    histogram.set_sample_sum(values.sum as f64 * unit);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    family(name, help, MetricType::HISTOGRAM, vec![metric])
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
