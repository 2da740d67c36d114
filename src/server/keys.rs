//! API keys: the file that lists them, and whose a key is.
//!
//! The file holds the BLAKE3 digest of each key, never a key. A key is 32 random bytes, so nobody finds one by trying,
//! and a slow hash, which protects words that people choose, would only cost time on every request.
//! A person may paste a key where it does not belong, so no error here repeats what the file says but a line or an
//! entry's number.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
};

use toml::{Table, Value};

use super::account::{Account, KeyLimits};
use crate::maze::{Salt, Tenant};

/// Keys in one file; each is compared with at every request. Default 4,096, which is some 20 microseconds.
const NUM_KEYS_MAX: usize = 4096;
/// Bytes of the file. Default 4 MiB.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Characters of a key's name, which stands in logs.
const NAME_LEN_MAX: usize = 64;
/// The largest weight: a turn is no longer than this.
const WEIGHT_MAX: u32 = 100;
/// What every key begins with, so that scanners for leaked secrets find it.
const KEY_PREFIX: &str = "ananke_";
/// Random bytes of a key.
const NUM_KEY_BYTES: usize = 32;

/// What the salt of an isolated key is derived for.
const SALT_CONTEXT: &str = "ananke 2026-11 api keys: salt of an isolated key";

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Generate text.
    Generate,
    /// Read and compile constraints.
    Constraints,
    /// Read the metrics.
    Metrics,
    /// Manage the server.
    Admin,
}

impl Scope {
    const ALL: [Self; 4] = [Self::Generate, Self::Constraints, Self::Metrics, Self::Admin];

    /// The scope as the file spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Constraints => "constraints",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

/// A scope that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scopes are `generate`, `constraints`, `metrics` and `admin`")]
pub struct UnknownScope;

/// One entry of the file.
#[derive(Debug)]
pub(crate) struct ApiKey {
    pub(crate) name: Arc<str>,
    hash: blake3::Hash,
    scopes: Vec<Scope>,
    pub(crate) limits: KeyLimits,
    is_isolated: bool,
    /// The profile that binds every request of this key.
    pub(crate) profile: Option<String>,
    /// The only model that this key may use.
    pub(crate) model: Option<String>,
    /// Outlives a reload, so that reading the file again gives nobody a fresh balance.
    pub(crate) account: Arc<Account>,
    /// In whose line its requests wait; kept over a reload, like the account.
    pub(crate) tenant: Arc<Tenant>,
    /// Sequences of one turn.
    weight: u32,
}

impl ApiKey {
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// What sets an isolated key apart from all others in caches; a key that takes its place has another.
    pub(crate) fn salt(&self) -> Option<Salt> {
        self.is_isolated.then(|| blake3::derive_key(SALT_CONTEXT, self.hash.as_bytes()))
    }
}

/// The keys of a file, which may be read again while the server runs.
#[derive(Debug)]
pub struct ApiKeys {
    path: PathBuf,
    ring: RwLock<Arc<[Arc<ApiKey>]>>,
}

impl ApiKeys {
    /// Reads the file.
    ///
    /// # Errors
    /// [`KeyFileError`], naming the line or the entry.
    pub fn open(path: &Path) -> Result<Self, KeyFileError> {
        let ring = read(path, &[])?;
        Ok(Self { path: path.into(), ring: RwLock::new(ring) })
    }

    /// Reads the file again, and says how many keys there are now. Balances of keys that stay are kept.
    ///
    /// # Errors
    /// [`KeyFileError`]; the keys are then as they were.
    pub fn reload(&self) -> Result<usize, KeyFileError> {
        self.read_again().map(|ring| self.replace(ring))
    }

    /// What the file says now, for [`ApiKeys::replace`].
    pub(crate) fn read_again(&self) -> Result<Arc<[Arc<ApiKey>]>, KeyFileError> {
        read(&self.path, &self.ring())
    }

    /// Puts these keys in the place of those that are there, and says how many they are.
    pub(crate) fn replace(&self, ring: Arc<[Arc<ApiKey>]>) -> usize {
        let num_keys = ring.len();
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        num_keys
    }

    /// Whose key this is. Takes as long for every key that is presented: all digests are compared, each in constant
    /// time, which [`blake3::Hash`] promises of its `==`.
    pub(crate) fn find(&self, presented: &str) -> Option<Arc<ApiKey>> {
        let presented = blake3::hash(presented.as_bytes());
        let mut found = None;
        for key in self.ring().iter() {
            if key.hash == presented {
                found = Some(key.clone());
            }
        }
        found
    }

