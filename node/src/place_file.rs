//! The file that a site is founded with: every site of the country with its parent and public key, and the home commune
//! of each shard. CSV with the header `kind,id,unit,parent,public_key`, and behind it `code,name,from,to` if it is of units that
//! the centre said there are:
//!
//! ```text
//! site,s-…,u-…,s-… or nothing at the centre,64 hex digits
//! shard,h-…,u-…,,
//! unit,u-…,,u-… above it,,00002,Xã Mới,2027-01-01,
//! ```
//!
//! A site that had several keys has a line for each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dinhba_core::ids::{ShardId, SiteId, UnitId};
use dinhba_core::place::SiteEntry;
use dinhba_core::store::StoreError;
use dinhba_core::units::{Directory, Tier, Unit};
use serde::Deserialize;

use crate::config::Config;
use crate::datadir::DataDir;
use crate::disk::{Disk, RealDisk};
use crate::seal::of_hex;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaceFile {
    /// All sites of the country.
    pub sites: BTreeMap<SiteId, SiteEntry>,
    /// Further keys of sites that have several.
    pub keys: BTreeSet<(SiteId, [u8; 32])>,
    /// The home commune of each shard.
    pub shards: BTreeMap<ShardId, UnitId>,
    /// Units that are not built in.
    pub units: BTreeMap<UnitId, Unit>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceFileError {
    /// It cannot be read.
    #[error("place.file: {path}: {reason}; give the path of the country's place file")]
    Unreadable {
        /// The file.
        path: String,
        /// What the disk or the CSV reader said.
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
    /// It says something else than the configuration.
    #[error("place.file: {path}: {reason}")]
    Misfit {
        /// The file.
        path: String,
        /// What differs and what to do.
        reason: String,
    },
    /// The configuration's unit does not exist.
    #[error(
        "site.unit: no unit has the id {0}: `dinhba units CODE` prints the id of the unit of that code; one that the centre made needs \
         the place file that `dinhba site add-child` wrote"
    )]
    Unit(UnitId),
}

#[derive(Deserialize)]
struct Row {
    kind: String,
    id: String,
    unit: String,
    parent: String,
    public_key: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
}

/// Reads the file.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<PlaceFile, PlaceFileError> {
    let shown = path.display().to_string();
    let refused = |error: StoreError| PlaceFileError::Unreadable { path: shown.clone(), reason: error.to_string() };
    let unreadable = |error: csv::Error| PlaceFileError::Unreadable { path: shown.clone(), reason: error.to_string() };
    let bytes = disk.read(path).map_err(refused)?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
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

