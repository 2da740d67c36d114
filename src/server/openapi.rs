//! `GET /openapi.json`: all routes with what goes over the wire, as OpenAPI 3.1.
//!
//! Schemas are derived from the wire types themselves, so they say what is read and written; a test holds that every
//! route has its operation here.

use std::sync::LazyLock;

use axum::{Json, http::StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    analysis::{CompileBody, ExtractRequest, ValidateBody, ValidateReply},
    chat::wire::{ChatChoice, ChatReply, ChatRequest},
    error::ErrorBody,
    fim::FimBody,
    infill::InfillBody,
    openai::{Completion, CompletionRequest, GenerateBody, GenerateReply, ModelList, ModelObject},
    responses::wire::{Response, ResponsesRequest},
    tokens::{DetokenizeReply, DetokenizeRequest, TokenizeReply, TokenizeRequest},
};
use crate::maze::ConstraintSet;

/// Where requests' types are defined.
const DEFINITIONS: &str = "/components/schemas";

pub(crate) async fn describe() -> Json<&'static Value> {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(document);
    Json(&DOCUMENT)
}

type Describe = fn(&mut SchemaGenerator) -> Schema;

/// One route.
struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    /// The body that is read.
    request: Option<Describe>,
    /// The body that is written.
    reply: Describe,
    /// Whether `stream: true` gives events instead.
    streams: bool,
}

const GET: Operation = Operation {
    method: "get",
    path: "",
    summary: "",
    request: None,
    reply: schema::<Map<String, Value>>,
    streams: false,
};
const POST: Operation = Operation { method: "post", ..GET };

const OPERATIONS: [Operation; 23] = [
    Operation { path: "/", summary: "What this server is and offers.", ..GET },
    Operation { path: "/health", summary: "Live, with the engine's counters.", ..GET },
    Operation { path: "/ready", summary: "Whether the next request would find a place.", ..GET },
    Operation { path: "/metrics", summary: "All figures in Prometheus' text format.", reply: schema::<String>, ..GET },
    Operation { path: "/models", summary: "The loaded model.", reply: schema::<ModelList>, ..GET },
    Operation { path: "/v1/models", summary: "The loaded model.", reply: schema::<ModelList>, ..GET },
    Operation { path: "/v1/models/{id}", summary: "The loaded model.", reply: schema::<ModelObject>, ..GET },
    Operation { path: "/v1/constraint-ir/schema", summary: "The JSON Schema of the constraint IR.", ..GET },
    Operation {
        path: "/v1/chat/completions",
        summary: "Answers a chat, with tools.",
        request: Some(schema::<ChatRequest>),
        reply: schema::<ChatReply<ChatChoice>>,
        streams: true,
        ..POST
    },
    Operation {
        path: "/v1/completions",
        summary: "Continues prompts.",
        request: Some(schema::<CompletionRequest>),
        reply: schema::<Completion>,
        streams: true,
        ..POST
    },
    Operation {
        path: "/v1/responses",
        summary: "Answers a conversation; nothing is kept.",
        request: Some(schema::<ResponsesRequest>),
        reply: schema::<Response>,
        streams: true,
        ..POST
    },
    Operation {
        path: "/generate",
        summary: "Continues a prompt under constraint IRs.",
        request: Some(schema::<GenerateBody>),
        reply: schema::<GenerateReply>,
        ..POST
    },
    Operation {
        path: "/infill",
        summary: "Fills a hole, as llama.cpp's server does.",
        request: Some(schema::<InfillBody>),
        ..POST
    },
    Operation {
        path: "/v1/fim/completions",
        summary: "Fills a hole, as Mistral's API does.",
        request: Some(schema::<FimBody>),
        reply: schema::<ChatReply<ChatChoice>>,
        streams: true,
        ..POST
    },
    tokenize("/v1/tokenize"),
    detokenize("/v1/detokenize"),
    tokenize("/tokenize"),
    detokenize("/detokenize"),
    Operation {
        path: "/v1/constraints/extract",
        summary: "Mines constraints from sources.",
        request: Some(schema::<ExtractRequest>),
        reply: schema::<ConstraintSet>,
        ..POST
    },
    Operation {
        path: "/v1/constraints/compile",
        summary: "Compiles a constraint set to an IR, judges it, and says what each constraint became.",
        request: Some(schema::<CompileBody>),
        ..POST
    },
    Operation {
        path: "/v1/constraints/validate",
        summary: "Judges finished texts by the masks and by independent engines.",
        request: Some(schema::<ValidateBody>),
        reply: schema::<ValidateReply>,
        ..POST
    },
    Operation { path: "/v1/provenance/{id}", summary: "What made a reply what it is.", ..GET },
    Operation { path: "/openapi.json", summary: "This document.", ..GET },
];

