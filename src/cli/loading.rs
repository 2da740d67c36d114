//! How far a model has been loaded, for whoever watches: a bar on a terminal, else lines in the log.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::model::{LoadProgress, LoadReport};

/// How long loading goes on before anything is said of it: a small model needs no bar.
const QUIET_FOR: Duration = Duration::from_secs(1);

/// What commands give [`OpenOptions::progress`](crate::maze::OpenOptions): it writes to standard error, or to the log where
/// that is no terminal.
#[must_use]
pub fn load_progress() -> Arc<dyn LoadProgress> {
    match std::io::stderr().is_terminal() {
        true => Arc::new(Bar::new(ProgressDrawTarget::stderr())),
        false => Arc::new(Quarters::new(QUIET_FOR, |line| tracing::info!("{line}"))),
    }
}

/// A bar that is gone when the model is there, or when it will not be.
#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    started: Instant,
}

impl Bar {
    fn new(target: ProgressDrawTarget) -> Self {
        Self { bar: ProgressBar::with_draw_target(None, target), started: Instant::now() }
    }
}

impl LoadProgress for Bar {
    fn advance(&self, done: u64, total: Option<u64>) {
        if self.started.elapsed() < QUIET_FOR {
            return;
        }
        if self.bar.length() != total || total.is_none() {
            let template = match total {
                Some(_) => "loading {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}",
                None => "loading {spinner} {bytes}, {bytes_per_sec}",
            };
            let style = ProgressStyle::with_template(template);
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            if let Some(total) = total {
                self.bar.set_length(total);
            }
        }
        self.bar.set_position(done);
    }

    fn finish(&self, _report: &LoadReport) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line when a quarter, half and three quarters have been read. That it is done, the log says by itself.
struct Quarters<F> {
    quiet_for: Duration,
    started: Instant,
    /// Quarters that were passed.
    passed: AtomicU64,
    say: F,
}

impl<F> Quarters<F> {
    fn new(quiet_for: Duration, say: F) -> Self {
        Self { quiet_for, started: Instant::now(), passed: AtomicU64::new(0), say }
    }
}

impl<F> std::fmt::Debug for Quarters<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quarters").field("passed", &self.passed).finish_non_exhaustive()
    }
}

impl<F: Fn(String) + Send + Sync> LoadProgress for Quarters<F> {
    fn advance(&self, done: u64, total: Option<u64>) {
        let Some(total) = total.filter(|total| *total > 0) else { return };
        let passed = (4 * u128::from(done) / u128::from(total)).min(3) as u64;
        let duration = self.started.elapsed();
        if passed > self.passed.swap(passed, Relaxed) && duration >= self.quiet_for {
            (self.say)(format!("loading, {} %: {}", 25 * passed, LoadReport { num_bytes: done, duration }));
        }
    }

    fn finish(&self, _report: &LoadReport) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn each_quarter_is_said_once() {
        let lines = Mutex::new(Vec::new());
        let quarters = Quarters::new(Duration::ZERO, |line: String| lines.lock().expect("nobody panicked").push(line));
        for done in (0..=1000).step_by(10) {
            quarters.advance(done * 1_000_000, Some(1_000_000_000));
        }
        quarters.advance(7, None);
        let lines = lines.lock().expect("nobody panicked");
        let starts = ["loading, 25 %: 0.25 GB in ", "loading, 50 %: 0.50 GB in ", "loading, 75 %: 0.75 GB in "];
        assert_eq!(lines.len(), starts.len(), "{lines:?}");
        lines.iter().zip(starts).for_each(|(line, start)| assert!(line.starts_with(start), "{line}"));
    }

    #[test]
    fn a_model_that_is_there_at_once_is_not_talked_about() {
        let quarters = Quarters::new(Duration::from_secs(3600), |line: String| panic!("{line}"));
        (0..=4).for_each(|done| quarters.advance(done, Some(4)));
        let bar = Bar::new(ProgressDrawTarget::hidden());
        bar.advance(3, Some(4));
        assert_eq!((bar.bar.position(), bar.bar.length()), (0, None));
    }

    #[test]
    fn a_bar_shows_how_far_it_is_and_goes() {
        let mut bar = Bar::new(ProgressDrawTarget::hidden());
        bar.started -= QUIET_FOR;
        bar.advance(7, None);
        assert_eq!((bar.bar.position(), bar.bar.length()), (7, None));
        bar.advance(30, Some(40));
        assert_eq!((bar.bar.position(), bar.bar.length()), (30, Some(40)));
        let seen = bar.bar.clone();
        assert!(!seen.is_finished());
        drop(bar);
        assert!(seen.is_finished());
    }
}
