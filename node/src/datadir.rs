//! The data directory: one process at a time, one node for ever.
//!
//! Owns: the directory itself, its `lock` and its `identity`. Promises: while a [`DataDir`] lives, no other process
//! opens the directory; a directory is opened only by the node, site, country and engine that it was made for, in a
//! format that this program knows; where it refuses, it has changed nothing (but
//! put an empty `lock` beside a restored identity). The identity is written whole or not at
//! all.
//! Leaves to others: everything else in the directory, which begins to exist after the identity does.
//! Limits: the lock is the operating system's (`flock`), which some network file systems do not keep; data belongs on a
//! local disk. A directory that holds other files and no identity is refused, even if a node once lost its identity
//! there: guessing whose data it is could revive a vote.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dinhba_core::ids::{NodeId, SiteId};
use serde::{Deserialize, Serialize};

use crate::config::Engine;

/// The format of directories that this program makes. It reads this one alone.
pub const FORMAT: u32 = 11;
/// Personal data lies below: for the node's user alone.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const LOCK: &str = "lock";
const IDENTITY: &str = "identity";
/// Where the identity is written before it is renamed. Left over by a crash, it is overwritten.
const IDENTITY_NEW: &str = "identity.new";
/// Empty; there once the node may take part under its id.
const ADMITTED: &str = "admitted";
/// There while an archive is put back, and after such an attempt was broken off by force.
const RESTORING: &str = "restoring";
/// The longest country id: a short name or a hash in hex.
const COUNTRY_BYTES_MAX: usize = 64;

/// Whose data a directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// Its site.
    pub site: SiteId,
    /// The engine that keeps the state.
    pub engine: Engine,
    /// Which country (which tree of units, from its beginning): 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`.
    pub country: String,
}

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it open.
    #[error(
        "{path} is in use by a running process{}: stop that first, or give this node a directory of its own",
        who(.pid)
    )]
    Locked {
        /// The directory.
        path: String,
        /// The process that said that it has it.
        pid: Option<u32>,
    },
    /// It may not be written to.
    #[error("{path} cannot be written to ({reason}): make it writable for this user, or choose another node.data_dir")]
    ReadOnly {
        /// The directory.
        path: String,
        /// What the operating system said.
        reason: String,
    },
    /// It holds something else.
    #[error(
        "{path} holds files ({example:?}) but no identity: \
         choose an empty node.data_dir, or restore its {IDENTITY:?} file"
    )]
    NotOurs {
        /// The directory.
        path: String,
        /// One of the files.
        example: String,
    },
    /// It belongs to something else.
    #[error(
        "{path} belongs to {what} {found}, and the configuration says {wanted}: \
         correct {key}, or choose another node.data_dir"
    )]
    Other {
        /// The directory.
        path: String,
        /// What differs: node, site, engine or country.
        what: &'static str,
        /// What the directory says.
        found: String,
        /// What the configuration says.
        wanted: String,
        /// The key of the configuration that says so.
        key: &'static str,
    },
    /// A newer program made it.
    #[error("{path} has format {found}, and this program knows {FORMAT}: run the newer program that made it")]
    Newer {
        /// The directory.
        path: String,
        /// Its format.
        found: u32,
    },
    /// A program from before the first release made it.
    #[error(
        "{path} has format {found}, and this program knows {FORMAT} alone: export its records with the program that made it, \
         and import them into a new directory"
    )]
    Older {
        /// The directory.
        path: String,
        /// Its format.
        found: u32,
    },
    /// Its identity is not what was written.
    #[error("{path} is damaged ({reason}): restore it from a backup, or set this node up anew under a new node id")]
    Damaged {
        /// The identity file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A restore needs an empty directory.
    #[error(
        "{path} holds the data of a node: a backup is never restored over data. \
         Choose another node.data_dir, or move this one away if you are sure that no node needs it"
    )]
    Occupied {
        /// The directory.
        path: String,
    },
    /// A restore was broken off in it.
    #[error("{path} holds a restore that was broken off: empty the directory, then restore again")]
    Unfinished {
        /// The directory.
        path: String,
    },
    /// The owner cannot be written down.
    #[error("{0:?} is not a country id: use 1 to {COUNTRY_BYTES_MAX} of a-z, 0-9, dot, underscore and dash")]
    Country(String),
    /// The operating system refused otherwise.
    #[error("{path}: {reason}")]
    Io {
        /// The file or directory.
        path: String,
        /// What it said.
        reason: String,
    },
}

