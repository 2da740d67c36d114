//! A maze without weights: the embedded model's tokenizer, a model whose logits are noise, and everything else for real.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::PathBuf;
use std::time::Duration;

use ananke::constraint::Digest;
use ananke::engine::{Engine, EngineConfig};
use ananke::guide::{Guide, GuideConfig};
use ananke::maze::{Maze, MazeConfig, ModelCard};
use ananke::model::ScriptedModel;
use ananke::text::{ConfigFiles, Tokenizer, TokenizerConfig};

pub(crate) const CONTEXT_LEN: usize = 512;

/// A maze whose steps take at least so long.
pub(crate) fn maze(time_per_step: Duration, engine: EngineConfig) -> Maze {
    Build { context_len: CONTEXT_LEN, has_template: false, time_per_step }.maze(
        &read("tokenizer.json"),
        engine,
        MazeConfig::default(),
    )
}

/// The same with another tokenizer.json.
pub(crate) fn maze_reading(tokenizer: &[u8], time_per_step: Duration, engine: EngineConfig) -> Maze {
    let build = Build { context_len: CONTEXT_LEN, has_template: false, time_per_step };
    build.maze(tokenizer, engine, MazeConfig::default())
}

/// A maze with the embedded model's chat template, and a window that holds tools.
pub(crate) fn chat_maze(config: MazeConfig) -> Maze {
    let build = Build { context_len: 4 * CONTEXT_LEN, has_template: true, time_per_step: Duration::ZERO };
    build.maze(&read("tokenizer.json"), EngineConfig::default(), config)
}

fn read(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano");
    std::fs::read(folder.join(name)).expect("the model's files come with the source")
}

struct Build {
    context_len: usize,
    has_template: bool,
    time_per_step: Duration,
}

impl Build {
    fn maze(self, tokenizer: &[u8], engine: EngineConfig, maze: MazeConfig) -> Maze {
        let (config, tokenizer_config) = (read("config.json"), read("tokenizer_config.json"));
        let tokenizer_config = self.has_template.then_some(tokenizer_config.as_slice());
        let files = ConfigFiles { config: Some(&config), tokenizer_config, ..ConfigFiles::default() };
        let vocab_len = 4160;
        let config =
            TokenizerConfig { num_rows: Some(vocab_len), ..TokenizerConfig::from_files(&files).expect("configs") };
        let tokenizer = Tokenizer::from_json(tokenizer, config).expect("a tokenizer");
        let guide = Guide::new(tokenizer.vocabulary().clone(), GuideConfig::default()).expect("a guide");
        let model = ScriptedModel::seeded(vocab_len, self.context_len, 3).with_time_per_step(self.time_per_step);
        let end_tokens = tokenizer.vocabulary().end_tokens().to_vec();
        let (engine, _) = Engine::start(Box::new(model), &end_tokens, engine).expect("an engine");
        let card = ModelCard {
            id: "scripted".into(),
            architecture: "scripted".into(),
            context_len: self.context_len,
            num_parameters: 0,
            weight_bytes: 0,
            quantization: None,
            vocab_len,
            tokenizer_digest: Digest::from_bytes(tokenizer.vocabulary().digest_bytes()),
            created: 0,
            embedded: false,
            has_chat_template: self.has_template,
        };
        Maze::new(engine, guide, tokenizer, card, maze)
    }
}
