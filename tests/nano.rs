//! The embedded model against what Hugging Face transformers computed from the same weights
//! (tests/data/nano_reference.json, made when the model was trained).

mod common;

use ananke::model::{LoadOptions, WeightSource, load};
use common::{Driver, TestResult, argmax, repository, worst_difference};

#[derive(serde::Deserialize)]
struct Reference {
    vectors: Vec<Vector>,
}

#[derive(serde::Deserialize)]
struct Vector {
    name: String,
    ids: Vec<u32>,
    logits_first_64: Vec<f32>,
    argmax: u32,
    logsumexp: f64,
    greedy_32: Vec<u32>,
}

#[test]
fn the_embedded_model_says_what_its_reference_says() -> TestResult {
    let reference: Reference = serde_json::from_slice(&std::fs::read(repository("tests/data/nano_reference.json"))?)?;
    let mut driver = Driver::new(&repository("models/ananke-nano"), &LoadOptions::default(), 1, 64)?;
    for vector in reference.vectors {
        let rows = driver.greedy(&vector.ids, 32)?;
        let greedy: Vec<u32> = rows.iter().map(|row| argmax(row)).collect();
        assert_eq!(greedy, vector.greedy_32, "{}", vector.name);
        assert_eq!(greedy[0], vector.argmax);
        let worst = worst_difference(&rows[0][..64], &vector.logits_first_64);
        assert!(worst < 1e-4, "{}: logits off by {worst}", vector.name);
        let logsumexp = rows[0].iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln();
        assert!((logsumexp - vector.logsumexp).abs() < 1e-4, "{}: {logsumexp}", vector.name);
    }
    Ok(())
}

#[test]
fn the_model_is_the_same_from_bytes_as_from_its_folder() -> TestResult {
    let folder = repository("models/ananke-nano");
    let (config, weights) =
        (std::fs::read(folder.join("config.json"))?, std::fs::read(folder.join("model.safetensors"))?);
    let source = WeightSource::Bytes { config_json: &config, safetensors: &weights };
    let mut from_bytes = Driver::new(&folder, &LoadOptions::default(), 1, 16)?;
    let from_folder = from_bytes.prefill(&[4096, 481, 787], 3)?;
    from_bytes.model = load(source, &LoadOptions::default())?;
    assert_eq!(from_bytes.prefill(&[4096, 481, 787], 3)?, from_folder);
    let info = from_bytes.model.info();
    assert_eq!((info.architecture.as_str(), info.vocab_len, info.context_len), ("llama", 4160, 2048));
    // Two bytes each in the file, after its header; four each in memory.
    assert!((1..10_000).contains(&(weights.len() - 2 * info.num_parameters)));
    assert_eq!(info.weight_bytes, 4 * info.num_parameters);
    Ok(())
}
