//! Small random models of every supported shape against Hugging Face transformers: tests/data/models/, written by
//! scripts/make_fixtures.py. And what loading says of files that are not what they should be.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ananke::engine::{Engine, EngineConfig, SequenceRequest, TokenEvent};
use ananke::guide::{Guide, GuideConfig};
use ananke::kernels::sampling::{SamplingParams, TokenLogprobs, score};
use ananke::model::{LoadOptions, ModelError, WeightSource, load};
use ananke::text::{Token, Vocabulary};
use common::{Driver, Part, TestResult, repository, worst_difference};

const TOLERANCE: f32 = 1e-4;

#[derive(serde::Deserialize)]
struct Expected {
    ids: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

fn fixtures() -> Result<Vec<PathBuf>, std::io::Error> {
    let mut folders: Vec<PathBuf> = repository("tests/data/models")
        .read_dir()?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    folders.sort();
    Ok(folders)
}

fn expected(folder: &Path) -> Result<Expected, Box<dyn std::error::Error>> {
    Ok(serde_json::from_slice(&std::fs::read(folder.join("expected.json"))?)?)
}

#[test]
fn logits_are_transformers_for_whole_prompts_chunks_and_company() -> TestResult {
    let folders = fixtures()?;
    assert_eq!(folders.len(), 11);
    for folder in folders {
        let Expected { ids, logits } = expected(&folder)?;
        let mut driver = Driver::new(&folder, &LoadOptions::default(), 3, ids.len())?;
        let whole = driver.prefill(&ids, ids.len())?;
        assert_eq!(whole.len(), logits.len());
        for (position, (row, expected)) in whole.iter().zip(&logits).enumerate() {
            let worst = worst_difference(row, expected);
            assert!(worst < TOLERANCE, "{}, position {position}: off by {worst}", folder.display());
        }
        for chunk_len in [1, 7, 64] {
            assert_eq!(driver.prefill(&ids, chunk_len)?, whole, "{}: chunks of {chunk_len}", folder.display());
        }
        in_company(&mut driver, &ids, &whole)?;
    }
    Ok(())
}

/// Sequence 1 runs the fixture's tokens while sequence 0 prefills and sequence 2 decodes other ones beside it.
fn in_company(driver: &mut Driver, ids: &[u32], whole: &[Vec<f32>]) -> TestResult {
    let others: Vec<u32> = ids.iter().rev().copied().collect();
    let mut num_computed = 0;
    for (step, token_ids) in ids.chunks(9).enumerate() {
        let part = |sequence_idx, token_ids, num_computed, num_logits| Part {
            sequence_idx,
            token_ids,
            num_computed,
            num_logits,
        };
        let rows = driver.step(&[
            part(0, &others[5 * step..5 * step + 5], 5 * step, 0),
            part(1, token_ids, num_computed, token_ids.len()),
            part(2, &others[step..=step], step, 1),
        ])?;
        assert_eq!(rows[..token_ids.len()], whole[num_computed..num_computed + token_ids.len()], "step {step}");
        num_computed += token_ids.len();
    }
    Ok(())
}

/// What the engine says of a prompt is what the model's rows say of it, and so what transformers' do, in any chunks.
#[test]
fn a_prompts_log_probabilities_are_transformers() -> TestResult {
    for folder in fixtures()? {
        let Expected { ids, logits } = expected(&folder)?;
        let rows = Driver::new(&folder, &LoadOptions::default(), 1, ids.len())?.prefill(&ids, ids.len())?;
        let scores: Vec<_> = rows.iter().zip(&ids[1..]).map(|(row, &id)| score(row, id, 3)).collect();
        for (place, (found, row)) in scores.iter().zip(&logits).enumerate() {
            let expected = score(row, ids[place + 1], 3);
            let worst = (found.logprob - expected.logprob).abs().max((found.top[0].1 - expected.top[0].1).abs());
            assert!(worst < 2.0 * TOLERANCE, "{}, place {place}: off by {worst}", folder.display());
        }
        for (num_batched_tokens_max, num_scored_tokens_max) in [(512, 128), (512, 5), (7, 128)] {
            let config = EngineConfig { num_batched_tokens_max, num_scored_tokens_max, ..EngineConfig::default() };
            assert_eq!(prompt_scores(&folder, &ids, config)?, scores, "{}", folder.display());
        }
    }
    Ok(())
}

/// The log-probabilities of a prompt after which nothing is generated.
fn prompt_scores(
    folder: &Path,
    ids: &[u32],
    config: EngineConfig,
) -> Result<Vec<TokenLogprobs>, Box<dyn std::error::Error>> {
    let model = load(WeightSource::Path(folder), &LoadOptions::default())?;
    let vocab_len = model.info().vocab_len as u32;
    let tokens = (1..vocab_len).map(|id| Token::Text(format!("{id} ").into_bytes()));
    let tokens = tokens.chain([Token::Control("<end>".into())]).collect();
    let vocabulary = Vocabulary::new(tokens, vocab_len as usize, vec![vocab_len - 1])?;
    let guide = Guide::new(Arc::new(vocabulary), GuideConfig::default())?;
    let (engine, _) = Engine::start(model, &[vocab_len - 1], config)?;
    let request = SequenceRequest {
        prompt: ids.to_vec(),
        max_tokens: 0,
        sampling: SamplingParams::default(),
        seed: 0,
        choice: 0,
        num_logprobs: None,
        num_prompt_logprobs: Some(3),
        forced_tokens: true,
        matcher: guide.compile(&[])?.matcher(b"")?,
        salt: None,
        tenant: None,
    };
    let mut stream = engine.submit(vec![request])?.remove(0);
    match stream.blocking_next().ok_or("a stream says how it ends")? {
        TokenEvent::Prompt(scores) => Ok(scores),
        other => Err(format!("the prompt comes first, not {other:?}").into()),
    }
}

#[test]
fn a_step_that_wants_no_logits_returns_none() -> TestResult {
    let mut driver = Driver::new(&repository("tests/data/models/gqa"), &LoadOptions::default(), 1, 8)?;
    let part = Part { sequence_idx: 0, token_ids: &[1, 2, 3], num_computed: 0, num_logits: 0 };
    assert!(driver.step(&[part])?.is_empty());
    Ok(())
}

/// Loads a copy of the `gqa` fixture after `change` had its way with the folder, and returns the error.
fn error_after(change: impl Fn(&Path) -> std::io::Result<()>) -> Result<String, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(repository("tests/data/models/gqa").join(file), folder.path().join(file))?;
    }
    change(folder.path())?;
    let error = match load(WeightSource::Path(folder.path()), &LoadOptions::default()) {
        Ok(_) => return Err("it loaded".into()),
        Err(error) => error.to_string(),
    };
    Ok(error
        .replace(&format!("{}/", folder.path().display()), "")
        .replace(&folder.path().display().to_string(), "FOLDER"))
}