fn who(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn io_error(path: &Path, error: &io::Error) -> DataDirError {
    let (path, reason) = (path.display().to_string(), error.to_string());
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => DataDirError::ReadOnly { path, reason },
        _ => DataDirError::Io { path, reason },
    }
}

/// The identity file. `check` is the hash of the others' text, so that a rotten byte is not taken for another node.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    node: String,
    site: String,
    engine: String,
    country: String,
    check: String,
}

/// All that every format has in common.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

impl IdentityFile {
    fn new(owner: &Owner) -> Self {
        let mut file = IdentityFile {
            format: FORMAT,
            node: owner.node.to_string(),
            site: owner.site.to_string(),
            engine: owner.engine.name().to_owned(),
            country: owner.country.clone(),
            check: String::new(),
        };
        file.check = file.digest();
        file
    }

    fn digest(&self) -> String {
        let IdentityFile { format, node, site, engine, country, check: _ } = self;
        let text = format!("{format}\n{node}\n{site}\n{engine}\n{country}\n");
        blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
    }

    fn owner(&self) -> Result<Owner, String> {
        if self.digest() != self.check {
            return Err("its check does not match".to_owned());
        }
        fn id<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
            text.parse().map_err(|error: T::Err| error.to_string())
        }
        let engine = Engine::from_name(&self.engine).ok_or_else(|| format!("no engine {:?}", self.engine))?;
        Ok(Owner { node: id(&self.node)?, site: id(&self.site)?, engine, country: self.country.clone() })
    }
}

/// An open data directory. Dropping it lets go of the lock.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    owner: Owner,
    created: bool,
    // Held, not read: the lock lives as long as the open file.
    _lock: File,
}

impl DataDir {
    /// Opens the directory at `path` for `owner`; creates it, if it is absent or empty.
    pub fn open(path: &Path, owner: &Owner) -> Result<Self, DataDirError> {
        check_country(&owner.country)?;
        refuse_foreign(path)?;
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(path).map_err(|error| io_error(path, &error))?;
        let mut lock = lock(path)?;
        // Between looking and locking another process may have been here: look again, now that none can.
        refuse_foreign(path)?;
        let created = match read_identity(path)? {
            Some(found) => {
                compare(path, &found, owner)?;
                false
            }
            None => {
                write_identity(path, owner)?;
                true
            }
        };
        // For the message of whoever finds the directory locked; nothing depends on it.
        let noted = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        noted.map_err(|error| io_error(&path.join(LOCK), &error))?;
        Ok(DataDir { path: path.to_owned(), owner: owner.clone(), created, _lock: lock })
    }

    /// Whether a node has its data at `path`, as far as can be seen without opening it.
    #[must_use]
    pub fn exists(path: &Path) -> bool {
        path.join(IDENTITY).exists()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Whether this is its first opening.
    #[must_use]
    pub fn created(&self) -> bool {
        self.created
    }

    /// Whether [`admit`](Self::admit) was called for it, at this opening or an earlier one.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.path.join(ADMITTED).exists()
    }

    /// Notes for ever that the node may take part: nobody knew it under its id when it had no data yet. On disk when it
    /// returns. A start that was refused leaves an identity, but not this.
    pub fn admit(&self) -> Result<(), DataDirError> {
        put_empty(&self.path, ADMITTED)
    }
}

/// A data directory into which an archive is put back. Until [`finish`](Self::finish) no node opens it; dropped before,
/// it is as it was found.
#[derive(Debug)]
pub struct Restoring {
    path: PathBuf,
    owner: Owner,
    made: bool,
    finished: bool,
    // Held, not read.
    _lock: File,
}

