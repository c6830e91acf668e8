//! From the settings, and the data directory, to the keys that tokens are verified with.

use crate::config::{Auth, AuthKey};
use crate::keys;
use clarion_token::{Algorithm, Key};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The longest file of a key, bytes.
const FILE_BYTES: u64 = 64 << 10;

/// The keys that are set, or else the one of the data directory, which is made if there is none.
///
/// # Errors
/// The setting or file that is at fault, and the rule.
pub(crate) fn load(auth: &Auth, data_dir: &Path) -> Result<Vec<Arc<Key>>, String> {
    if auth.has_keys() {
        return set(auth);
    }
    let text = keys::token_key(data_dir).map_err(|error| format!("data_dir: {error}"))?;
    Ok(vec![Arc::new(own(&text)?)])
}

/// The same for tools, which make nothing: a key that the running server does not have helps nobody.
pub(crate) fn find(auth: &Auth, data_dir: &Path) -> Result<Vec<Arc<Key>>, String> {
    if auth.has_keys() {
        return set(auth);
    }
    let path = data_dir.join(keys::TOKEN_KEY_FILE);
    let text = file(&path).map_err(|error| {
        format!(
            "{error}. The server makes this key at its first start, if no auth.keys are set; say where \
             its data is with --data-dir, or give a key with --secret-file"
        )
    })?;
    Ok(vec![Arc::new(own(&text)?)])
}

/// Whether every key that is set can be read.
pub(crate) fn check(auth: &Auth) -> Result<(), String> {
    set(auth).map(drop)
}

fn own(text: &str) -> Result<Key, String> {
    Key::secret(Algorithm::Hs256, None, text.trim().as_bytes())
        .map_err(|error| format!("data_dir: {}: {error}", keys::TOKEN_KEY_FILE))
}

fn set(auth: &Auth) -> Result<Vec<Arc<Key>>, String> {
    let named = |(index, key)| {
        read(key).map(Arc::new).map_err(|rule| format!("auth.keys[{index}]: {rule}"))
    };
    auth.keys.iter().enumerate().map(named).collect()
}

/// One key of the settings.
pub(crate) fn read(key: &AuthKey) -> Result<Key, String> {
    let AuthKey { alg, kid, secret, secret_file, public_key, public_key_file } = key;
    let algorithm = algorithm(alg)?;
    let kid = kid.as_deref();
    let secret = match (secret, secret_file) {
        (Some(secret), _) => Some(secret.expose().to_owned()),
        (None, Some(path)) => Some(file(path)?.trim().to_owned()),
        (None, None) => None,
    };
    let public = match (public_key, public_key_file) {
        (Some(pem), _) => pem.clone(),
        (None, Some(path)) => file(path)?,
        (None, None) => String::new(),
    };
    match secret {
        Some(secret) => Key::secret(algorithm, kid, secret.as_bytes()),
        None => Key::public_pem(algorithm, kid, &public),
    }
    .map_err(|error| error.to_string())
}

/// The algorithm of this name.
pub(crate) fn algorithm(name: &str) -> Result<Algorithm, String> {
    let known = || Algorithm::ALL.map(Algorithm::name).join(", ");
    Algorithm::named(name).ok_or_else(|| format!("alg is one of {}", known()))
}

/// The text of a file with a key; the error names the file.
pub(crate) fn file(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = keys::open(path).and_then(|file| file.take(FILE_BYTES).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| format!("{}: {error}", path.display()))
}
