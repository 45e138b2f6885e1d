//! The file that a site is founded with: every site of the country with its parent and public key, and the home commune
//! of each shard. CSV with the header `kind,id,unit,parent,public_key`:
//!
//! ```text
//! site,s-…,u-…,s-… or nothing at the centre,64 hex digits
//! shard,h-…,u-…,,
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use dinhba_core::ids::{ShardId, SiteId, UnitId};
use dinhba_core::place::SiteEntry;
use serde::Deserialize;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaceFile {
    /// All sites of the country.
    pub sites: BTreeMap<SiteId, SiteEntry>,
    /// The home commune of each shard.
    pub shards: BTreeMap<ShardId, UnitId>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceFileError {
    /// It cannot be read.
    #[error("place.file: {path}: {reason}; give the path of the country's place file")]
    Unreadable {
        /// The file.
        path: String,
        /// What the operating system or the CSV reader said.
        reason: String,
    },
    /// A line is wrong.
    #[error("place.file: {path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it and what to write.
        reason: String,
    },
}

#[derive(Deserialize)]
struct Row {
    kind: String,
    id: String,
    unit: String,
    parent: String,
    public_key: String,
}

/// Reads the file.
pub fn read(path: &Path) -> Result<PlaceFile, PlaceFileError> {
    let shown = path.display().to_string();
    let unreadable = |error: csv::Error| PlaceFileError::Unreadable { path: shown.clone(), reason: error.to_string() };
    let mut reader = csv::Reader::from_path(path).map_err(unreadable)?;
    let headers = reader.headers().map_err(unreadable)?.clone();
    let mut file = PlaceFile::default();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |reason: String| PlaceFileError::Line { path: shown.clone(), line, reason };
        let row: Row = record.deserialize(Some(&headers)).map_err(|error| wrong(error.to_string()))?;
        take(&mut file, &row).map_err(wrong)?;
    }
    Ok(file)
}

fn take(file: &mut PlaceFile, row: &Row) -> Result<(), String> {
    fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
        text.parse().map_err(|error: T::Err| error.to_string())
    }
    let unit: UnitId = parse(&row.unit)?;
    match row.kind.as_str() {
        "site" => {
            let site: SiteId = parse(&row.id)?;
            let parent = if row.parent.is_empty() { None } else { Some(parse(&row.parent)?) };
            let public_key = key(&row.public_key).ok_or("public_key: write the 64 hex digits of an Ed25519 key")?;
            let entry = SiteEntry { site, unit, parent, public_key };
            if file.sites.insert(site, entry).is_some() {
                return Err(format!("site {site} stands twice"));
            }
        }
        "shard" => {
            let shard: ShardId = parse(&row.id)?;
            if file.shards.insert(shard, unit).is_some() {
                return Err(format!("shard {shard} stands twice"));
            }
        }
        other => return Err(format!("kind: {other:?} is neither site nor shard")),
    }
    Ok(())
}

fn key(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    let mut key = [0; 32];
    // Digits alone: Rust's own reading of numbers takes a sign too.
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PlaceFile, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("place.csv");
        std::fs::write(&path, format!("kind,id,unit,parent,public_key\n{text}")).expect("a file");
        read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn sites_and_shards_are_read_and_errors_name_the_line() {
        let key = "ab".repeat(32);
        let (s, u, h) = ("s-0000000000000001", "u-0000000000000002", "h-0000000000000003");
        let file = parse(&format!("site,{s},{u},,{key}\nshard,{h},{u},,\n")).expect("a good file");
        assert_eq!(file.sites[&SiteId(1)].public_key, [0xab; 32]);
        assert_eq!(file.shards[&ShardId(3)], UnitId(2));
        for (bad, said) in [
            (format!("site,{s},{u},,abc\n"), "line 2: public_key"),
            (format!("site,{s},{u},,{}\n", "+a".repeat(32)), "line 2: public_key"),
            (format!("office,{s},{u},,\n"), "line 2: kind"),
            (format!("shard,{h},{u},,\nshard,{h},{u},,\n"), "line 3: shard h-0000000000000003 stands twice"),
            ("site,x,u,,\n".to_owned(), "line 2"),
        ] {
            let error = parse(&bad).expect_err("a bad file");
            assert!(error.contains(said), "{error}");
        }
    }
}
