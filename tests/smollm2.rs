//! SmolLM2-135M against Hugging Face transformers (tests/data/smollm2_reference.json, made by
//! scripts/make_smollm2_reference.py), and against itself under batching.

mod common;

use std::path::PathBuf;

use ananke::model::{GgufFile, LoadOptions, ModelError, QuantLayout, Quantization, WeightSource, load};
use common::{Driver, Part, TestResult, argmax, repository, worst_difference};

/// Standard deviation of a logit's move when activations are rounded to 8 bits, as products of quantized weights do:
/// 0.128 straight from the file and 0.157 after rounding the weights again to Q8_0, measured against f32 over all
/// logits of the reference's 160 steps.
const QUANTIZATION_ERROR: f32 = 0.16;
/// The two best logits move apart or together by `sqrt(2)` times that; beyond three such deviations the order holds.
const CLEAR_MARGIN: f32 = 3.0 * std::f32::consts::SQRT_2 * QUANTIZATION_ERROR;

#[derive(serde::Deserialize)]
struct Reference {
    vectors: Vec<Vector>,
}

#[derive(serde::Deserialize)]
struct Vector {
    prompt: String,
    ids: Vec<u32>,
    greedy: Vec<u32>,
    margins: Vec<f32>,
    logits_first_64: Vec<f32>,
}