const fn tokenize(path: &'static str) -> Operation {
    let (request, reply): (Describe, Describe) = (schema::<TokenizeRequest>, schema::<TokenizeReply>);
    Operation { path, summary: "The ids of a text or a chat.", request: Some(request), reply, ..POST }
}

const fn detokenize(path: &'static str) -> Operation {
    let (request, reply): (Describe, Describe) = (schema::<DetokenizeRequest>, schema::<DetokenizeReply>);
    Operation { path, summary: "The text of ids.", request: Some(request), reply, ..POST }
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = DEFINITIONS.into());
    let mut requests = settings.into_generator();
    let mut paths = Map::new();
    for operation in &OPERATIONS {
        let entry = paths.entry(operation.path).or_insert_with(|| json!({}));
        entry[operation.method] = operation.describe(&mut requests);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "description": env!("CARGO_PKG_DESCRIPTION"),
        },
        "paths": paths,
        "components": {
            "schemas": requests.take_definitions(true),
            "responses": {"Error": {
                "description": "What was wrong, where, and what to do about it.",
                "content": {"application/json": {"schema": written(schema::<ErrorBody>)}},
            }},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        // A key where the server has keys, else none.
        "security": [{"key": []}, {}],
    })
}

/// The schema of what is written, complete in itself: in a reply other fields are optional than in a request.
fn written(describe: Describe) -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    describe(&mut settings.for_serialize().into_generator())
}

impl Operation {
    fn describe(&self, requests: &mut SchemaGenerator) -> Value {
        let mut operation = json!({
            "operationId": format!("{} {}", self.method, self.path),
            "summary": self.summary,
            "responses": self.responses(),
        });
        if let Some(request) = self.request {
            let content = json!({"application/json": {"schema": request(requests)}});
            operation["requestBody"] = json!({"required": true, "content": content});
        }
        if self.path.ends_with("{id}") {
            operation["parameters"] =
                json!([{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}]);
        }
        operation
    }

    fn responses(&self) -> Map<String, Value> {
        let media_type = if self.path == "/metrics" { "text/plain" } else { "application/json" };
        let mut content = json!({media_type: {"schema": written(self.reply)}});
        if self.streams {
            content["text/event-stream"] = json!({"schema": {"type": "string"}});
        }
        let good = |description: &str| json!({"description": description, "content": content});
        let error = json!({"$ref": "#/components/responses/Error"});
        let mut all = Map::from_iter([("200".to_owned(), good("As asked."))]);
        all.extend(self.errors().map(|status| (status.as_str().to_owned(), error.clone())));
        // From below the routes.
        all.insert("431".into(), json!({"description": "A head of too many lines or bytes; the reply has no body."}));
        if self.path == "/ready" {
            all.insert("503".into(), good("It would not."));
        }
        all
    }

    /// Every status that an error of this route may have.
    fn errors(&self) -> impl Iterator<Item = StatusCode> {
        const ALL: [StatusCode; 9] = [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::NOT_FOUND,
            StatusCode::METHOD_NOT_ALLOWED,
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::INTERNAL_SERVER_ERROR,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        const OF_BODIES: [StatusCode; 5] = [
            StatusCode::BAD_REQUEST,
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            StatusCode::UNPROCESSABLE_ENTITY,
        ];
        ALL.into_iter().chain(OF_BODIES.into_iter().filter(|_| self.request.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::server::ROUTES;

    #[test]
    fn every_route_has_its_operation_and_no_other_has() {
        let described: BTreeSet<String> = OPERATIONS
            .iter()
            .map(|operation| format!("{} {}", operation.method.to_uppercase(), operation.path))
            .collect();
        assert_eq!(described, ROUTES.iter().map(|route| (*route).to_owned()).collect());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a reference into the document");
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        let chat = &document["components"]["schemas"]["ChatRequest"];
        assert_eq!(chat["additionalProperties"], false, "unknown fields are refused");
        assert!(chat["required"].as_array().is_some_and(|required| required.contains(&json!("messages"))), "{chat}");
        let usage = &document["paths"]["/v1/completions"]["post"]["responses"]["200"]["content"]["application/json"];
        assert!(usage["schema"]["properties"]["usage"].is_object(), "{usage}");
    }
}
