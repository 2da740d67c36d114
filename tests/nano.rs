//! The embedded model against what Hugging Face transformers computed from the same weights
//! (tests/data/nano_reference.json, made when the model was trained).

mod common;

use std::sync::{Arc, Mutex};

use ananke::model::{
    LoadOptions, LoadProgress, LoadReport, QuantLayout, Quantization, StagingConfig, WeightSource, load,
};
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

#[test]
fn rounded_on_load_it_is_what_rounded_weights_make_of_it_and_says_what_that_changed() -> TestResult {
    let folder = repository("models/ananke-nano");
    let ids: Vec<u32> = (0..48).map(|i| i * 89 % 4096).collect();
    let rows = |options: &LoadOptions| -> Result<_, Box<dyn std::error::Error>> {
        let mut driver = Driver::new(&folder, options, 1, 64)?;
        Ok((driver.prefill(&ids, 48)?, driver.model.info().clone()))
    };
    let (stored, info) = rows(&LoadOptions::default())?;
    assert_eq!(info.quantization, None);
    // Bytes per weight: 34 for 32 of them, 144 for 256 in the layers.
    for (quantize, least, most, bytes) in [
        (Quantization::Q8_0, 1e-3, 0.02, 1.2),
        (Quantization::Q4K, 0.02, 0.2, 0.9),
        (Quantization::Fp8, 0.01, 0.05, 2.4),
    ] {
        let options = LoadOptions { quantize: Some(quantize), ..LoadOptions::default() };
        let (rounded, info) = rows(&options)?;
        let report = info.quantization.ok_or("nothing was reported")?;
        // Seven matrices in each of five layers; the embedding and the head.
        let num_matrices = if quantize == Quantization::Fp8 { 35 } else { 37 };
        assert_eq!((report.quantization, report.num_matrices), (quantize, num_matrices));
        assert!(report.kept.is_empty() && report.other_layouts.is_empty(), "{report}");
        let error = report.relative_error();
        let (_, worst) = report.worst.ok_or("no matrix is the worst")?;
        assert!((least..most).contains(&error) && error <= worst && worst < 2.0 * most, "{quantize}: {error} {worst}");
        assert!(info.weight_bytes < (bytes * info.num_parameters as f64) as usize, "{}", info.weight_bytes);
        let correlation = correlation(&stored, &rounded);
        assert!((0.95..1.0).contains(&correlation), "{quantize}: {correlation}");
    }
    let by_layout = LoadOptions { layout: Some(QuantLayout::Q8_0), ..LoadOptions::default() };
    let on_load = LoadOptions { quantize: Some(Quantization::Q8_0), ..LoadOptions::default() };
    assert_eq!(rows(&by_layout)?.0, rows(&on_load)?.0);
    Ok(())
}

/// Pearson's, of two lists of logits.
fn correlation(xs: &[Vec<f32>], ys: &[Vec<f32>]) -> f64 {
    let pairs: Vec<(f64, f64)> =
        xs.iter().flatten().zip(ys.iter().flatten()).map(|(&x, &y)| (x.into(), y.into())).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
    let (mean_x, mean_y) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let sum = |of: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|&(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

/// What it hears.
#[derive(Debug, Default)]
struct Recorder {
    heard: Mutex<Vec<(u64, Option<u64>)>>,
    reports: Mutex<Vec<LoadReport>>,
}

impl LoadProgress for Recorder {
    fn advance(&self, done: u64, total: Option<u64>) {
        self.heard.lock().expect("nobody panicked").push((done, total));
    }

    fn finish(&self, report: &LoadReport) {
        self.reports.lock().expect("nobody panicked").push(*report);
    }
}

#[test]
fn whoever_listens_hears_of_every_byte_once() -> Result<(), Box<dyn std::error::Error>> {
    let recorder = Arc::new(Recorder::default());
    let options = LoadOptions { progress: Some(recorder.clone()), ..LoadOptions::default() };
    let path = repository("models/ananke-nano");
    let load_report = load(WeightSource::Path(&path), &options)?.info().load;
    let heard = recorder.heard.lock().expect("nobody panicked");
    assert!(heard.len() > 10 && heard.windows(2).all(|pair| pair[0].0 < pair[1].0), "{heard:?}");
    let &(done, total) = heard.last().ok_or("nothing was heard")?;
    assert_eq!((Some(done), load_report.num_bytes), (total, done));
    assert_eq!(*recorder.reports.lock().expect("nobody panicked"), [load_report]);
    assert!(std::fs::metadata(path.join("model.safetensors"))?.len() > done && done > 1_000_000, "{done}");
    Ok(())
}

#[test]
fn buffers_of_nothing_are_refused_before_anything_is_read() {
    let staging = StagingConfig { buffer_bytes: 0, ..StagingConfig::default() };
    let path = repository("models/ananke-nano");
    let loaded = load(WeightSource::Path(&path), &LoadOptions { staging, ..LoadOptions::default() });
    let error = loaded.err().expect("it is refused").to_string();
    assert!(error.contains("`buffer_bytes` is 0"), "{error}");
}
