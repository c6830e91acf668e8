//! `api-keys.toml` in the data directory: the keys, as digests, mode 0600.
//!
//! It is replaced whole, so that whoever reads it sees the file before or after a change, and it is
//! on the disk before a command says so. Changes wait for each other at a lock on the directory.

use super::{DEFAULT, Entry, KEYS_MAX, Scope};
use crate::config::Secret;
use crate::keys;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

const NAME: &str = "api-keys.toml";
/// Where versions before this one kept the one key there was, as it is.
const PLAIN: &str = "api-key";
/// A file of [`KEYS_MAX`] keys is smaller.
const SIZE_MAX: u64 = 1 << 20;
const HEAD: &str = "# Keys of the HTTP API, as digests. `clarion key` changes them, and a running\n\
    # server reads them again within a second.\n\n";

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    keys: Vec<Entry>,
}

/// Which file it was, and when it was changed: another stamp, other contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp([i64; 6]);

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// `None` if there is no file.
pub(super) fn stamp(dir: &Path) -> io::Result<Option<Stamp>> {
    let meta = match fs::metadata(path(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    Ok(Some(Stamp([
        meta.ino().cast_signed(),
        meta.size().cast_signed(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ])))
}

/// The keys, or `None` if there is no file. An error says what is wrong with it, in one line.
pub(super) fn read(dir: &Path) -> Result<Option<Vec<Entry>>, String> {
    let path = path(dir);
    let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let mut text = String::new();
    match keys::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
        Ok(file) => file.take(SIZE_MAX + 1).read_to_string(&mut text).map_err(|e| failed(&e))?,
    };
    if text.len() as u64 > SIZE_MAX {
        return Err(failed(&format_args!("is larger than {SIZE_MAX} bytes")));
    }
    let contents: Contents = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        failed(&format_args!("line {line}: {}", error.message().trim()))
    })?;
    check(&contents.keys).map_err(|rule| failed(&rule))?;
    Ok(Some(contents.keys))
}

fn check(keys: &[Entry]) -> Result<(), String> {
    if keys.len() > KEYS_MAX {
        return Err(format!("there are more than {KEYS_MAX} keys"));
    }
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].iter().any(|other| other.name == key.name) {
            return Err(format!("there are two keys `{}`", key.name));
        }
        if key.scopes.is_empty() {
            return Err(format!("the key `{}` has no scope", key.name));
        }
    }
    Ok(())
}

/// Changes the keys, and returns when that is on the disk. `change` is given `None` when there are
/// none yet, not even that of an older version; nothing is written if it refuses.
pub(super) fn edit<T>(
    dir: &Path,
    change: impl FnOnce(Option<Vec<Entry>>) -> Result<(Vec<Entry>, T), String>,
) -> Result<T, String> {
    let failed = |error: io::Error| format!("{}: {error}", dir.display());
    keys::prepare(dir).map_err(failed)?;
    // Unlocked when it is closed.
    let lock = File::open(dir).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let before = match read(dir)? {
        None => plain(dir)?.map(|key| vec![key]),
        keys => keys,
    };
    let (keys, result) = change(before)?;
    check(&keys)?;
    let text = toml::to_string(&Contents { keys }).expect("keys can be written");
    replace(dir, &lock, &format!("{HEAD}{text}")).map_err(failed)?;
    Ok(result)
}

