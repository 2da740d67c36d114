//! The main job on a real model: a type mined from source binds SmolLM2's output.

use std::path::PathBuf;

use ananke::constraint::Language;
use ananke::maze::{
    FinishReason, GenerateRequest, Maze, Message, ModelSource, OpenOptions, Prompt, SamplingParams, SourceContext, open,
};

const NUM_SEEDS: u64 = 50;

fn open_smollm2() -> Maze {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/smollm2-135m");
    assert!(folder.is_dir(), "{} is missing: run scripts/fetch_model.sh smollm2", folder.display());
    open(OpenOptions::new(ModelSource::Path(folder))).expect("SmolLM2 opens")
}

fn request(source: &str, seed: u64) -> GenerateRequest {
    GenerateRequest {
        prompt: Prompt::Chat(vec![Message::new("user", "Write an order for two blue pens and a notebook, as JSON.")]),
        context: Some(SourceContext {
            source: source.to_owned(),
            language: Language::Typescript,
            file: "order.ts".into(),
            type_name: Some("Order".into()),
        }),
        sampling: SamplingParams { temperature: 1.0, ..SamplingParams::default() },
        max_tokens: Some(1024),
        num_choices: 1,
        seed: Some(seed),
        ..GenerateRequest::default()
    }
}

#[tokio::test]
async fn a_mined_type_binds_a_real_model() {
    let source = include_str!("data/order.ts");
    let set = ananke::clew::extract(source, Language::Typescript, "order.ts").expect("TypeScript is read");
    let ananke::constraint::Rule::JsonSchema { schema } = &set.find("Order").expect("the type is mined").rule else {
        panic!("a type is a schema");
    };
    let maze = open_smollm2();
    let mut under_way = Vec::new();
    for seed in 0..NUM_SEEDS {
        under_way.push(maze.generate(request(source, seed)).await.expect("it is admitted"));
    }
    let mut num_finished = 0;
    for generation in under_way {
        for output in generation.collect().await.expect("it does not fail") {
            if output.finish.reason != FinishReason::Stop {
                assert!(!output.finish.validation.all_satisfied, "truncated output is never satisfied");
                continue;
            }
            num_finished += 1;
            let document =
                serde_json::from_str(&output.text).unwrap_or_else(|error| panic!("{error}: {}", output.text));
            assert!(jsonschema::is_valid(schema, &document), "{document}");
            assert!(output.finish.validation.all_satisfied, "{:?}", output.finish.validation);
        }
    }
    assert!(num_finished >= 48, "{num_finished} of {NUM_SEEDS} finished");
}