impl Restoring {
    /// Takes the directory at `path`, which must be absent or empty.
    pub fn begin(path: &Path, owner: &Owner) -> Result<Self, DataDirError> {
        check_country(&owner.country)?;
        refuse_occupied(path)?;
        let made = !path.exists();
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(path).map_err(|error| io_error(path, &error))?;
        let lock = lock(path)?;
        refuse_occupied(path)?;
        let restoring = Restoring { path: path.to_owned(), owner: owner.clone(), made, finished: false, _lock: lock };
        put_empty(path, RESTORING)?;
        Ok(restoring)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it a node's data directory. What is in it must be on the disk.
    pub fn finish(mut self) -> Result<(), DataDirError> {
        // From here on it may be whole: nothing is taken back.
        self.finished = true;
        put_empty(&self.path, ADMITTED)?;
        write_identity(&self.path, &self.owner)?;
        let marker = self.path.join(RESTORING);
        fs::remove_file(&marker).map_err(|error| io_error(&marker, &error))
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // The marker last: what stays behind by force is seen as such.
        let names = fs::read_dir(&self.path).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let names: Vec<_> = names.filter(|name| name != RESTORING).collect();
        let removed = names
            .iter()
            .map(|name| self.path.join(name))
            .try_for_each(|path| if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) });
        let removed = removed.and_then(|()| match fs::remove_file(self.path.join(RESTORING)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        let removed = if self.made { removed.and_then(|()| fs::remove_dir(&self.path)) } else { removed };
        if let Err(error) = removed {
            tracing::warn!(path = %self.path.display(), %error, "what was restored in part cannot be removed");
        }
    }
}

fn refuse_occupied(path: &Path) -> Result<(), DataDirError> {
    if DataDir::exists(path) {
        return Err(DataDirError::Occupied { path: path.display().to_string() });
    }
    refuse_foreign(path)
}

/// Makes an empty file whose being there says something; on disk when it returns.
fn put_empty(dir: &Path, name: &str) -> Result<(), DataDirError> {
    let path = dir.join(name);
    let write = || -> io::Result<()> {
        OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&path)?.sync_all()?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| io_error(&path, &error))
}

fn check_country(country: &str) -> Result<(), DataDirError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if country.is_empty() || country.len() > COUNTRY_BYTES_MAX || !country.bytes().all(allowed) {
        return Err(DataDirError::Country(country.chars().take(COUNTRY_BYTES_MAX).collect()));
    }
    Ok(())
}

/// Refuses a directory with anything in it but what a crash of a first start leaves, unless there is an identity.
fn refuse_foreign(path: &Path) -> Result<(), DataDirError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(path, &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(|error| io_error(path, &error))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    if names.iter().any(|name| name == IDENTITY) {
        return Ok(());
    }
    if names.iter().any(|name| name == RESTORING) {
        return Err(DataDirError::Unfinished { path: path.display().to_string() });
    }
    match names.into_iter().find(|name| name != LOCK && name != IDENTITY_NEW) {
        Some(example) => Err(DataDirError::NotOurs { path: path.display().to_string(), example }),
        None => Ok(()),
    }
}

fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join(LOCK);
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).clone();
    let file = options.open(&path).map_err(|error| io_error(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            Err(DataDirError::Locked { path: dir.display().to_string(), pid })
        }
        Err(TryLockError::Error(error)) => Err(io_error(&path, &error)),
    }
}

fn read_identity(dir: &Path) -> Result<Option<Owner>, DataDirError> {
    let path = dir.join(IDENTITY);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(&path, &error)),
    };
    let damaged = |reason: String| DataDirError::Damaged { path: path.display().to_string(), reason };
    let text = String::from_utf8(bytes).map_err(|_| damaged("it is not text".to_owned()))?;
    // The format first: a newer one may have any other keys.
    let any: AnyFormat = toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    let path = || dir.display().to_string();
    match any.format {
        0 => return Err(damaged("there never was a format 0".to_owned())),
        found if found > FORMAT => return Err(DataDirError::Newer { path: path(), found }),
        found if found < FORMAT => return Err(DataDirError::Older { path: path(), found }),
        _ => {}
    }
    let file: IdentityFile = toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    file.owner().map(Some).map_err(damaged)
}