/// Whether a node can start with its configuration: if it founds the site, its unit exists and the place file fits. Asked
/// before anything begins, since what a site is born with stays with it. Who joins or goes on is told of units by its site. `public_key` belongs to the site's signing key.
pub fn check(config: &Config, directory: &Directory, public_key: &[u8; 32]) -> Result<(), PlaceFileError> {
    let (site, unit) = (config.node.site, config.site.unit);
    let Some(path) = config.place.as_ref().map(|place| &place.file).filter(|_| config.site.bootstrap) else {
        return Ok(());
    };
    // A node with data is past that.
    if DataDir::exists(&config.node.data_dir) {
        return Ok(());
    }
    let file = read(&RealDisk, path)?;
    let misfit = |reason: String| Err(PlaceFileError::Misfit { path: path.display().to_string(), reason });
    let (directory, misfits) = directory.with(&file.units);
    if let Some(error) = misfits.values().next() {
        return misfit(error.to_string());
    }
    if directory.get(unit).is_none() {
        return Err(PlaceFileError::Unit(unit));
    }
    let units = file.sites.values().map(|entry| entry.unit).chain(file.shards.values().copied());
    if let Some(unknown) = units.into_iter().find(|unit| directory.get(*unit).is_none()) {
        return misfit(format!(
            "no unit has the id {unknown}: `dinhba units CODE` prints the id of the unit of that code"
        ));
    }
    let Some(own) = file.sites.get(&site) else {
        return misfit(format!("has no line for {site}, which is node.site: add it"));
    };
    if own.unit != unit {
        return misfit(format!("says that {site} serves {}, and site.unit is {unit}: correct one of them", own.unit));
    }
    if own.public_key != *public_key && !file.keys.contains(&(site, *public_key)) {
        return misfit(format!(
            "the public key of {site} is not that of site.signing_key: write the one that belongs to it"
        ));
    }
    let parent = config.parent.as_ref().map(|parent| parent.site);
    if own.parent != parent {
        let word = |site: Option<SiteId>| site.map_or_else(|| "none".to_owned(), |site| site.to_string());
        let (there, here) = (word(own.parent), word(parent));
        return misfit(format!("the parent of {site} is {there}, and parent.site is {here}: correct one of them"));
    }
    for shard in config.site.groups.iter().flat_map(|group| &group.shards) {
        match file.shards.get(shard) {
            None => return misfit(format!("has no line for {shard} of site.groups: add its home commune")),
            Some(home) if *home != unit && !directory.is_within(*home, unit) => {
                return misfit(format!("the home of {shard} is {home}, which is not in the area of site.unit"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn take(file: &mut PlaceFile, row: &Row) -> Result<(), String> {
    fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
        text.parse().map_err(|error: T::Err| error.to_string())
    }
    match row.kind.as_str() {
        "unit" => {
            let Row { code, name, from, to, .. } = row;
            let (id, parent) = (parse(&row.id)?, Some(parse(&row.parent)?));
            let tier = Tier::of_code(code)
                .ok_or("code: write two digits for a province, three for a district, five for a commune")?;
            let (valid_from, valid_to) = (parse(from)?, if to.is_empty() { None } else { Some(parse(to)?) });
            let unit = Unit { id, tier, code: code.clone(), name: name.clone(), parent, valid_from, valid_to };
            if file.units.insert(id, unit).is_some() {
                return Err(format!("unit {id} stands twice"));
            }
        }
        "site" => {
            let unit: UnitId = parse(&row.unit)?;
            let site: SiteId = parse(&row.id)?;
            let parent = if row.parent.is_empty() { None } else { Some(parse(&row.parent)?) };
            let public_key = of_hex(&row.public_key).ok_or("public_key: write the 64 hex digits of an Ed25519 key")?;
            let entry = SiteEntry { site, unit, parent, public_key };
            match file.sites.get(&site) {
                None => drop(file.sites.insert(site, entry)),
                Some(first) => {
                    let is_key_more = SiteEntry { public_key, ..first.clone() } == entry && *first != entry;
                    if !is_key_more || !file.keys.insert((site, public_key)) {
                        return Err(format!("site {site} stands twice: only its keys may differ from line to line"));
                    }
                }
            }
        }
        "shard" => {
            let (shard, unit): (ShardId, UnitId) = (parse(&row.id)?, parse(&row.unit)?);
            if file.shards.insert(shard, unit).is_some() {
                return Err(format!("shard {shard} stands twice"));
            }
        }
        other => return Err(format!("kind: {other:?} is neither site nor shard nor unit")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PlaceFile, String> {
        parse_with("", text)
    }

    fn parse_with(columns: &str, text: &str) -> Result<PlaceFile, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("place.csv");
        std::fs::write(&path, format!("kind,id,unit,parent,public_key{columns}\n{text}")).expect("a file");
        read(&RealDisk, &path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_what_to_do() {
        let error = read(&RealDisk, Path::new("/nowhere/place.csv")).expect_err("no file").to_string();
        assert!(error.starts_with("place.file: /nowhere/place.csv: ") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_site_is_founded_only_with_a_file_that_fits() {
        let dir = tempfile::tempdir().expect("a directory");
        let directory = Directory::vietnam().expect("the units");
        let unit = |code: &str| directory.by_code(code, dinhba_core::units::BEFORE_REFORM).expect("a unit").id;
        let (district, commune, elsewhere) = (unit("082"), unit("02683"), unit("00001"));
        let config = |unit: UnitId| {
            let text = format!(
                "[node]\nid = \"n-0000000000000011\"\nsite = \"s-0000000000000051\"\ndata_dir = \"data\"\n\
                 listen = \"127.0.0.1:7400\"\n[tls]\nunsafe_loopback = true\n[site]\nunit = \"{unit}\"\n\
                 signing_key = \"key\"\nsecrets = \"secrets\"\nbootstrap = true\n[[site.members]]\nid = \"n-0000000000000011\"\n\
                 address = \"127.0.0.1:7400\"\ngroups = [\"g-0000000000000001\"]\n[[site.groups]]\n\
                 id = \"g-0000000000000001\"\nshards = [\"h-0000000000000001\"]\n[place]\nfile = \"place.csv\"\n"
            );
            Config::parse(&text, dir.path()).expect("a good configuration")
        };
        let said = |config: &Config, lines: &str| {
            let text = format!("kind,id,unit,parent,public_key\n{lines}");
            std::fs::write(dir.path().join("place.csv"), text).expect("a file");
            check(config, &directory, &[0xab; 32]).err().map(|error| error.to_string()).unwrap_or_default()
        };
        let good = config(district);
        let line = |unit: UnitId, parent: &str, key: &str| {
            format!("site,s-0000000000000051,{unit},{parent},{}\n", key.repeat(32))
        };
        let site = line(district, "", "ab");
        let shard = |home: UnitId| format!("shard,h-0000000000000001,{home},,\n");
        assert_eq!(said(&good, &format!("{site}{}", shard(commune))), "");
        for (lines, words) in [
            (shard(commune), "no line for s-0000000000000051"),
            (format!("{}{}", line(commune, "", "ab"), shard(commune)), "serves"),
            (format!("{}{}", line(district, "s-0000000000000001", "ab"), shard(commune)), "parent"),
            (format!("{}{}", line(district, "", "cd"), shard(commune)), "public key"),
            (site.clone(), "no line for h-0000000000000001"),
            (format!("{site}{}", shard(elsewhere)), "not in the area"),
            (format!("{site}{}", shard(UnitId(7))), "no unit has the id u-0000000000000007"),
        ] {
            let error = said(&good, &lines);
            assert!(error.starts_with("place.file: ") && error.contains(words), "{words}: {error}");
        }
        assert!(said(&config(UnitId(7)), &site).starts_with("site.unit: no unit"));
        // Afterwards the file says nothing any more.
        std::fs::create_dir(dir.path().join("data")).expect("a directory");
        std::fs::write(dir.path().join("data/identity"), "").expect("a file");
        assert_eq!(said(&good, ""), "");
    }

    #[test]
    fn sites_and_shards_are_read_and_errors_name_the_line() {
        let key = "ab".repeat(32);
        let (s, u, h) = ("s-0000000000000001", "u-0000000000000002", "h-0000000000000003");
        let file = parse(&format!("site,{s},{u},,{key}\nshard,{h},{u},,\n")).expect("a good file");
        assert_eq!(file.sites[&SiteId(1)].public_key, [0xab; 32]);
        assert_eq!(file.shards[&ShardId(3)], UnitId(2));
        let new = "unit,u-0000000000000007,,u-0000000000000002,,00002,Xã Mới,2027-01-01,\n";
        let of_unit = parse_with(",code,name,from,to", new).expect("a unit").units.remove(&UnitId(7)).expect("it");
        assert_eq!((of_unit.tier, of_unit.name.as_str(), of_unit.valid_to), (Tier::Commune, "Xã Mới", None));
        assert!(
            parse_with(",code,name,from,to", &format!("{new}{new}")).expect_err("twice").contains("line 3: unit u-")
        );
        let (other, h2) = ("cd".repeat(32), "u-0000000000000009");
        let file = parse(&format!("site,{s},{u},,{key}\nsite,{s},{u},,{other}\n")).expect("a site with two keys");
        assert_eq!((file.sites.len(), file.keys), (1, BTreeSet::from([(SiteId(1), [0xcd; 32])])));
        for (bad, said) in [
            (format!("site,{s},{u},,abc\n"), "line 2: public_key"),
            (format!("site,{s},{u},,{}\n", "+a".repeat(32)), "line 2: public_key"),
            (format!("office,{s},{u},,\n"), "line 2: kind"),
            (format!("shard,{h},{u},,\nshard,{h},{u},,\n"), "line 3: shard h-0000000000000003 stands twice"),
            ("site,x,u,,\n".to_owned(), "line 2"),
            (format!("site,{s},{u},,{key}\nsite,{s},{u},,{key}\n"), "line 3: site s-0000000000000001 stands twice"),
            (format!("site,{s},{u},,{key}\nsite,{s},{h2},,{other}\n"), "line 3: site s-0000000000000001 stands twice"),
        ] {
            let error = parse(&bad).expect_err("a bad file");
            assert!(error.contains(said), "{error}");
        }
    }
}
