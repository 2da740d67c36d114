//! `GET /v1/models` and `GET /models`: the one model that is loaded.

use axum::{Json, extract::State};

use super::{
    App,
    error::HttpError,
    id::Id,
    openai::{ModelList, ModelObject},
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
    }
}
