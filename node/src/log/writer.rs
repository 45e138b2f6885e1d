//! The disk work of one flush, apart from the log so that nobody waits for the disk but those who asked for durability.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinhba_core::inject::is_armed;
use dinhba_core::store::StoreError;

use crate::disk::{Disk, DiskFile};

/// Freed segments kept for the next ones. Two cover a purge that frees in bursts; more would hold space for nothing.
const SPARES_MAX: usize = 2;

/// The file of the live segment `number`.
pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.seg"))
}

/// A file that is no segment: one that was freed, or one that is not finished. What is in it does not count.
pub(super) fn spare_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.free"))
}

/// The files that one job at a time may write.
pub(super) struct Writer {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub segment_bytes: u64,
    pub active: Arc<dyn DiskFile>,
    pub spares: Vec<PathBuf>,
}

/// Bytes for one segment. All parts but the first begin a segment of their own.
pub(super) struct Part {
    pub number: u64,
    pub offset: u64,
    pub bytes: Vec<u8>,
    /// The segment is new, and its file has this size.
    pub fresh: Option<u64>,
}

/// Everything that was staged between two flushes.
pub(crate) struct Job {
    pub(super) writer: Writer,
    pub(super) parts: Vec<Part>,
    /// Written behind the flush, to say that there was one.
    pub(super) mark: Option<(u64, Vec<u8>)>,
    /// Segments that nobody needs once the parts are durable, oldest first.
    pub(super) free: Vec<u64>,
    /// The last sequence in the parts.
    pub(super) last: u64,
}

/// What came of a job.
pub(crate) struct Finished {
    pub(super) writer: Writer,
    pub(super) opened: Vec<(u64, Arc<dyn DiskFile>)>,
    pub(super) freed: Vec<u64>,
    pub(super) last: u64,
    pub(super) outcome: Result<(), StoreError>,
}

impl Job {
    /// Writes and flushes. On an error nothing more is written, and the log is to be told by `finish`.
    pub(crate) fn run(mut self) -> Finished {
        let mut opened = Vec::new();
        let outcome = self.writer.run(&self.parts, self.mark.take(), &self.free, &mut opened);
        Finished { writer: self.writer, opened, freed: self.free, last: self.last, outcome }
    }
}

impl Writer {
    /// The order is what makes a crash at any point harmless.
    ///
    /// A segment gets its name only when its header and its copy of votes and purge marks are durable, and when all
    /// before it is: a named segment is never torn, and recovery may demand every frame of the segments before the last.
    /// Old segments go one at a time, the oldest first, after what made them dead is durable: those left are always a
    /// row without gaps.
    fn run(
        &mut self,
        parts: &[Part],
        mark: Option<(u64, Vec<u8>)>,
        free: &[u64],
        opened: &mut Vec<(u64, Arc<dyn DiskFile>)>,
    ) -> Result<(), StoreError> {
        for part in parts {
            match part.fresh {
                None => {
                    if !part.bytes.is_empty() {
                        self.active.write_at(part.offset, &part.bytes)?;
                    }
                    if !is_armed("acknowledge-before-flush") {
                        self.active.sync()?;
                    }
                }
                Some(size) => {
                    self.active = self.begin_segment(part.number, size, &part.bytes)?;
                    opened.push((part.number, self.active.clone()));
                }
            }
        }
        if let Some((offset, bytes)) = mark {
            self.active.write_at(offset, &bytes)?;
        }
        for number in free {
            self.free_segment(*number)?;
        }
        Ok(())
    }

    pub(super) fn begin_segment(
        &mut self,
        number: u64,
        size: u64,
        bytes: &[u8],
    ) -> Result<Arc<dyn DiskFile>, StoreError> {
        let spare = if size == self.segment_bytes { self.spares.pop() } else { None };
        let path = spare.unwrap_or_else(|| spare_path(&self.dir, number));
        let file = self.disk.open(&path, true)?;
        if file.len()? != size {
            file.set_len(size)?;
        }
        file.write_at(0, bytes)?;
        file.sync()?;
        self.disk.rename(&path, &segment_path(&self.dir, number))?;
        self.disk.sync_dir(&self.dir)?;
        Ok(Arc::from(file))
    }

    fn free_segment(&mut self, number: u64) -> Result<(), StoreError> {
        let path = segment_path(&self.dir, number);
        let usual_size = self.disk.open(&path, false)?.len()? == self.segment_bytes;
        if usual_size && self.spares.len() < SPARES_MAX {
            let spare = spare_path(&self.dir, number);
            self.disk.rename(&path, &spare)?;
            self.spares.push(spare);
        } else {
            self.disk.remove(&path)?;
        }
        self.disk.sync_dir(&self.dir)
    }
}