    pub(crate) fn ring(&self) -> Arc<[Arc<ApiKey>]> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file could not be read.
    #[error("cannot read the API keys in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file is larger than any list of keys.
    #[error("{} has more than {limit} bytes, which is all that is read of API keys", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that are read.
        limit: u64,
    },
    /// The file is not TOML.
    #[error("{}: line {line} is not TOML, which a list of API keys is", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
    },
    /// The file is TOML, and no list of keys.
    #[error("{}: {reason}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// One entry is wrong.
    #[error("{}: in entry {entry} of [[key]], {reason}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Which entry, from 1.
        entry: usize,
        /// What is wrong with it; never what it says.
        reason: String,
    },
}

fn read(path: &Path, before: &[Arc<ApiKey>]) -> Result<Arc<[Arc<ApiKey>]>, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.into(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(KeyFileError::TooLarge { path: path.into(), limit: FILE_BYTES_MAX });
    }
    let table = text.parse::<Table>().map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        KeyFileError::Syntax { path: path.into(), line }
    })?;
    let shape = |reason: &str| KeyFileError::Shape { path: path.into(), reason: reason.into() };
    let entries = match table.get("key") {
        _ if table.keys().any(|name| name != "key") => return Err(shape("only [[key]] may stand in it")),
        None => return Err(shape("there is no [[key]] in it, so that nobody could be let in")),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(shape("each key stands below a line [[key]], in double brackets")),
    };
    if entries.len() > NUM_KEYS_MAX {
        return Err(shape(&format!("it has {} keys; at most {NUM_KEYS_MAX} are taken", entries.len())));
    }
    let mut ring: Vec<Arc<ApiKey>> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let wrong = |reason: String| KeyFileError::Entry { path: path.into(), entry: index + 1, reason };
        let table = entry.as_table().ok_or_else(|| wrong("there is no table".into()))?;
        let key = Entry(table).key(before).map_err(wrong)?;
        if let Some(other) = ring.iter().position(|other| other.name == key.name || other.hash == key.hash) {
            return Err(wrong(format!("name or hash is that of entry {}", other + 1)));
        }
        ring.push(Arc::new(key));
    }
    // Once all of the file is good.
    ring.iter().for_each(|key| key.tenant.set_weight(key.weight));
    Ok(ring.into())
}

/// An entry as it stands in the file.
struct Entry<'a>(&'a Table);

impl Entry<'_> {
    const FIELDS: [&'static str; 11] = [
        "name",
        "hash",
        "scopes",
        "requests_per_minute",
        "tokens_per_minute",
        "concurrent",
        "max_tokens",
        "weight",
        "isolated",
        "profile",
        "model",
    ];

    fn key(&self, before: &[Arc<ApiKey>]) -> Result<ApiKey, String> {
        if self.0.keys().any(|field| !Self::FIELDS.contains(&field.as_str())) {
            return Err(format!("there is another field than {}", Self::FIELDS.join(", ")));
        }
        let name: Arc<str> = self.text("name")?.into();
        check_name(&name).map_err(|error| error.to_string())?;
        let hash = blake3::Hash::from_hex(self.text("hash")?)
            .map_err(|_| "`hash` is not the 64 hexadecimal digits of a BLAKE3 digest".to_owned())?;
        let limits = KeyLimits {
            requests_per_minute: self.count("requests_per_minute")?,
            tokens_per_minute: self.count("tokens_per_minute")?,
            concurrent: self.count("concurrent")?,
            max_tokens: self.count("max_tokens")?,
        };
        let weight = self.count("weight")?.unwrap_or(Tenant::WEIGHT_DEFAULT);
        if weight > WEIGHT_MAX {
            return Err(format!("`weight` is more than {WEIGHT_MAX}"));
        }
        let known = before.iter().find(|key| key.name == name);
        let account = known.map_or_else(Arc::default, |key| key.account.clone());
        let tenant = known.map_or_else(|| Tenant::new(weight), |key| key.tenant.clone());
        let profile = self.optional_text("profile")?;
        if profile.as_deref().is_some_and(|profile| !is_name(profile)) {
            return Err("`profile` is no name of a profile".into());
        }
        let model = self.optional_text("model")?;
        let is_isolated = self.flag("isolated")?;
        Ok(ApiKey { name, hash, scopes: self.scopes()?, limits, is_isolated, profile, model, account, tenant, weight })
    }

    fn text(&self, field: &str) -> Result<&str, String> {
        self.0.get(field).and_then(Value::as_str).ok_or_else(|| format!("`{field}` is missing or no string"))
    }

    fn optional_text(&self, field: &str) -> Result<Option<String>, String> {
        if self.0.contains_key(field) { self.text(field).map(|text| Some(text.to_owned())) } else { Ok(None) }
    }

    fn scopes(&self) -> Result<Vec<Scope>, String> {
        let wrong = || format!("`scopes` is no list of scopes: {UnknownScope}");
        let list = self.0.get("scopes").and_then(Value::as_array).filter(|list| !list.is_empty()).ok_or_else(wrong)?;
        list.iter().map(|scope| scope.as_str().and_then(|scope| scope.parse().ok()).ok_or_else(wrong)).collect()
    }

    fn flag(&self, field: &str) -> Result<bool, String> {
        let value = self.0.get(field).map_or(Some(false), Value::as_bool);
        value.ok_or_else(|| format!("`{field}` is neither true nor false"))
    }

    fn count(&self, field: &str) -> Result<Option<u32>, String> {
        let Some(value) = self.0.get(field) else { return Ok(None) };
        let count = value.as_integer().and_then(|count| u32::try_from(count).ok()).filter(|&count| count > 0);
        count.map(Some).ok_or_else(|| format!("`{field}` is no whole number from 1 to {}", u32::MAX))
    }
}