fn model_file() -> PathBuf {
    let path = repository("models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.is_file(), "{} is missing; run scripts/fetch_model.sh smollm2", path.display());
    path
}

fn vectors() -> Result<Vec<Vector>, Box<dyn std::error::Error>> {
    let json = std::fs::read(repository("tests/data/smollm2_reference.json"))?;
    Ok(serde_json::from_slice::<Reference>(&json)?.vectors)
}

#[test]
fn dequantized_to_f32_every_greedy_token_is_transformers() -> TestResult {
    let options = LoadOptions { layout: Some(QuantLayout::F32), ..LoadOptions::default() };
    let mut driver = Driver::new(&model_file(), &options, 1, 128)?;
    for vector in vectors()? {
        let rows = driver.greedy(&vector.ids, vector.greedy.len())?;
        let greedy: Vec<u32> = rows.iter().map(|row| argmax(row)).collect();
        assert_eq!(greedy, vector.greedy, "{:?}", vector.prompt);
        let worst = worst_difference(&rows[0][..64], &vector.logits_first_64);
        assert!(worst < 1e-3, "{:?}: logits off by {worst}", vector.prompt);
    }
    Ok(())
}

/// Every step runs on transformers' tokens, so that one close call does not hide the steps after it.
fn check_quantized(layout: Option<QuantLayout>) -> TestResult {
    let mut driver = Driver::new(&model_file(), &LoadOptions { layout, ..LoadOptions::default() }, 1, 128)?;
    let (mut num_clear, mut num_equal) = (0, 0);
    for vector in vectors()? {
        let forced: Vec<u32> = vector.ids.iter().chain(&vector.greedy).copied().collect();
        let rows = &driver.prefill(&forced, forced.len())?[vector.ids.len() - 1..];
        let moved = deviation(&rows[0][..64], &vector.logits_first_64);
        assert!(moved < 2.0 * QUANTIZATION_ERROR, "{:?}: logits moved by {moved}", vector.prompt);
        for (step, (expected, margin)) in vector.greedy.iter().zip(&vector.margins).enumerate() {
            let found = argmax(&rows[step]);
            num_equal += usize::from(found == *expected);
            if *margin > CLEAR_MARGIN {
                assert_eq!(found, *expected, "{:?}, step {step}, margin {margin}", vector.prompt);
                num_clear += 1;
            }
        }
    }
    assert!(num_clear >= 110 && num_equal >= 150, "{num_clear} steps were clear, {num_equal} of 160 equal");
    Ok(())
}

/// Standard deviation of the differences; a shift of all logits alike changes no choice and does not count.
fn deviation(found: &[f32], expected: &[f32]) -> f32 {
    let differences = || found.iter().zip(expected).map(|(a, b)| a - b);
    let mean = differences().sum::<f32>() / found.len() as f32;
    (differences().map(|difference| (difference - mean).powi(2)).sum::<f32>() / found.len() as f32).sqrt()
}

#[test]
fn straight_from_the_gguf_clear_greedy_tokens_are_transformers() -> TestResult {
    check_quantized(None)
}

#[test]
fn requantized_to_q8_0_clear_greedy_tokens_are_transformers() -> TestResult {
    check_quantized(Some(QuantLayout::Q8_0))
}

#[test]
fn a_sequence_has_the_same_bits_alone_in_company_and_in_chunks() -> TestResult {
    let vectors = vectors()?;
    for layout in [None, Some(QuantLayout::Q8_0), Some(QuantLayout::F32)] {
        let options = LoadOptions { layout, ..LoadOptions::default() };
        let mut driver = Driver::new(&model_file(), &options, vectors.len(), 64)?;
        let mut alone = Vec::new();
        for vector in &vectors {
            let whole = driver.prefill(&vector.ids, vector.ids.len())?;
            assert_eq!(driver.prefill(&vector.ids, 1)?, whole, "one by one, {layout:?}");
            assert_eq!(driver.prefill(&vector.ids, 5)?, whole, "in chunks, {layout:?}");
            alone.push(whole);
        }
        let part = |(sequence_idx, vector): (usize, &'_ Vector)| (sequence_idx, vector.ids.clone(), vector.ids.len());
        let parts: Vec<_> = vectors.iter().enumerate().map(part).collect();
        let parts: Vec<Part<'_>> = parts
            .iter()
            .map(|(sequence_idx, token_ids, num_logits)| Part {
                sequence_idx: *sequence_idx,
                token_ids,
                num_computed: 0,
                num_logits: *num_logits,
            })
            .collect();
        assert_eq!(driver.step(&parts)?, alone.concat(), "together, {layout:?}");
    }
    Ok(())
}

#[test]
fn the_gguf_carries_its_tokenizer() -> TestResult {
    let tokenizer = GgufFile::open(&model_file())?.tokenizer()?;
    assert_eq!((tokenizer.model.as_str(), tokenizer.pre.as_deref()), ("gpt2", Some("smollm")));
    assert_eq!((tokenizer.tokens.len(), tokenizer.token_types.len()), (49_152, 49_152));
    assert_eq!((tokenizer.bos, tokenizer.eos, tokenizer.add_bos), (Some(1), Some(2), Some(false)));
    assert!(tokenizer.chat_template.is_some_and(|template| template.contains("<|im_start|>")));
    assert!(tokenizer.merges.len() > 48_000);
    Ok(())
}

#[test]
fn a_quantized_file_is_rounded_again_only_through_full_precision() -> TestResult {
    let (file, quantize) = (model_file(), Some(Quantization::Q8_0));
    let error = load(WeightSource::Path(&file), &LoadOptions { quantize, ..LoadOptions::default() }).err();
    let Some(ModelError::AlreadyQuantized { tensor, found, .. }) = error else { panic!("{error:?}") };
    assert_eq!((tensor.as_str(), found), ("model.embed_tokens.weight", QuantLayout::Q8_0));
    let options = LoadOptions { layout: Some(QuantLayout::F32), quantize, ..LoadOptions::default() };
    let model = load(WeightSource::Path(&file), &options)?;
    let report = model.info().quantization.as_ref().ok_or("nothing was reported")?;
    assert_eq!(report.num_matrices, 30 * 7 + 1, "its head is its embedding");
    assert!((1e-4..0.02).contains(&report.relative_error()), "{report}");
    Ok(())
}

/// The same file through an implementation that is not ours, and that rounds activations in its own way.
#[test]
fn a_quantized_prompt_agrees_with_candle_transformers() -> TestResult {
    use candle_core::quantized::gguf_file::Content;
    use candle_core::{Device, Tensor};
    use candle_transformers::models::quantized_llama::ModelWeights;

    let mut file = std::fs::File::open(model_file())?;
    let content = Content::read(&mut file)?;
    let mut peer = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let mut driver = Driver::new(&model_file(), &LoadOptions::default(), 1, 128)?;
    for vector in vectors()? {
        let ids = Tensor::new(&vector.ids[..], &Device::Cpu)?.unsqueeze(0)?;
        let expected: Vec<f32> = peer.forward(&ids, 0)?.flatten_all()?.to_vec1()?;
        let ours = driver.prefill(&vector.ids, vector.ids.len())?;
        let moved = deviation(&ours[vector.ids.len() - 1], &expected);
        assert!(moved < 2.0 * std::f32::consts::SQRT_2 * QUANTIZATION_ERROR, "{:?}: moved by {moved}", vector.prompt);
    }
    Ok(())
}
