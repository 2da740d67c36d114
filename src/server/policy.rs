//! Who may ask and what binds them: the API keys and the profiles of a server, held to each other.

use std::sync::Arc;

use super::{
    keys::{ApiKey, ApiKeys, KeyFileError},
    profiles::{ByName, ProfileError, ProfileFiles, Profiles},
};
use crate::maze::Maze;

/// The API keys and the profiles of a server; without keys everyone may ask.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub(crate) keys: Option<Arc<ApiKeys>>,
    pub(crate) profiles: Option<Arc<Profiles>>,
}

/// Why keys and profiles do not go together, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A key is bound by a profile that does not exist.
    #[error("the API key `{key}` is bound by the profile `{profile}`, which does not exist")]
    UnknownProfile {
        /// The key's name.
        key: String,
        /// The profile's.
        profile: String,
    },
    /// The profiles cannot be used.
    #[error(transparent)]
    Profiles(#[from] ProfileError),
}

/// What became of the files that were read again; what could not be used stays as it was.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// How many keys there are now, where there is a file of them.
    pub keys: Option<Result<usize, KeyFileError>>,
    /// How many profiles there are now, where there are any.
    pub profiles: Option<Result<usize, ProfileError>>,
}

impl Policy {
    /// Keys alone.
    #[must_use]
    pub fn of_keys(keys: Option<Arc<ApiKeys>>) -> Self {
        Self { keys, profiles: None }
    }

    /// Compiles the profiles, and holds the keys to them.
    ///
    /// # Errors
    /// [`PolicyError`], naming the profile.
    pub async fn new(keys: Option<ApiKeys>, profiles: Option<ProfileFiles>, maze: &Maze) -> Result<Self, PolicyError> {
        let profiles = match profiles {
            Some(files) => Some(Arc::new(files.compile(maze).await?)),
            None => None,
        };
        let policy = Self { keys: keys.map(Arc::new), profiles };
        check(policy.keys.as_ref().map(|keys| keys.ring()).as_deref(), &policy.by_name())?;
        Ok(policy)
    }

    /// Whether there are keys.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Whether anything is read from a file, and can be read again.
    #[must_use]
    pub fn has_files(&self) -> bool {
        self.keys.is_some() || self.profiles.is_some()
    }

    /// Reads the files again. A file that cannot be used changes nothing of what it stands for.
    ///
    /// # Errors
    /// [`PolicyError::UnknownProfile`] where a key would be bound by a profile that is no longer there; nothing is then
    /// changed at all.
    pub async fn reload(&self, maze: &Maze) -> Result<Reloaded, PolicyError> {
        let profiles = match &self.profiles {
            Some(profiles) => Some(profiles.read_again(maze).await),
            None => None,
        };
        let keys = self.keys.as_ref().map(|keys| keys.read_again());
        let by_name = match &profiles {
            Some(Ok(by_name)) => Arc::new(by_name.clone()),
            _ => self.by_name(),
        };
        match &keys {
            Some(Ok(ring)) => check(Some(ring), &by_name)?,
            _ => check(self.keys.as_ref().map(|keys| keys.ring()).as_deref(), &by_name)?,
        }
        // Profiles first: a new key is never without its own.
        let mut reloaded = Reloaded::default();
        if let (Some(profiles), Some(read)) = (&self.profiles, profiles) {
            reloaded.profiles = Some(read.map(|by_name| {
                let num_profiles = by_name.len();
                profiles.replace(by_name);
                num_profiles
            }));
        }
        if let (Some(keys), Some(read)) = (&self.keys, keys) {
            reloaded.keys = Some(read.map(|ring| keys.replace(ring)));
        }
        Ok(reloaded)
    }

    fn by_name(&self) -> Arc<ByName> {
        self.profiles.as_ref().map(|profiles| profiles.by_name()).unwrap_or_default()
    }
}

fn check(ring: Option<&[Arc<ApiKey>]>, by_name: &ByName) -> Result<(), PolicyError> {
    let bound = ring.unwrap_or_default().iter().filter_map(|key| Some((&key.name, key.profile.as_deref()?)));
    match bound.into_iter().find(|(_, profile)| !by_name.contains_key(*profile)) {
        Some((key, profile)) => Err(PolicyError::UnknownProfile { key: key.to_string(), profile: profile.to_owned() }),
        None => Ok(()),
    }
}