fn compare(path: &Path, found: &Owner, wanted: &Owner) -> Result<(), DataDirError> {
    let pairs = [
        ("site", "node.site", found.site.to_string(), wanted.site.to_string()),
        ("node", "node.id", found.node.to_string(), wanted.node.to_string()),
        ("engine", "storage.engine", found.engine.name().to_owned(), wanted.engine.name().to_owned()),
        ("country", "place.file", found.country.clone(), wanted.country.clone()),
    ];
    for (what, key, found, wanted) in pairs {
        if found != wanted {
            return Err(DataDirError::Other { path: path.display().to_string(), what, found, wanted, key });
        }
    }
    Ok(())
}

/// Writes the identity so that after a crash at any moment it is there whole or not there: the file, its bytes on disk,
/// then its name, then the name on disk.
fn write_identity(dir: &Path, owner: &Owner) -> Result<(), DataDirError> {
    let (new, path) = (dir.join(IDENTITY_NEW), dir.join(IDENTITY));
    let text = toml::to_string(&IdentityFile::new(owner)).expect("a flat table of text and a number is TOML");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()?;
        // The directory's own name too, if it was made just now.
        dir.canonicalize()?.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    write().map_err(|error| io_error(&path, &error))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn owner() -> Owner {
        Owner { node: NodeId(1), site: SiteId(2), engine: Engine::Fjall, country: "vn-2024".to_owned() }
    }

    /// A fresh parent directory and the data directory's path in it.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("node");
        (parent, path)
    }

    fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap()))
            .collect()
    }

    /// Opening must fail, and must leave everything as it was.
    fn refusal(path: &Path, owner: &Owner) -> DataDirError {
        let before = contents(path);
        let error = DataDir::open(path, owner).unwrap_err();
        assert_eq!(contents(path), before, "{error}");
        error
    }

    #[test]
    fn a_directory_is_made_once_and_opened_again() {
        let (_parent, path) = place();
        let first = DataDir::open(&path, &owner()).unwrap();
        assert!(first.created());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(first);
        fs::write(path.join("state"), "of an engine").unwrap();
        let second = DataDir::open(&path, &owner()).unwrap();
        assert!(!second.created());
        assert_eq!((second.path(), second.owner()), (&*path, &owner()));
    }

    #[test]
    fn a_node_stays_admitted_and_a_refused_start_does_not_admit_it() {
        let (_parent, path) = place();
        let first = DataDir::open(&path, &owner()).unwrap();
        assert!(!first.is_admitted());
        drop(first);
        let second = DataDir::open(&path, &owner()).unwrap();
        assert!(!second.created() && !second.is_admitted());
        second.admit().unwrap();
        drop(second);
        assert!(DataDir::open(&path, &owner()).unwrap().is_admitted());
    }

    #[test]
    fn a_second_process_is_told_who_has_it() {
        let (_parent, path) = place();
        let _open = DataDir::open(&path, &owner()).unwrap();
        let expected = DataDirError::Locked { path: path.display().to_string(), pid: Some(std::process::id()) };
        assert_eq!(refusal(&path, &owner()), expected);
        // Another node's lock is as good: who may not open it must not learn more first.
        assert_eq!(refusal(&path, &Owner { node: NodeId(9), ..owner() }), expected);
    }

    #[test]
    fn what_belongs_to_another_is_refused_and_left_alone() {
        let (_parent, path) = place();
        drop(DataDir::open(&path, &owner()).unwrap());
        for (other, what, key) in [
            (Owner { node: NodeId(9), ..owner() }, "node", "node.id"),
            (Owner { site: SiteId(9), ..owner() }, "site", "node.site"),
            (Owner { engine: Engine::Sled, ..owner() }, "engine", "storage.engine"),
            (Owner { country: "vn-2025".to_owned(), ..owner() }, "country", "place.file"),
        ] {
            let error = refusal(&path, &other);
            assert!(
                matches!(error, DataDirError::Other { what: found, key: named, .. } if (found, named) == (what, key)),
                "{error}"
            );
        }
        let text = refusal(&path, &Owner { node: NodeId(9), ..owner() }).to_string();
        assert!(
            text.ends_with(
                "belongs to node n-0000000000000001, and the configuration says n-0000000000000009: \
                 correct node.id, or choose another node.data_dir"
            ),
            "{text}"
        );
    }

    #[test]
    fn another_format_is_left_to_the_program_that_made_it() {
        let (_parent, path) = place();
        drop(DataDir::open(&path, &owner()).unwrap());
        let path_text = path.display().to_string();
        fs::write(path.join(IDENTITY), format!("format = {}\nsomething = \"new\"\n", FORMAT + 1)).unwrap();
        assert_eq!(refusal(&path, &owner()), DataDirError::Newer { path: path_text.clone(), found: FORMAT + 1 });
        fs::write(path.join(IDENTITY), format!("format = {}\n", FORMAT - 1)).unwrap();
        assert_eq!(refusal(&path, &owner()), DataDirError::Older { path: path_text, found: FORMAT - 1 });
    }

    #[test]
    fn a_rotten_identity_is_not_taken_for_another_node() {
        let (_parent, path) = place();
        drop(DataDir::open(&path, &owner()).unwrap());
        let whole = fs::read(path.join(IDENTITY)).unwrap();
        // Its digits say how to read the rest, so rot of them, or a cut, can look like another program's directory. Nothing is touched.
        let is_refused_as_such = |error: &DataDirError| match error {
            DataDirError::Damaged { .. } => true,
            DataDirError::Newer { found, .. } | DataDirError::Older { found, .. } => *found != FORMAT,
            _ => false,
        };
        for i in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[i] ^= 4;
            fs::write(path.join(IDENTITY), &rotten).unwrap();
            let error = refusal(&path, &owner());
            assert!(is_refused_as_such(&error), "byte {i}: {error}");
            assert_eq!(fs::read(path.join(IDENTITY)).unwrap(), rotten);
        }
        for len in 0..whole.len() - 1 {
            fs::write(path.join(IDENTITY), &whole[..len]).unwrap();
            let error = refusal(&path, &owner());
            assert!(is_refused_as_such(&error), "{len} bytes: {error}");
        }
    }

    #[test]
    fn somebody_elses_files_are_not_moved_in_with() {
        let (_parent, path) = place();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("thesis.txt"), "years of work").unwrap();
        let expected = DataDirError::NotOurs { path: path.display().to_string(), example: "thesis.txt".to_owned() };
        assert_eq!(refusal(&path, &owner()), expected);
    }

    #[test]
    fn a_crash_before_the_identity_was_named_is_a_first_start_again() {
        let (_parent, path) = place();
        fs::create_dir(&path).unwrap();
        fs::write(path.join(LOCK), "").unwrap();
        fs::write(path.join(IDENTITY_NEW), "form").unwrap();
        assert!(DataDir::open(&path, &owner()).unwrap().created());
        assert!(!path.join(IDENTITY_NEW).exists());
    }

    #[test]
    fn a_read_only_directory_is_named_as_such() {
        for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
            let error = io_error(Path::new("/data"), &io::Error::from(kind));
            assert!(matches!(&error, DataDirError::ReadOnly { path, .. } if path == "/data"), "{error}");
            assert!(error.to_string().contains("make it writable for this user"), "{error}");
        }
        // The superuser writes anyway, so the rest of the story is another user's.
        if !rustix::process::geteuid().is_root() {
            let (_parent, path) = place();
            drop(DataDir::open(&path, &owner()).unwrap());
            for name in [LOCK, IDENTITY] {
                fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o400)).unwrap();
            }
            assert!(matches!(refusal(&path, &owner()), DataDirError::ReadOnly { .. }));
        }
    }

    #[test]
    fn a_country_id_is_short_and_plain() {
        let (_parent, path) = place();
        for bad in ["", "Việt Nam", "a/b", &"a".repeat(65)] {
            let refused = DataDir::open(&path, &Owner { country: bad.to_owned(), ..owner() });
            assert!(matches!(refused, Err(DataDirError::Country(_))), "{bad}");
        }
        assert!(!path.exists());
    }
}
