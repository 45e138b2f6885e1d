//! The secrets of a site beside the key that it signs with: what its index, its backups and the country's digests are keyed with.
//! None derives from another, and none from the signing key, which a site may have to replace.
//!
//! A file of lines, each a kind, the number of the key and 64 hexadecimal digits; the same file at each node of the site:
//!
//! ```text
//! index 1 9a1c…      the search index; of a group that is formed, the number stands in its state
//! backup 1 77e0…     archives: what is sealed says with which, the highest seals what comes next
//! digest 1 5b3d…     what sites compare: the same in the whole country, and its number goes with every statement
//! ```
//!
//! Owns: reading, making and choosing. Promises: a file is read whole or refused, with its line; no message holds a secret.
//! Limit: one index key and one digest key. A group is under those that it was formed with, and a node with others refuses to
//! run it (`registry::check_keys`); backup keys can be added at any time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dinhba_core::ids::GroupId;
use dinhba_core::registry::{Context, Key};

use crate::runtime;
use crate::seal::{hex, of_hex};

/// Backup keys in a file: a new one every year for a century.
const BACKUP_KEYS_MAX: usize = 100;

/// Why a file of secrets cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// The operating system refused.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: String,
        /// What it said.
        reason: String,
    },
    /// A line says something else.
    #[error("{path}, line {line}: {what}")]
    Line {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// What is wrong with it, and what to write.
        what: &'static str,
    },
    /// A kind is missing.
    #[error(
        "{path} has no {kind} key: write one `{kind} 1 …` with the 64 hexadecimal digits that the site's other nodes have"
    )]
    Missing {
        /// The file.
        path: String,
        /// Which.
        kind: &'static str,
    },
}

/// All of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Keys the index of the site's groups.
    pub index: Key,
    /// Keys the digests, in the whole country.
    pub digest: Key,
    /// Seal the site's archives, by number; never empty.
    pub backup: BTreeMap<u32, [u8; 32]>,
}

impl Secrets {
    /// The first of each kind.
    #[must_use]
    pub fn first(index: [u8; 32], backup: [u8; 32], digest: [u8; 32]) -> Self {
        let first = |secret| Key { id: 1, secret };
        Secrets { index: first(index), digest: first(digest), backup: BTreeMap::from([(1, backup)]) }
    }

