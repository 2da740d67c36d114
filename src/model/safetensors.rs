//! Weights from safetensors files: one, or several under an index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::ModelError;
use super::layers::Weights;
use super::weight::{QuantLayout, QuantWeight};

/// The tensors of one or several files, borrowed from their bytes.
pub(crate) struct SafetensorsWeights<'a> {
    shards: Vec<Shard<'a>>,
}

struct Shard<'a> {
    file: String,
    tensors: SafeTensors<'a>,
}

impl<'a> SafetensorsWeights<'a> {
    /// Reads the headers of `files`, given as name and bytes.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] for a file that is shorter than its header says, or whose header is not one.
    pub(crate) fn new(files: impl IntoIterator<Item = (String, &'a [u8])>) -> Result<Self, ModelError> {
        let shard = |(file, bytes)| match SafeTensors::deserialize(bytes) {
            Ok(tensors) => Ok(Shard { file, tensors }),
            Err(error) => Err(ModelError::Damaged { file, detail: explain(&error) }),
        };
        Ok(Self { shards: files.into_iter().map(shard).collect::<Result<_, _>>()? })
    }
}

impl Weights for SafetensorsWeights<'_> {
    fn num_bytes(&self) -> Option<u64> {
        let views = self.shards.iter().flat_map(|shard| shard.tensors.iter());
        Some(views.map(|(_, view)| view.data().len() as u64).sum())
    }

    fn has(&self, name: &str) -> bool {
        self.shards.iter().any(|shard| shard.tensors.tensor(name).is_ok())
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<QuantWeight<'_>, ModelError> {
        let found = self.shards.iter().find_map(|shard| Some((shard, shard.tensors.tensor(name).ok()?)));
        let Some((shard, view)) = found else {
            let files: Vec<&str> = self.shards.iter().map(|shard| shard.file.as_str()).collect();
            let (file, tensor) = (files.join(", "), name.into());
            return Err(ModelError::MissingTensor { file, tensor, expected: shape.into() });
        };
        let (file, tensor) = (shard.file.clone(), name.to_owned());
        if view.shape() != shape {
            let (expected, found) = (shape.into(), view.shape().into());
            return Err(ModelError::TensorShape { file, tensor, expected, found });
        }
        let layout = match view.dtype() {
            Dtype::F32 => QuantLayout::F32,
            Dtype::F16 => QuantLayout::F16,
            Dtype::BF16 => QuantLayout::BF16,
            found => {
                let found = format!("{found:?}");
                return Err(ModelError::TensorLayout { file, tensor, found, supported: "F32, F16, BF16" });
            }
        };
        let bytes = view.data();
        QuantWeight::new(bytes, layout, shape).ok_or_else(|| ModelError::Damaged {
            file,
            detail: format!("tensor `{tensor}` of shape {shape:?} holds {} bytes", bytes.len()),
        })
    }
}

/// The files of a folder that hold its weights: `model.safetensors`, or those that the index names.
///
/// # Errors
/// When there is neither, or the index cannot be read.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = folder.join("model.safetensors.index.json");
    if !index.is_file() {
        return Err(ModelError::NoModel { path: folder.into() });
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let json = std::fs::read(&index).map_err(|source| ModelError::Read { path: index.clone(), source })?;
    let damaged = |detail: String| ModelError::Damaged { file: index.display().to_string(), detail };
    let Index { weight_map } = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
    let names: std::collections::BTreeSet<&String> = weight_map.values().collect();
    match names.iter().find(|name| Path::new(name).components().count() != 1 || name.starts_with('.')) {
        Some(name) => Err(damaged(format!("`{name}` is not a file name"))),
        None => Ok(names.into_iter().map(|name| folder.join(name)).collect()),
    }
}

fn explain(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
            "it ends inside its header".to_owned()
        }
        SafeTensorError::MetadataIncompleteBuffer => "its data is not the length its header says".to_owned(),
        error => error.to_string(),
    }
}
