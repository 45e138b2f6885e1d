//! Segments of the state on the simulated disk: torn by power cuts at any call, killed, full, and rotten.
//!
//! Whoever keeps places keeps an end with them, as the tree does in one step, after a sync. What is kept must be there in every later
//! life, whatever came of what was not.

use std::collections::BTreeMap;

use dinhba_node::seal::Unsealed;
use dinhba_node::state::{End, Place, SegmentSizes, Segments};

use super::*;

const DIR: &str = "segments";

/// Small enough that some calls begin new blocks and segments, large enough that a sector is part of one.
const SMALL: SegmentSizes = SegmentSizes { block_bytes: 700, segment_bytes: 3_000 };

/// What is kept: places, and the end that was taken with them.
#[derive(Default)]
struct Kept {
    end: End,
    places: BTreeMap<u64, Place>,
    next: u64,
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn value(number: u64) -> Vec<u8> {
    // What becomes little smaller.
    blake3::hash(&key(number)).as_bytes()[..usize::try_from(number % 33).unwrap()].repeat(3)
}

fn open(disk: &SimDisk, end: End) -> Result<Segments, StoreError> {
    Segments::open_with(Arc::new(disk.clone()), Path::new(DIR), Arc::new(Unsealed), end, SMALL)
}

/// Opens, looks for all that was kept, and goes on until something fails or enough was kept.
fn live(disk: &SimDisk, kept: &mut Kept, random: &mut ChaCha8Rng) -> Result<(), StoreError> {
    let segments = open(disk, kept.end)?;
    for (number, place) in &kept.places {
        assert_eq!(segments.read(*place, &key(*number))?, value(*number));
    }
    for _ in 0..random.next_u64() % 12 {
        let mut places = BTreeMap::new();
        for _ in 0..random.next_u64() % 60 {
            // Written again by the next life, if this one breaks off: perhaps to another place.
            let number = kept.next + places.len() as u64;
            places.insert(number, segments.append(&key(number), &value(number))?);
        }
        let end = segments.end()?;
        if random.next_u64().is_multiple_of(3) {
            // More comes before it is durable.
            segments.append(b"later", b"value")?;
        }
        segments.sync()?;
        kept.next += places.len() as u64;
        kept.places.extend(places);
        kept.end = end;
    }
    Ok(())
}

#[test]
fn what_was_kept_is_there_whenever_power_goes() {
    let (mut cuts, mut torn, mut values) = (0, 0, 0);
    for seed in 0..300 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let disk = SimDisk::new(seed);
        let mut kept = Kept::default();
        for _ in 0..8 {
            let mounted = disk.mount();
            let _told = disk.cut_power_at(1 + random.next_u64() % 80);
            let lived = live(&mounted, &mut kept, &mut random);
            assert!(lived.is_ok() || disk.is_dark(), "seed {seed}: {lived:?}");
            disk.call_off_cut();
            if disk.is_dark() || random.next_u64() % 2 == 0 { disk.power_cut() } else { disk.kill() }
        }
        live(&disk.mount(), &mut kept, &mut random).unwrap();
        let figures = disk.figures();
        (cuts, torn) = (cuts + figures.power_cuts_lost, torn + figures.power_cuts_torn);
        values += kept.places.len();
    }
    assert!(cuts > 300 && torn > 50 && values > 10_000, "{cuts} cuts lost something, {torn} tore it; {values} values");
}

#[test]
fn a_disk_that_is_full_or_fails_loses_nothing_that_was_kept() {
    for seed in 0..100 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let disk = SimDisk::new(seed);
        let mut kept = Kept::default();
        live(&disk.mount(), &mut kept, &mut random).unwrap();
        if seed % 2 == 0 {
            disk.set_full(true)
        } else {
            disk.set_failing(true)
        }
        // Enough that something is written.
        let _refused = (0..20).find_map(|_| live(&disk.mount(), &mut kept, &mut random).err());
        disk.set_full(false);
        disk.set_failing(false);
        disk.power_cut();
        live(&disk.mount(), &mut kept, &mut random).unwrap();
    }
}

#[test]
fn rot_is_found_and_never_shown() {
    let (mut found, mut opened) = (0, 0);
    for seed in 0..200 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let disk = SimDisk::new(seed);
        let mut kept = Kept::default();
        live(&disk.mount(), &mut kept, &mut random).unwrap();
        for _ in 0..3 {
            disk.rot(Path::new(DIR), random.next_u64());
        }
        let Ok(segments) = open(&disk.mount(), kept.end) else { continue };
        opened += 1;
        for (number, place) in &kept.places {
            match segments.read(*place, &key(*number)) {
                Ok(read) => assert_eq!(read, value(*number)),
                Err(StoreError::Corrupt { .. }) => found += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
    }
    assert!(found > 100 && opened > 100, "{found} found, {opened} opened");
}
