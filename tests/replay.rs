//! Records of the embedded model's replies, run again by `ananke replay`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ananke::cli::Cli;
use ananke::maze::{self, ModelSource, OpenOptions};
use ananke::model::Quantization;
use ananke::server::{ServerConfig, router};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use clap::Parser;
use serde_json::{Value, json};
use tower::ServiceExt;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano")
}

async fn ask(server: &Router, method: &str, path: &str, body: &Value) -> Value {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_string())).expect("a request");
    let response = server.clone().oneshot(request).await.expect("the router answers everything");
    let bytes = to_bytes(response.into_body(), 16 << 20).await.expect("the body ends");
    let reply: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert!(reply.get("error").is_none_or(Value::is_null), "{path}: {reply}");
    reply
}

/// Replies with their records, and their prompts as files hold them.
fn recorded() -> Vec<(Value, Value, String)> {
    let server = {
        let maze = maze::open(OpenOptions::new(ModelSource::Path(model()))).expect("the embedded model opens");
        router(maze, ServerConfig::default())
    };
    let schema = json!({"type": "object", "properties": {"id": {"type": "integer", "maximum": 999, "minimum": 0}},
        "required": ["id"], "additionalProperties": false});
    let text = json!({"prompt": "order = ", "seed": 3, "n": 2, "max_tokens": 40, "temperature": 0.8, "top_p": 0.95,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}});
    let tokens = json!({"prompt": [300, 301, 302], "max_tokens": 12, "stop": ["zz"], "logprobs": 1});
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 60, "seed": 2,
        "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required", "parallel_tool_calls": false});
    let response = json!({"input": "Hi", "instructions": "Be brief.", "max_output_tokens": 12});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut all = Vec::new();
        for (path, body, prompt) in [
            ("/v1/completions", &text, "order = \n".to_owned()),
            ("/v1/completions", &tokens, "[300, 301, 302]".into()),
            ("/v1/chat/completions", &chat, chat.to_string()),
            ("/v1/responses", &response, response.to_string()),
        ] {
            let reply = ask(&server, "POST", path, body).await;
            let id = reply["id"].as_str().expect("an id");
            let record = ask(&server, "GET", &format!("/v1/provenance/{id}"), &Value::Null).await;
            all.push((reply, record, prompt));
        }
        all
    })
}

/// Runs `ananke replay` on these files' contents; its exit status, and what it printed or why it failed.
fn replay(record: &Value, prompt: &str, outputs: &[&str]) -> Result<(ExitCode, String), String> {
    replay_with(&[], record, prompt, outputs)
}

fn replay_with(flags: &[&str], record: &Value, prompt: &str, outputs: &[&str]) -> Result<(ExitCode, String), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: String, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let mut args = vec!["ananke".into(), "replay".into(), file("record.json".into(), &record.to_string())];
    args.extend(["--prompt".into(), file("prompt".into(), prompt)]);
    for (idx, output) in outputs.iter().enumerate() {
        args.extend(["--output".into(), file(format!("output{idx}"), output)]);
    }
    args.extend(["--model".into(), model().display().to_string()]);
    args.extend(flags.iter().map(|&flag| flag.to_owned()));
    let mut out = Vec::new();
    let code = Cli::try_parse_from(args).expect("valid arguments").run(None, &mut out);
    let out = String::from_utf8(out).expect("text");
    code.map(|code| (code, out)).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_record_is_run_again_and_differences_are_told() {
    let all = recorded();
    for (reply, record, prompt) in &all {
        let digest = record["requests"][0]["weights_digest"].as_str().expect("the weights' digest is known");
        assert_eq!(digest.len(), 64);
        let (code, out) = replay(record, prompt, &[]).unwrap_or_else(|error| panic!("{error}: {reply}"));
        assert_eq!((code, out.as_str()), (ExitCode::SUCCESS, "identical\n"), "{reply}");
    }
    let (reply, record, prompt) = &all[0];
    let texts: Vec<&str> = (0..2).map(|idx| reply["choices"][idx]["text"].as_str().expect("a text")).collect();
    assert_eq!(replay(record, prompt, &texts).expect("it runs").0, ExitCode::SUCCESS);

    let mut other = record.clone();
    other["requests"][0]["seed"] = json!(4);
    other["requests"][0]["model"] = json!("another");
    let (code, out) = replay(&other, prompt, &texts).expect("it runs");
    assert_eq!(code, ExitCode::from(3), "{out}");
    assert!(out.contains("name of the model: recorded another, here") && out.contains("differ from byte"), "{out}");
    assert!(!out.contains("identical"), "{out}");
    let (code, out) = replay(&other, prompt, &[]).expect("it runs");
    assert!(code == ExitCode::from(3) && out.contains("--output"), "{out}");

    let mut forged = record.clone();
    forged["requests"][0]["irs"][0]["json_schema"] = json!({"type": "object"});
    for (record, prompt, outputs, words) in [
        (&forged, prompt.as_str(), vec![], "the record was changed"),
        (record, "another prompt", vec![], "is not the recorded prompt"),
        (record, prompt, vec!["a", "b"], "is not the recorded output"),
        (record, prompt, vec!["a"], "2 choices"),
        (&json!({"requests": [{}]}), prompt, vec![], "no provenance record"),
        (&all[2].1, "{\"messages\": 5}", vec![], "messages"),
    ] {
        let error = replay(record, prompt, &outputs).expect_err(words);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn weights_rounded_on_load_are_named_and_answer_again_only_when_rounded_again() {
    let mut options = OpenOptions::new(ModelSource::Path(model()));
    options.quantize = Some(Quantization::Q8_0);
    let server = router(maze::open(options).expect("the embedded model opens"), ServerConfig::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let record = runtime.block_on(async {
        let models = ask(&server, "GET", "/v1/models", &Value::Null).await;
        let quantization = &models["data"][0]["quantization"];
        assert_eq!(quantization["format"], "q8_0");
        let error = quantization["relative_rms_error"].as_f64().expect("a number");
        let worst = quantization["worst_relative_rms_error"].as_f64().expect("a number");
        assert!(0.0 < error && error <= worst && worst < 0.05, "{quantization}");
        assert!(quantization["worst_matrix"].as_str().is_some_and(|name| name.ends_with(".weight")), "{quantization}");
        let reply =
            ask(&server, "POST", "/v1/completions", &json!({"prompt": "a = ", "seed": 3, "max_tokens": 20})).await;
        let id = reply["id"].as_str().expect("an id");
        ask(&server, "GET", &format!("/v1/provenance/{id}"), &Value::Null).await
    });
    let (code, out) = replay_with(&["--quantize", "q8_0"], &record, "a = ", &[]).expect("it runs");
    assert_eq!((code, out.as_str()), (ExitCode::SUCCESS, "identical\n"));
    let (code, out) = replay(&record, "a = ", &[]).expect("it runs");
    assert!(code == ExitCode::from(3) && out.contains("weights"), "{out}");
}