    /// New ones for a new site of the country with these digests.
    #[must_use]
    pub fn draw(digest: Key) -> Self {
        Secrets { digest, ..Secrets::first(runtime::random(), runtime::random(), [0; 32]) }
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, SecretsError> {
        let (text, path) = text_of(path)?;
        Secrets::parse(&text, &path)
    }

    fn parse(text: &str, path: &str) -> Result<Self, SecretsError> {
        let Lines { index, digest, backup } = Lines::parse(text, path)?;
        if backup.is_empty() {
            return Err(missing(path, "backup"));
        }
        Ok(Secrets { index: only(index, path, "index")?, digest: only(digest, path, "digest")?, backup })
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let backup = self.backup.iter().map(|(id, secret)| line("backup", *id, secret));
        let lines: String = [line("index", self.index.id, &self.index.secret), digest_text(&self.digest)]
            .into_iter()
            .chain(backup)
            .collect();
        format!(
            "# The secrets of a site: the same file at each of its nodes, for their user alone. Keep a copy elsewhere: without the\n\
             # backup keys no archive of the site can be opened, and without the index key its nodes do not start.\n{lines}"
        )
    }

    /// What the replicas of a group know beside its state, one that works at feature levels up to `level_max`.
    #[must_use]
    pub fn context(&self, group: GroupId, level_max: u16) -> Context {
        Context { group, level_max, index_key: self.index.clone(), digest_key: self.digest.clone() }
    }
}

/// What a file says, by number.
#[derive(Default)]
struct Lines {
    index: BTreeMap<u32, [u8; 32]>,
    digest: BTreeMap<u32, [u8; 32]>,
    backup: BTreeMap<u32, [u8; 32]>,
}

impl Lines {
    fn parse(text: &str, path: &str) -> Result<Self, SecretsError> {
        let mut lines = Lines::default();
        for (before, content) in text.lines().enumerate() {
            let wrong = |what| SecretsError::Line { path: path.to_owned(), line: before + 1, what };
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let [kind, id, secret] = content.split_whitespace().collect::<Vec<_>>()[..] else {
                return Err(wrong("write a kind, a number and 64 hexadecimal digits"));
            };
            let id = id.parse().ok().filter(|id: &u32| *id > 0).ok_or_else(|| wrong("number the keys from 1"))?;
            let secret = of_hex(secret).ok_or_else(|| wrong("a key has 64 hexadecimal digits"))?;
            let (keys, count_max) = match kind {
                "index" => (&mut lines.index, 1),
                "digest" => (&mut lines.digest, 1),
                "backup" => (&mut lines.backup, BACKUP_KEYS_MAX),
                _ => return Err(wrong("the kinds are index, backup and digest")),
            };
            if keys.insert(id, secret).is_some() {
                return Err(wrong("this number is given already: another key has another number"));
            }
            if keys.len() > count_max {
                return Err(wrong("too many keys of this kind: one of index and digest, 100 of backup"));
            }
        }
        Ok(lines)
    }
}

fn missing(path: &str, kind: &'static str) -> SecretsError {
    SecretsError::Missing { path: path.to_owned(), kind }
}

fn only(keys: BTreeMap<u32, [u8; 32]>, path: &str, kind: &'static str) -> Result<Key, SecretsError> {
    let key = keys.into_iter().next().map(|(id, secret)| Key { id, secret });
    key.ok_or_else(|| missing(path, kind))
}

fn line(kind: &str, id: u32, secret: &[u8; 32]) -> String {
    format!("{kind} {id} {}\n", hex(secret))
}

/// The line of a digest key: all of it that a country's file has.
#[must_use]
pub fn digest_text(key: &Key) -> String {
    line("digest", key.id, &key.secret)
}

/// Reads the digest key in a file.
pub fn read_digest(path: &Path) -> Result<Key, SecretsError> {
    let (text, path) = text_of(path)?;
    only(Lines::parse(&text, &path)?.digest, &path, "digest")
}

fn text_of(path: &Path) -> Result<(String, String), SecretsError> {
    let named = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok((text, named)),
        Err(error) => Err(SecretsError::Io { path: named, reason: error.to_string() }),
    }
}

/// A digest key for a new country.
#[must_use]
pub fn draw_digest() -> Key {
    Key { id: 1, secret: runtime::random() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_no_two_sites_have_the_same() {
        let digest = draw_digest();
        let (one, other) = (Secrets::draw(digest.clone()), Secrets::draw(digest.clone()));
        assert!(Secrets::parse(&one.text(), "f") == Ok(one.clone()));
        assert!(
            one.index != other.index && one.backup != other.backup && one.digest == digest && other.digest == digest
        );
        assert!(one.index.secret != one.backup[&1] && one.index.secret != one.digest.secret);
        let mut two = one.clone();
        two.backup.insert(2, [7; 32]);
        assert!(Secrets::parse(&two.text(), "f") == Ok(two));
    }

    #[test]
    fn a_file_is_refused_with_its_line_and_without_its_secrets() {
        let good = Secrets::first([0xa1; 32], [0xa2; 32], [0xa3; 32]).text();
        let a4 = "a4".repeat(32);
        let refused = |text: &str| Secrets::parse(text, "site.secrets").err().map(|error| error.to_string());
        for (line, says) in [
            (format!("index 2 {a4}"), "line 6: too many keys"),
            (format!("backup 1 {a4}"), "line 6: this number is given already"),
            (format!("backup 0 {a4}"), "line 6: number the keys from 1"),
            (format!("seal 1 {a4}"), "line 6: the kinds are"),
            (format!("backup 2 {}", &a4[2..]), "line 6: a key has 64"),
            (format!("backup 2 {}", a4.replace('4', "g")), "line 6: a key has 64"),
            (format!("backup {a4}"), "line 6: write a kind"),
        ] {
            let said = refused(&format!("{good}{line}\n")).unwrap_or_default();
            assert!(
                said.starts_with("site.secrets, ") && said.contains(says) && !said.contains(&a4[4..]),
                "{line}: {said}"
            );
        }
        for kind in ["index", "backup", "digest"] {
            let without: String =
                good.lines().filter(|line| !line.starts_with(kind)).map(|line| format!("{line}\n")).collect();
            assert!(refused(&without).unwrap_or_default().contains(&format!("no {kind} key")));
        }
    }
}