/// A fresh key and the entry to write down for it.
pub struct NewKey {
    /// What the client sends. It is nowhere else.
    pub secret: String,
    /// The lines for the file, with the key's digest.
    pub entry: String,
}

/// Why there is no fresh key.
#[derive(Debug, thiserror::Error)]
pub enum NewKeyError {
    /// A name that would not stand well in logs.
    #[error("a key's name has 1 to {NAME_LEN_MAX} letters, digits, dots, hyphens and underscores")]
    Name,
    /// A key without a scope opens nothing.
    #[error("a key needs a scope; {UnknownScope}")]
    NoScope,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
}

impl NewKey {
    /// Makes a key of random bytes of the system.
    ///
    /// # Errors
    /// [`NewKeyError`].
    pub fn generate(name: &str, scopes: &[Scope]) -> Result<Self, NewKeyError> {
        check_name(name)?;
        let mut scopes = scopes.to_vec();
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.is_empty() {
            return Err(NewKeyError::NoScope);
        }
        let mut bytes = [0; NUM_KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(NewKeyError::Random)?;
        let secret = format!("{KEY_PREFIX}{}", blake3::Hash::from_bytes(bytes).to_hex());
        let hash = blake3::hash(secret.as_bytes()).to_hex();
        let scopes: Vec<_> = scopes.iter().map(|scope| format!("\"{scope}\"")).collect();
        let scopes = scopes.join(", ");
        let entry = format!("[[key]]\nname = \"{name}\"\nhash = \"{hash}\"\nscopes = [{scopes}]\n");
        Ok(Self { secret, entry })
    }
}

fn check_name(name: &str) -> Result<(), NewKeyError> {
    if is_name(name) { Ok(()) } else { Err(NewKeyError::Name) }
}

/// Whether it stands well in logs. A key is longer, so that none is taken for a name.
pub(crate) fn is_name(name: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=NAME_LEN_MAX).contains(&name.len()) && name.chars().all(is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("it can be written");
        file
    }

    #[test]
    fn a_fresh_key_is_found_and_no_other() {
        let ci = NewKey::generate("ci", &[Scope::Metrics, Scope::Generate, Scope::Generate]).expect("a key");
        let lab = NewKey::generate("lab", &[Scope::Admin]).expect("a key");
        assert!(ci.secret.len() == KEY_PREFIX.len() + 2 * NUM_KEY_BYTES && ci.secret != lab.secret);
        assert!(!ci.entry.contains(&ci.secret[KEY_PREFIX.len()..]), "the file gets the digest");
        let keys = ApiKeys::open(file(&format!("{}\n{}", ci.entry, lab.entry)).path()).expect("a list of keys");
        let found = keys.find(&ci.secret).expect("it is listed");
        assert!(&*found.name == "ci" && found.may(Scope::Generate) && !found.may(Scope::Admin));
        assert_eq!(keys.find(&lab.secret).map(|key| key.name.to_string()).as_deref(), Some("lab"));
        for other in ["", "ananke_", &ci.secret[1..], &format!("{} ", ci.secret)] {
            assert!(keys.find(other).is_none());
        }
    }