fn replace(dir: &Path, open: &File, text: &str) -> io::Result<()> {
    let (path, draft) = (path(dir), dir.join(format!("{NAME}.draft")));
    // One that was left behind by a crash; nobody else writes it, since the directory is locked.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let (mine, theirs) = (file.metadata()?, open.metadata()?);
    if (mine.uid(), mine.gid()) != (theirs.uid(), theirs.gid()) {
        // Of an administrator's command; the server, as which the directory belongs, has to read it.
        chown(&draft, Some(theirs.uid()), Some(theirs.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    open.sync_all()
}

/// The key of a version that knew only one, and kept it as it is.
fn plain(dir: &Path) -> Result<Option<Entry>, String> {
    let path = dir.join(PLAIN);
    let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let mut text = String::new();
    match keys::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
        Ok(file) => file.take(SIZE_MAX).read_to_string(&mut text).map_err(|e| failed(&e))?,
    };
    let key = text.trim();
    if key.len() < 16 {
        return Err(failed(&"is shorter than 16 characters"));
    }
    tracing::warn!(
        file = %path.display(),
        "this key is now kept as a digest; delete the file when you know the key from elsewhere"
    );
    Ok(Some(Entry::new(DEFAULT, vec![Scope::Admin], &Secret::new(key.to_owned()))))
}

#[cfg(test)]
mod tests {
    use super::super::{Digest, Previous};
    use super::*;
    use crate::keys::tests::directory;
    use std::os::unix::fs::PermissionsExt;

    fn entry(name: &str) -> Entry {
        Entry::new(name, vec![Scope::Read], &Secret::new(format!("secret of {name}")))
    }

    #[test]
    fn what_is_written_is_read_and_private() {
        let dir = directory("api-keys");
        assert_eq!(read(&dir), Ok(None));
        let mut first = entry("first");
        first.previous = Some(Previous { sha256: Digest::of("old"), until: 5 });
        let keys = vec![first, entry("second")];
        edit(&dir, |before| {
            assert_eq!(before, None);
            Ok((keys.clone(), ()))
        })
        .unwrap();
        assert_eq!(read(&dir), Ok(Some(keys)));
        let meta = fs::metadata(path(&dir)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(path(&dir)).unwrap().contains("secret of"));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no draft is left");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_change_that_is_refused_changes_nothing_and_each_change_is_seen() {
        let dir = directory("api-keys-stamp");
        assert_eq!(stamp(&dir).unwrap(), None);
        edit(&dir, |_| Ok((vec![entry("a")], ()))).unwrap();
        let before = stamp(&dir).unwrap();
        assert!(edit(&dir, |_| Err::<(_, ()), _>("no".into())).is_err());
        assert!(edit(&dir, |_| Ok((vec![entry("a"), entry("a")], ()))).is_err());
        assert_eq!(stamp(&dir).unwrap(), before);
        edit(&dir, |keys| Ok((keys.unwrap(), ()))).unwrap();
        assert_ne!(stamp(&dir).unwrap(), before);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_broken_file_is_refused_by_name_and_line_and_not_overwritten() {
        let dir = directory("api-keys-broken");
        let good = toml::to_string(&Contents { keys: vec![entry("a")] }).unwrap();
        let twice = good.repeat(2);
        for (text, said) in [
            ("keys = 1", "line 1"),
            ("\n[[keys]]\nname = 'a b'", "A-Z a-z"),
            ("[[keys]]\nname = 'a'\nnonsense = 1", "nonsense"),
            (&good.replace("read", "write"), "write"),
            (&good.replace("[\"read\"]", "[]"), "no scope"),
            (&good.replace("sha256 = \"", "sha256 = \"x"), "digest"),
            (&twice, "two keys"),
        ] {
            fs::write(path(&dir), text).unwrap();
            let error = read(&dir).unwrap_err();
            assert!(error.contains(said) && error.contains(NAME), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(edit(&dir, |_| Ok((Vec::new(), ()))).is_err());
            assert_eq!(fs::read_to_string(path(&dir)).unwrap(), text);
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_one_key_of_an_older_version_is_the_default_and_stays_where_it_is() {
        let dir = directory("api-keys-plain");
        fs::write(dir.join(PLAIN), "0123456789abcdef\n").unwrap();
        let keys = edit(&dir, |before| Ok((before.clone().unwrap(), before.unwrap()))).unwrap();
        assert_eq!((&*keys[0].name, &keys[0].scopes[..]), (DEFAULT, &[Scope::Admin][..]));
        assert_eq!(keys[0].sha256, Digest::of("0123456789abcdef"));
        assert!(dir.join(PLAIN).exists());
        // Once there is the file, the old one means nothing.
        edit(&dir, |_| Ok((Vec::new(), ()))).unwrap();
        assert_eq!(read(&dir), Ok(Some(Vec::new())));
        fs::remove_file(path(&dir)).unwrap();
        fs::write(dir.join(PLAIN), "\n").unwrap();
        let error = edit(&dir, |_| Ok((Vec::new(), ()))).unwrap_err();
        assert!(error.contains("api-key: is shorter"), "{error}");
        fs::remove_dir_all(dir).unwrap();
    }
}
