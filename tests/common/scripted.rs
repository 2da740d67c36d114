//! A maze without weights: the embedded model's tokenizer, a model whose logits are noise, and everything else for real.

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
    maze_reading(&read("tokenizer.json"), time_per_step, engine)
}

fn read(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano");
    std::fs::read(folder.join(name)).expect("the model's files come with the source")
}

/// The same with another tokenizer.json.
pub(crate) fn maze_reading(tokenizer: &[u8], time_per_step: Duration, engine: EngineConfig) -> Maze {
    let config = read("config.json");
    let files = ConfigFiles { config: Some(&config), ..ConfigFiles::default() };
    let vocab_len = 4160;
    let config = TokenizerConfig { num_rows: Some(vocab_len), ..TokenizerConfig::from_files(&files).expect("configs") };
    let tokenizer = Tokenizer::from_json(tokenizer, config).expect("a tokenizer");
    let guide = Guide::new(tokenizer.vocabulary().clone(), GuideConfig::default()).expect("a guide");
    let model = ScriptedModel::seeded(vocab_len, CONTEXT_LEN, 3).with_time_per_step(time_per_step);
    let end_tokens = tokenizer.vocabulary().end_tokens().to_vec();
    let (engine, _) = Engine::start(Box::new(model), &end_tokens, engine).expect("an engine");
    let card = ModelCard {
        id: "scripted".into(),
        architecture: "scripted".into(),
        context_len: CONTEXT_LEN,
        num_parameters: 0,
        weight_bytes: 0,
        vocab_len,
        tokenizer_digest: Digest::from_bytes(tokenizer.vocabulary().digest_bytes()),
        created: 0,
        embedded: false,
        has_chat_template: false,
    };
    Maze::new(engine, guide, tokenizer, card, MazeConfig::default())
}
