//! `GET /v1/models` and `GET /models`: the one model that is loaded.

use axum::{Json, extract::State};

use super::{
    App,
    error::HttpError,
    id::Id,
    openai::{ModelList, ModelObject, QuantizationObject},
};

pub(crate) async fn list(State(app): State<App>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: vec![object(&app)] })
}

pub(crate) async fn get(State(app): State<App>, Id(id): Id) -> Result<Json<ModelObject>, HttpError> {
    app.expect_model(Some(&id))?;
    Ok(Json(object(&app)))
}

fn object(app: &App) -> ModelObject {
    let card = app.maze.model();
    ModelObject {
        id: card.id.clone(),
        object: "model",
        created: card.created,
        owned_by: match card.embedded {
            true => "ananke",
            false if card.is_remote() => "remote",
            false => "local",
        },
        max_model_len: card.context_len,
        architecture: card.architecture.clone(),
        num_parameters: card.num_parameters,
        quantization: card.quantization.as_ref().map(|report| QuantizationObject {
            format: report.quantization.as_str(),
            relative_rms_error: report.relative_error(),
            worst_matrix: report.worst.as_ref().map(|(name, _)| name.clone()),
            worst_relative_rms_error: report.worst.as_ref().map(|(_, error)| *error),
        }),
    }
}
