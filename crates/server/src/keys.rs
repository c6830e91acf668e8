//! Secrets that live in the data directory: made at the first start, mode 0600, never logged.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const TICKET_KEY_FILE: &str = "ticket-key";
pub(crate) const TOKEN_KEY_FILE: &str = "token-key";

/// Makes the data directory, readable by nobody else, if there is none.
///
/// What was made is on the disk when this returns: a directory is lost with all that is in it, however
/// well that was synced, as long as its name is not in the directory above.
pub(crate) fn prepare(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| is_missing(dir)).collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    missing.into_iter().filter_map(Path::parent).try_for_each(sync)
}

fn is_missing(dir: &Path) -> bool {
    // An empty path is where relative ones begin.
    dir != Path::new("") && !dir.exists()
}

/// Brings the names in a directory to the disk.
fn sync(dir: &Path) -> io::Result<()> {
    let here = if dir == Path::new("") { Path::new(".") } else { dir };
    File::open(here)?.sync_all()
}

/// The key that authenticates session tickets.
///
/// It is kept, so that a restart does not cost every client its session.
pub(crate) fn ticket_key(dir: &Path) -> io::Result<[u8; 32]> {
    let bytes = keep(dir, TICKET_KEY_FILE, || random::<32>().to_vec())?;
    bytes.try_into().map_err(|_| invalid(dir, TICKET_KEY_FILE, "is not 32 bytes long"))
}

/// The secret that tokens are signed with where no other keys are set: text, so that it can be given to
/// a back end as it is.
pub(crate) fn token_key(dir: &Path) -> io::Result<String> {
    let text = keep(dir, TOKEN_KEY_FILE, || URL_SAFE_NO_PAD.encode(random::<32>()).into_bytes())?;
    String::from_utf8(text).map_err(|_| invalid(dir, TOKEN_KEY_FILE, "is not text"))
}

/// Bytes from the operating system's source of randomness.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes);
    bytes
}

/// Fills `out` from the operating system's source of randomness.
pub(crate) fn fill_random(out: &mut [u8]) {
    getrandom::fill(out).expect("Linux has had getrandom(2) since 3.17, and it does not fail");
}

/// Reads a file, or writes what `make` gives. It is on the disk when this returns.
///
/// The file appears whole or not at all: a process that is killed while it writes must not leave
/// an empty key behind, and of two that start together one wins and both use its key.
fn keep(dir: &Path, name: &str, make: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    let path = &dir.join(name);
    let bytes = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_file(path, make())?,
        done => done?,
    };
    // Also if the file was there: whoever made it may have been killed before this.
    sync(dir)?;
    Ok(bytes)
}

/// Makes the file with these bytes, unless another was quicker; returns what is in it.
fn make_file(path: &Path, fresh: Vec<u8>) -> io::Result<Vec<u8>> {
    // Not by the process's number: in a container it is 1 each time, and a draft that a crash left
    // behind would be in the way for good.
    let draft = path.with_extension(format!("draft-{:016x}", u64::from_be_bytes(random())));
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
    let made = made.and_then(|mut file| {
        file.write_all(&fresh)?;
        file.sync_all()?;
        fs::hard_link(&draft, path)
    });
    let _ = fs::remove_file(&draft);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(error),
        Ok(()) => Ok(fresh),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file of secrets, and says so if it is not private.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "other users of this machine can read this key");
    }
    Ok(file)
}

fn invalid(dir: &Path, name: &str, rule: &str) -> io::Error {
    let path = dir.join(name);
    io::Error::new(io::ErrorKind::InvalidData, format!("{} {rule}", path.display()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A directory of its own for one test.
    pub(crate) fn directory(test: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("clarion-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        prepare(&dir).unwrap();
        dir
    }

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let dir = directory("keys");
        assert_eq!(ticket_key(&dir).unwrap(), ticket_key(&dir).unwrap());
        assert_eq!(token_key(&dir).unwrap(), token_key(&dir).unwrap());
        for name in [TICKET_KEY_FILE, TOKEN_KEY_FILE] {
            let mode = fs::metadata(dir.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_damaged_key_is_refused_by_name() {
        let dir = directory("damaged");
        fs::write(dir.join(TICKET_KEY_FILE), [1, 2, 3]).unwrap();
        assert!(ticket_key(&dir).unwrap_err().to_string().contains(TICKET_KEY_FILE));
        fs::remove_dir_all(dir).unwrap();
    }
}
