use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;

use super::files::SECTOR_BYTES;
use super::*;

/// None where nothing can be mounted.
fn disk(dir: &Path) -> Option<Disk> {
    match Disk::mount(&dir.join("disk"), &dir.join("flushed"), 1) {
        Ok(disk) => Some(disk),
        Err(error) => {
            println!("skipped: no file system in user space can be mounted here: {error}");
            None
        }
    }
}

#[test]
fn what_was_flushed_outlives_the_power_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut disk) = disk(dir.path()) else { return };
    let root = dir.path().join("disk");
    fs::create_dir(root.join("d")).unwrap();
    let sync = |path: &Path| File::open(path).unwrap().sync_all().unwrap();
    let mut file = File::create(root.join("d/a")).unwrap();
    file.write_all(b"flushed").unwrap();
    file.sync_data().unwrap();
    sync(&root.join("d"));
    file.write_all(b" and not").unwrap();
    // The bytes are flushed, the names of file and of directory are not.
    let mut nameless = File::create(root.join("d/b")).unwrap();
    nameless.write_all(b"b").unwrap();
    nameless.sync_all().unwrap();
    fs::rename(root.join("d/a"), root.join("d/c")).unwrap();
    assert_eq!(fs::read(root.join("d/c")).unwrap(), b"flushed and not");
    drop((file, nameless));
    let lost = disk.lose_power(Cut::Clean).unwrap();
    assert_eq!(lost, Lost { writes: 1, bytes: 8, names: 2 });
    assert_eq!(fs::read(root.join("d/a")).unwrap(), b"flushed");
    assert_eq!(fs::read_dir(root.join("d")).unwrap().count(), 1);
    assert_eq!(disk.used(), 7);
    // A name without bytes, and bytes that were cut off.
    File::create(root.join("d/e")).unwrap().write_all(b"e").unwrap();
    sync(&root.join("d"));
    File::options().write(true).open(root.join("d/a")).unwrap().set_len(2).unwrap();
    disk.lose_power(Cut::Clean).unwrap();
    assert_eq!((fs::read(root.join("d/e")).unwrap(), fs::read(root.join("d/a")).unwrap().len()), (vec![], 7));
}

#[test]
fn a_torn_cut_leaves_a_beginning_and_a_scattered_one_whole_sectors() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut disk) = disk(dir.path()) else { return };
    let path = dir.path().join("disk/a");
    let (mut lengths, mut holes) = (std::collections::BTreeSet::new(), 0);
    for _ in 0..10 {
        let file = File::create(&path).unwrap();
        file.sync_all().unwrap();
        File::open(dir.path().join("disk")).unwrap().sync_all().unwrap();
        for at in 0..20 {
            file.write_all_at(&[1; 1000], at * 1000).unwrap();
        }
        drop(file);
        disk.lose_power(Cut::Torn).unwrap();
        let found = fs::read(&path).unwrap();
        assert!(found.iter().all(|byte| *byte == 1));
        lengths.insert(found.len());
        let file = File::create(&path).unwrap();
        file.write_all_at(&[0; 20_480], 0).unwrap();
        file.sync_all().unwrap();
        file.write_all_at(&[1; 20_480], 0).unwrap();
        drop(file);
        disk.lose_power(Cut::Scattered).unwrap();
        let found = fs::read(&path).unwrap();
        let sectors: Vec<bool> = found.chunks(SECTOR_BYTES).map(|sector| sector[0] == 1).collect();
        assert!(found.chunks(SECTOR_BYTES).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        holes += sectors.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    }
    assert!(lengths.len() > 3 && holes > 10, "{lengths:?}, {holes} holes");
}

#[test]
fn it_is_full_unreadable_and_slow_when_it_is_told_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = disk(dir.path()) else { return };
    let path = dir.path().join("disk/a");
    fs::write(&path, [1; 1000]).unwrap();
    disk.set(Trouble { bytes_max: Some(1500), ..Trouble::default() });
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let full = |error: io::Error| error.kind() == io::ErrorKind::StorageFull;
    assert!(file.write_all_at(&[1; 1000], 1000).is_err_and(full) && file.set_len(2000).is_err_and(full));
    file.write_all_at(&[2; 500], 1000).unwrap();
    disk.set(Trouble { unreadable: Some(("a".into(), 1)), ..Trouble::default() });
    assert_eq!(fs::read(&path).unwrap_err().raw_os_error(), Some(5));
    disk.set(Trouble { slow: Some(Duration::from_millis(200)), ..Trouble::default() });
    let began = std::time::Instant::now();
    (0..5).for_each(|_| file.sync_all().unwrap());
    assert!(began.elapsed() > Duration::from_millis(50));
    disk.set(Trouble::default());
    fs::remove_file(&path).unwrap();
    assert_eq!((disk.used(), file.metadata().unwrap().len()), (1500, 1500), "it is still open");
}
