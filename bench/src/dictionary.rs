//! Trains the dictionary with which nodes compress the values of their state. Its people are none of those with whom the
//! other parts measure.

use std::path::Path;

use anyhow::Context as _;
use dinhba_core::ids::ShardId;
use dinhba_core::units::{BEFORE_REFORM, Directory, Tier};

use crate::alone::{Figure, entries, in_memory};
use crate::population::{Map, Population, context, founding};

/// Offices, each with people, ids and officers of its own: what all of them have in common is what a dictionary is for.
const OFFICES: usize = 1_000;

/// Registrations of one office.
const RECORDS: usize = 12;

/// Larger ones gain little, and each node and each context of it holds one.
const BYTES: usize = 24 << 10;

/// Values below this are not compressed.
const VALUE_BYTES_MIN: usize = 96;

/// Writes the dictionary to the file.
pub fn train(file: &Path) -> anyhow::Result<Vec<Figure>> {
    eprintln!("dictionary");
    let directory = Directory::vietnam()?;
    let communes: Vec<_> =
        directory.iter().filter(|unit| unit.tier == Tier::Commune && unit.is_valid_on(BEFORE_REFORM)).collect();
    let mut samples: Vec<Vec<u8>> = Vec::new();
    for office in 0..OFFICES {
        let unit = communes[office * communes.len() / OFFICES].id;
        // Far from the number of those who are measured.
        let number = 1_000_000 + office as u64;
        let shard = ShardId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let people = Population::of(&directory, (shard, unit), RECORDS, number)?;
        let mut state = Map::default();
        state.run(&context(number), &founding(number, shard, unit))?;
        in_memory(&mut state, number, entries(&people.created), |_| {})?;
        samples.extend(state.0.into_values().filter(|value| value.len() >= VALUE_BYTES_MIN));
    }
    let dictionary = zstd::dict::from_samples(&samples, BYTES).context("training")?;
    std::fs::write(file, &dictionary).with_context(|| format!("{}", file.display()))?;
    let bytes: usize = samples.iter().map(Vec::len).sum();
    Ok(vec![
        Figure::new("dictionary: samples", samples.len() as f64, "", ""),
        Figure::new("dictionary: a sample", bytes as f64 / samples.len() as f64, "B", ""),
        Figure::new("dictionary", dictionary.len() as f64, "B", ""),
    ])
}