    #[test]
    fn names_and_scopes_are_checked() {
        for name in ["", "a b", "a\"", "ключ", &"x".repeat(NAME_LEN_MAX + 1)] {
            assert!(matches!(NewKey::generate(name, &[Scope::Admin]), Err(NewKeyError::Name)), "{name}");
        }
        assert!(matches!(NewKey::generate("ci", &[]), Err(NewKeyError::NoScope)));
        assert_eq!("root".parse::<Scope>(), Err(UnknownScope));
    }

    #[test]
    fn a_wrong_file_is_named_by_its_place_and_never_quoted() {
        let secret = "ananke_5ec12e7";
        let hash = blake3::hash(b"").to_hex();
        let good = format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\nscopes = [\"generate\"]\n");
        for (text, place) in [
            (format!("[[key]]\nname = \"a\"\nhash = {secret}\n"), "line 3"),
            (format!("{good}key = \"{secret}\"\n"), "entry 1"),
            (format!("{good}{secret} = 1\n"), "entry 1"),
            (format!("{good}[[key]]\nname = \"b\"\nhash = \"{secret}\"\nscopes = [\"admin\"]\n"), "entry 2"),
            (format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\nscopes = \"{secret}\"\n"), "`scopes`"),
            (format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\nscopes = [\"{secret}\"]\n"), "`scopes`"),
            (format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\nscopes = []\n"), "`scopes`"),
            (format!("[[key]]\nname = \"{secret} x\"\nhash = \"{hash}\"\nscopes = [\"admin\"]\n"), "name"),
            (format!("{good}max_tokens = 0\n"), "`max_tokens`"),
            (format!("{good}concurrent = \"{secret}\"\n"), "`concurrent`"),
            (format!("{good}isolated = \"{secret}\"\n"), "`isolated`"),
            (format!("{good}profile = [\"{secret}\"]\n"), "`profile`"),
            (format!("{good}profile = \"{secret} x\"\n"), "`profile`"),
            (format!("{good}model = 1\n"), "`model`"),
            (format!("{good}weight = 0\n"), "`weight`"),
            (format!("{good}weight = 101\n"), "`weight`"),
            (format!("{good}{good}"), "that of entry 1"),
            (format!("{secret} = 1\n"), "[[key]]"),
            (format!("key = \"{secret}\"\n"), "[[key]]"),
            (String::new(), "[[key]]"),
        ] {
            let file = file(&text);
            let error = ApiKeys::open(file.path()).expect_err(&text).to_string();
            assert!(error.contains(place) && !error.contains(secret), "{text}\n{error}");
        }
        assert!(matches!(ApiKeys::open(Path::new("/no/such/file")), Err(KeyFileError::Read { .. })));
        let large = file(&"#".repeat(FILE_BYTES_MAX as usize + 1));
        assert!(matches!(ApiKeys::open(large.path()), Err(KeyFileError::TooLarge { .. })));
    }

    #[test]
    fn a_reload_takes_new_keys_keeps_balances_and_survives_a_bad_file() {
        let (ci, lab) = (NewKey::generate("ci", &[Scope::Generate]), NewKey::generate("lab", &[Scope::Generate]));
        let (ci, lab) = (ci.expect("a key"), lab.expect("a key"));
        let file = file(&ci.entry);
        let keys = ApiKeys::open(file.path()).expect("a list of keys");
        let account = keys.find(&ci.secret).expect("it is listed").account.clone();
        let tenant = keys.find(&ci.secret).expect("it is listed").tenant.clone();
        std::fs::write(file.path(), format!("{}{}", lab.entry, ci.entry)).expect("it can be written");
        assert!(keys.find(&lab.secret).is_none());
        assert_eq!(keys.reload().expect("a list of keys"), 2);
        assert!(keys.find(&lab.secret).is_some());
        assert!(Arc::ptr_eq(&keys.find(&ci.secret).expect("it is listed").account, &account));
        assert!(Arc::ptr_eq(&keys.find(&ci.secret).expect("it is listed").tenant, &tenant));
        std::fs::write(file.path(), "[[key]]").expect("it can be written");
        assert!(keys.reload().is_err() && keys.find(&lab.secret).is_some());
        std::fs::write(file.path(), &lab.entry).expect("it can be written");
        assert_eq!(keys.reload().expect("a list of keys"), 1);
        assert!(keys.find(&ci.secret).is_none(), "a key that is taken out opens nothing");
    }
}
