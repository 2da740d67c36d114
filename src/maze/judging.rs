//! Finished texts of requests, judged under constraints that compile as those of any request do.

use std::sync::Arc;
use std::time::Instant;

use super::backend::Backend;
use super::judge::{Judge, JudgeConfig, Judged};
use super::{Bindings, Error, Maze, beside, remote};
use crate::constraint::ConstraintIr;

/// Texts, and what binds each of them.
#[derive(Debug)]
pub struct JudgeRequest {
    /// The texts, each a finished output after an empty prompt.
    pub texts: Vec<String>,
    /// All of it holds for each.
    pub bindings: Bindings,
    /// Seeds the random split.
    pub seed: u64,
    /// Whose account pays for compiling.
    pub client: Option<super::Client>,
}

impl Maze {
    /// Judges each text, as `ananke validate` does, and names parts as whoever wrote the bindings knows them; `held` is
    /// dropped when the work has ended.
    ///
    /// # Errors
    /// [`Error::TextTooLarge`] where the texts have more than `judged_bytes_max` together, a constraint that cannot be
    /// compiled, [`Error::RemoteUnsupported`] for one on the tokens of a remote model, or [`Error::JudgeTimeout`].
    pub async fn judge<H: Send + 'static>(&self, request: JudgeRequest, held: H) -> Result<Vec<Judged>, Error> {
        let (size, limit) = (request.texts.iter().map(String::len).sum(), self.inner.config.judged_bytes_max);
        if size > limit {
            return Err(Error::TextTooLarge { size, limit });
        }
        let JudgeRequest { texts, bindings, seed, client } = request;
        let bindings = Arc::new(bindings);
        let (maze, own) = (self.clone(), bindings.clone());
        let (irs, lookup) = beside(move || {
            let pool = &maze.inner.constraints;
            let irs = pool.judging(client.as_ref(), |judge| {
                own.irs(judge).map_err(|(field, fault)| Error::Binding { field, fault })
            })?;
            if let Backend::Remote(_) = &maze.inner.backend {
                let mut fields = irs.iter().enumerate();
                fields.try_for_each(|(index, ir)| remote::check_constraint(ir, own.field_name(index)))?;
            }
            let irs = Arc::<[ConstraintIr]>::from(irs);
            let lookup = pool.look_up(&irs, client.as_ref()).map_err(|error| named(error, &own))?;
            Ok((irs, lookup))
        })
        .await?;
        let compiled = self.inner.constraints.wait(lookup).await.map_err(|error| named(error, &bindings))?;
        let maze = self.clone();
        beside(move || {
            let _held = held;
            let config = &maze.inner.config;
            let deadline = Instant::now() + config.judge_time_max;
            let judge = maze.inner.judge.get_or_init(|| {
                let judge = JudgeConfig { text_bytes_max: config.judged_bytes_max, ..JudgeConfig::default() };
                Judge::over(maze.inner.constraints.guide().clone(), maze.inner.tokenizer.clone(), &judge)
            });
            let verdicts = texts.iter().map(|text| {
                let judged = judge.judge_compiled(&compiled, &irs, text, seed, Some(deadline))?;
                match Instant::now() > deadline {
                    true => Err(Error::JudgeTimeout { limit_ms: config.judge_time_max.as_millis() as u64 }),
                    false => Ok(judged.map_parts(|part| bindings.part_name(part))),
                }
            });
            verdicts.collect()
        })
        .await
    }
}

/// The error with its parts named as in the bindings.
fn named(error: Error, bindings: &Bindings) -> Error {
    match error {
        Error::Guide(error) => Error::Guide(error.map_parts(|part| bindings.part_name(part))),
        error => error,
    }
}
