//! The key files of the data directory: `client-key`, `admin-token` and `secret-key`.
//!
//! Owns how they are made: once, readable by their owner only, whole or not at all, and the same for processes that
//! start together. The secrets are never logged.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rand::Rng as _;
use secrecy::SecretString;

use crate::Settings;

/// Name of the client key's file in the data directory.
pub const CLIENT_KEY_FILE: &str = "client-key";
/// Name of the admin token's file in the data directory.
pub const ADMIN_TOKEN_FILE: &str = "admin-token";
/// Name of the file in the data directory whose secret seals the keys of providers in the database.
pub const SECRET_KEY_FILE: &str = "secret-key";

const SECRET_PREFIX: &str = "tokenhub_";
const SECRET_BYTES: usize = 32;

/// Why a key file could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file or its folder could not be made.
    #[error("cannot make the key file {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file could not be read.
    #[error("cannot read the key file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file can be read by others.
    #[error("the key file {} has mode {mode:04o}, it must have no group or other bits (chmod 600)", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds nothing.
    #[error("the key file {} is empty, delete it to have a new one made", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// The key that clients present: the configured one, or the data directory's, made when it is missing.
pub fn client_key(settings: &Settings) -> Result<SecretString, KeyFileError> {
    settings.client_key.clone().map_or_else(|| ensure_secret_file(&settings.data_dir.join(CLIENT_KEY_FILE)), Ok)
}

/// The token that administrators present: the configured one, or the data directory's, made when it is missing.
pub fn admin_token(settings: &Settings) -> Result<SecretString, KeyFileError> {
    settings.admin_token.clone().map_or_else(|| ensure_secret_file(&settings.data_dir.join(ADMIN_TOKEN_FILE)), Ok)
}

/// What seals the keys of providers in the database: the configured secret, or the data directory's, made when it is
/// missing. Processes on different machines need the same one.
pub fn secret_key(settings: &Settings) -> Result<SecretString, KeyFileError> {
    settings.secret_key.clone().map_or_else(|| ensure_secret_file(&settings.data_dir.join(SECRET_KEY_FILE)), Ok)
}

/// The secret in the file at `path`, made there when there is none.
pub fn ensure_secret_file(path: &Path) -> Result<SecretString, KeyFileError> {
    match read(path) {
        Err(KeyFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            create(path).map_err(|source| KeyFileError::Create { path: path.to_owned(), source })?;
            read(path)
        }
        settled => settled,
    }
}

/// Writes the secret beside `path` and links it into place: whoever links first wins and everybody reads that one.
fn create(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", &random_hex()[..16]));
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let linked = file
        .write_all(format!("{SECRET_PREFIX}{}\n", random_hex()).as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn read(path: &Path) -> Result<SecretString, KeyFileError> {
    const OTHERS: u32 = 0o077;
    let unreadable = |source| KeyFileError::Read { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::Mode { path: path.to_owned(), mode });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    match text.trim() {
        "" => Err(KeyFileError::Empty { path: path.to_owned() }),
        secret => Ok(SecretString::from(secret)),
    }
}

fn random_hex() -> String {
    let mut bytes = [0_u8; SECRET_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().fold(String::with_capacity(SECRET_BYTES * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
