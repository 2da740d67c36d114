//! Profiles: rule sets that the operator names, for requests that ask for one and for keys that are bound by one.
//!
//! They stand in a TOML file, `[profile.NAME]` with the constraint set (`rules`) and the security patterns (`security`)
//! of each, or in a folder in which each `NAME.json` is a constraint set. A profile is compiled once, by itself, and
//! judged by the guide; a file that cannot be used is refused as a whole.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use serde::Deserialize;

use super::keys::is_name;
use crate::maze::{
    self, CompileOptions, ConstraintSet, Maze, Profile, RuleSet, Strategy,
    security::{self, ProfileError as SecurityError},
};

/// Profiles of one server. Each costs its compile at the start, and a compiled constraint while it is in use.
const NUM_PROFILES_MAX: usize = 256;
/// Bytes of each file. Default 4 MiB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Profiles by name, compiled.
pub(crate) type ByName = BTreeMap<String, Arc<Profile>>;

/// Profiles as they stand in their files.
#[derive(Debug)]
pub struct ProfileFiles {
    path: PathBuf,
    rules: BTreeMap<String, RuleSet>,
}

/// The profiles of a server, which may be read again while it runs.
#[derive(Debug)]
pub struct Profiles {
    path: PathBuf,
    by_name: RwLock<Arc<ByName>>,
}

/// Why profiles cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file is larger than any profile.
    #[error("{} has more than {limit} bytes, which is all that is read of a profile", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that are read.
        limit: u64,
    },
    /// The list of profiles is not what it should be.
    #[error("{}: {}", path.display(), source.to_string().trim_end())]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A file is no constraint set.
    #[error("{} is no constraint set: {source}", path.display())]
    Set {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        #[source]
        source: serde_json::Error,
    },
    /// A name that would not stand well in logs and replies.
    #[error("`{name}` is no name of a profile: 1 to 64 letters, digits, dots, hyphens and underscores")]
    Name {
        /// The name.
        name: String,
    },
    /// More profiles than are taken.
    #[error("{} has more than {limit} profiles", path.display())]
    TooMany {
        /// The file or folder.
        path: PathBuf,
        /// How many are taken.
        limit: usize,
    },
    /// A security pattern that does not exist.
    #[error("the profile `{name}`: {source}")]
    Security {
        /// The profile.
        name: String,
        /// What is wrong.
        #[source]
        source: SecurityError,
    },
    /// A profile that cannot be compiled or enforced.
    #[error("the profile `{name}`: {source}")]
    Compile {
        /// The profile.
        name: String,
        /// What is wrong with it.
        #[source]
        source: Box<maze::Error>,
    },
    /// A profile without a rule that masks or leans.
    #[error("the profile `{name}` binds nothing: none of its constraints is hard or soft, or there is none")]
    BindsNothing {
        /// The profile.
        name: String,
    },
}

/// The TOML file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    profile: BTreeMap<String, Entry>,
}

/// One `[profile.NAME]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The file of a constraint set, from the folder of the list.
    rules: Option<PathBuf>,
    security: Option<Words>,
    #[serde(rename = "type")]
    type_name: Option<String>,
    #[serde(default)]
    strategy: Strategy,
}

/// The words of `--security`: in one string with commas, or in a list.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub(super) enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    /// Adds the constraints of the patterns to a set.
    ///
    /// # Errors
    /// A pattern or a strength that does not exist.
    pub(super) fn add_to(&self, set: &mut ConstraintSet) -> Result<(), SecurityError> {
        let words = match self {
            Self::One(words) => words.clone(),
            Self::Many(words) => words.join(","),
        };
        security::profile(&words)?.into_iter().for_each(|constraint| set.push(constraint));
        Ok(())
    }
}

impl ProfileFiles {
    /// Reads a TOML file, or a folder of constraint sets. Nothing is compiled yet.
    ///
    /// # Errors
    /// [`ProfileError`], naming the file and the profile.
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let rules = if path.is_dir() { read_folder(path) } else { read_list(path) }?;
        if let Some(name) = rules.keys().find(|name| !is_name(name)) {
            return Err(ProfileError::Name { name: name.clone() });
        }
        if rules.len() > NUM_PROFILES_MAX {
            return Err(ProfileError::TooMany { path: path.into(), limit: NUM_PROFILES_MAX });
        }
        Ok(Self { path: path.into(), rules })
    }

    /// Compiles each profile, one after the other.
    ///
    /// # Errors
    /// [`ProfileError::Compile`] or [`ProfileError::BindsNothing`], naming the profile.
    pub async fn compile(self, maze: &Maze) -> Result<Profiles, ProfileError> {
        let path = self.path.clone();
        Ok(Profiles { path, by_name: RwLock::new(Arc::new(self.by_name(maze).await?)) })
    }

    async fn by_name(self, maze: &Maze) -> Result<ByName, ProfileError> {
        let mut all = ByName::new();
        for (name, rules) in self.rules {
            let compiled = maze.compile_profile(&name, rules).await;
            let profile =
                compiled.map_err(|source| ProfileError::Compile { name: name.clone(), source: Box::new(source) })?;
            if profile.ir.is_empty() {
                return Err(ProfileError::BindsNothing { name });
            }
            all.insert(name, Arc::new(profile));
        }
        Ok(all)
    }
}

