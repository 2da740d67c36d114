//! Finished texts of requests, judged under constraints that compile as those of any request do.

use std::sync::Arc;
use std::time::Instant;

use super::judge::{Judge, JudgeConfig, Judged};
use super::{Error, Maze, beside};
use crate::constraint::ConstraintIr;

/// Texts, and what binds each of them.
#[derive(Clone, Debug)]
pub struct JudgeRequest {
    /// The texts, each a finished output after an empty prompt.
    pub texts: Vec<String>,
    /// All of these hold for each.
    pub irs: Vec<ConstraintIr>,
    /// Seeds the random split.
    pub seed: u64,
    /// Whose account pays for compiling.
    pub client: Option<Arc<str>>,
}

impl Maze {
    /// Judges each text, as `ananke validate` does; `held` is dropped when the work has ended.
    ///
    /// # Errors
    /// [`Error::TextTooLarge`] where the texts have more than `judged_bytes_max` together, a constraint that cannot be
    /// compiled, or [`Error::JudgeTimeout`].
    pub async fn judge<H: Send + 'static>(&self, request: JudgeRequest, held: H) -> Result<Vec<Judged>, Error> {
        let (size, limit) = (request.texts.iter().map(String::len).sum(), self.inner.config.judged_bytes_max);
        if size > limit {
            return Err(Error::TextTooLarge { size, limit });
        }
        let (maze, irs) = (self.clone(), Arc::<[ConstraintIr]>::from(request.irs));
        let client = request.client;
        let lookup = {
            let (maze, irs) = (maze.clone(), irs.clone());
            beside(move || maze.inner.constraints.look_up(&irs, client.as_ref())).await?
        };
        let compiled = self.inner.constraints.wait(lookup).await?;
        beside(move || {
            let _held = held;
            let config = &maze.inner.config;
            let deadline = Instant::now() + config.judge_time_max;
            let judge = maze.inner.judge.get_or_init(|| {
                let judge = JudgeConfig { text_bytes_max: config.judged_bytes_max, ..JudgeConfig::default() };
                Judge::over(maze.inner.constraints.guide().clone(), maze.inner.tokenizer.clone(), &judge)
            });
            let verdicts = request.texts.iter().map(|text| {
                let judged = judge.judge_compiled(&compiled, &irs, text, request.seed, Some(deadline))?;
                match Instant::now() > deadline {
                    true => Err(Error::JudgeTimeout { limit_ms: config.judge_time_max.as_millis() as u64 }),
                    false => Ok(judged),
                }
            });
            verdicts.collect()
        })
        .await
    }
}