fn replace_in_config(from: &'static str, to: &'static str) -> impl Fn(&Path) -> std::io::Result<()> {
    move |folder| {
        let path = folder.join("config.json");
        let config = std::fs::read_to_string(&path)?;
        assert!(config.contains(from));
        std::fs::write(path, config.replace(from, to))
    }
}

#[test]
fn errors_say_which_file_which_tensor_and_what_was_expected() -> TestResult {
    let shorten = |len: fn(usize) -> usize| {
        move |folder: &Path| {
            let path = folder.join("model.safetensors");
            let bytes = std::fs::read(&path)?;
            std::fs::write(path, &bytes[..len(bytes.len())])
        }
    };
    let damaged = |detail: &str| format!("model.safetensors is damaged or incomplete: {detail}; fetch it again");
    assert_eq!(error_after(shorten(|len| len - 100))?, damaged("its data is not the length its header says"));
    assert_eq!(error_after(shorten(|_| 100))?, damaged("it ends inside its header"));
    assert_eq!(error_after(shorten(|_| 4))?, damaged("it ends inside its header"));
    assert_eq!(error_after(shorten(|_| 0))?, damaged("it is empty"));
    assert_eq!(
        error_after(replace_in_config("\"vocab_size\": 70", "\"vocab_size\": 71"))?,
        "model.safetensors: tensor `model.embed_tokens.weight` has shape [70, 32], the configuration expects [71, 32]"
    );
    assert_eq!(
        error_after(replace_in_config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"))?,
        "model.safetensors has no tensor `model.layers.2.input_layernorm.weight` (expected shape [32])"
    );
    assert!(
        error_after(|folder| std::fs::write(folder.join("config.json"), "{"))?.starts_with("config.json is damaged")
    );
    let no_weights = error_after(|folder| std::fs::remove_file(folder.join("model.safetensors")))?;
    assert!(no_weights.starts_with("FOLDER holds no model: give a .gguf file"), "{no_weights}");
    Ok(())
}

#[test]
fn a_missing_shard_is_named() -> TestResult {
    let folder = tempfile::tempdir()?;
    let fixture = repository("tests/data/models/sharded");
    for file in ["config.json", "model.safetensors.index.json", "model-00001-of-00003.safetensors"] {
        std::fs::copy(fixture.join(file), folder.path().join(file))?;
    }
    match load(WeightSource::Path(folder.path()), &LoadOptions::default()) {
        Err(ModelError::Read { path, .. }) => assert!(path.ends_with("model-00002-of-00003.safetensors")),
        other => panic!("expected a file that cannot be read, got {:?}", other.map(|model| model.info().clone())),
    }
    Ok(())
}

#[test]
fn a_truncated_gguf_is_a_typed_error() -> TestResult {
    use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
    use candle_core::{DType, Device, Tensor};

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("small.gguf");
    let tensor = QTensor::quantize(&Tensor::zeros((4, 64), DType::F32, &Device::Cpu)?, GgmlDType::Q8_0)?;
    let architecture = gguf_file::Value::String("llama".into());
    let mut file = std::fs::File::create(&path)?;
    gguf_file::write(&mut file, &[("general.architecture", &architecture)], &[("token_embd.weight", &tensor)])?;
    let bytes = std::fs::read(&path)?;
    let message = |bytes: &[u8]| -> Result<String, Box<dyn std::error::Error>> {
        std::fs::write(&path, bytes)?;
        let error = load(WeightSource::Path(folder.path()), &LoadOptions::default()).err().ok_or("it loaded")?;
        Ok(error.to_string().replace(&path.display().to_string(), "FILE"))
    };
    assert_eq!(message(&bytes)?, "FILE has no `llama.attention.head_count`");
    for len in 0..bytes.len() - 31 {
        let message = message(&bytes[..len])?;
        assert!(message.starts_with("FILE is damaged or incomplete: "), "{len} of {} bytes: {message}", bytes.len());
    }
    Ok(())
}