impl Profiles {
    /// The profile of this name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Profile>> {
        self.by_name().get(name).cloned()
    }

    pub(crate) fn by_name(&self) -> Arc<ByName> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the files say now, compiled, for [`Profiles::replace`].
    pub(crate) async fn read_again(&self, maze: &Maze) -> Result<ByName, ProfileError> {
        ProfileFiles::read(&self.path)?.by_name(maze).await
    }

    pub(crate) fn replace(&self, by_name: ByName) {
        *self.by_name.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(by_name);
    }
}

fn read_list(path: &Path) -> Result<BTreeMap<String, RuleSet>, ProfileError> {
    let list: List = toml::from_str(&read_text(path)?)
        .map_err(|source| ProfileError::List { path: path.into(), source: Box::new(source) })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    list.profile
        .into_iter()
        .map(|(name, entry)| {
            let mut set = match &entry.rules {
                Some(file) => read_set(&folder.join(file))?,
                None => ConstraintSet::default(),
            };
            if let Some(words) = &entry.security {
                let named = |source| ProfileError::Security { name: name.clone(), source };
                words.add_to(&mut set).map_err(named)?;
            }
            let options =
                CompileOptions { root_type: entry.type_name, strategy: entry.strategy, ..CompileOptions::default() };
            Ok((name, RuleSet { set, options }))
        })
        .collect()
}

/// Every `NAME.json` in the folder itself; other files are left alone.
fn read_folder(path: &Path) -> Result<BTreeMap<String, RuleSet>, ProfileError> {
    let failed = |source| ProfileError::Read { path: path.into(), source };
    let mut rules = BTreeMap::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let is_set = file.extension().is_some_and(|extension| extension == "json") && file.is_file();
        let Some(name) = file.file_stem().filter(|_| is_set) else { continue };
        if rules.len() > NUM_PROFILES_MAX {
            break;
        }
        rules.insert(name.to_string_lossy().into_owned(), RuleSet { set: read_set(&file)?, ..RuleSet::default() });
    }
    Ok(rules)
}

fn read_set(path: &Path) -> Result<ConstraintSet, ProfileError> {
    serde_json::from_str(&read_text(path)?).map_err(|source| ProfileError::Set { path: path.into(), source })
}

fn read_text(path: &Path) -> Result<String, ProfileError> {
    let failed = |source| ProfileError::Read { path: path.into(), source };
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ProfileError::TooLarge { path: path.into(), limit: FILE_BYTES_MAX });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = r#"{"constraints": [{"name": "a", "kind": "security", "source": "user_defined",
        "rule": {"type": "forbidden_text", "any_of": [{"text": "eval"}]}}]}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("it can be written");
        }
        folder
    }

    #[test]
    fn profiles_come_from_a_list_or_from_a_folder() {
        let list = "[profile.strict-1]\nrules = \"a.json\"\nsecurity = [\"sql=text\", \"urls=text\"]\nstrategy = \"refuse\"\n\
                    [profile.sql]\nsecurity = \"sql=text\"\n";
        let folder = folder(&[("list.toml", list), ("a.json", SET), ("README.md", "not a set")]);
        let files = ProfileFiles::read(&folder.path().join("list.toml")).expect("a list");
        let strict = &files.rules["strict-1"];
        assert_eq!(strict.options.strategy, Strategy::Refuse);
        assert!(strict.set.find("a").is_some() && strict.set.find("security.sql.drop").is_some());
        assert!(files.rules["sql"].set.constraints.len() < strict.set.constraints.len());
        let files = ProfileFiles::read(folder.path()).expect("a folder");
        assert_eq!(files.rules.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let long = "x".repeat(65);
        for (list, named) in [
            ("[profile.a]\nrules = \"no-such.json\"\n".to_owned(), "no-such.json"),
            ("[profile.a]\nrules = \"bad.json\"\n".to_owned(), "bad.json"),
            ("[profile.a]\nsecurity = \"sqli\"\n".to_owned(), "`sqli`"),
            ("[profile.a]\nrulse = \"a.json\"\n".to_owned(), "rulse"),
            ("[profile.a]\nstrategy = \"assisted\"\n".to_owned(), "assisted"),
            ("[profil.a]\n".to_owned(), "profil"),
            ("[profile.\"a b\"]\n".to_owned(), "`a b`"),
            (format!("[profile.{long}]\n"), long.as_str()),
            ((0..=NUM_PROFILES_MAX).map(|i| format!("[profile.p{i}]\n")).collect(), "more than 256"),
        ] {
            let folder = folder(&[("list.toml", &list), ("bad.json", r#"{"constraints": [{}]}"#)]);
            let error = ProfileFiles::read(&folder.path().join("list.toml")).expect_err(named).to_string();
            assert!(error.contains(named), "{error}");
        }
        let folder = folder(&[("a.json", &"#".repeat(FILE_BYTES_MAX as usize + 1))]);
        assert!(matches!(ProfileFiles::read(folder.path()), Err(ProfileError::TooLarge { .. })));
        assert!(matches!(ProfileFiles::read(Path::new("/no/such/list")), Err(ProfileError::Read { .. })));
    }
}
