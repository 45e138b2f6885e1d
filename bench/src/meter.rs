//! What processes cost and how long calls take.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Ticks of a second in `/proc/PID/stat`: fixed on Linux.
const TICKS: f64 = 100.0;

/// What processes have used since they began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// CPU time of all threads, in user and kernel.
    pub cpu: Duration,
    /// Bytes sent to the block layer.
    pub written: u64,
    /// Memory held now.
    pub resident: u64,
}

impl Usage {
    /// Of these processes together.
    pub fn of(processes: &[u32]) -> anyhow::Result<Self> {
        processes.iter().try_fold(Usage::default(), |sum, id| {
            let one = Usage::of_one(*id).with_context(|| format!("process {id}"))?;
            Ok(Usage {
                cpu: sum.cpu + one.cpu,
                written: sum.written + one.written,
                resident: sum.resident + one.resident,
            })
        })
    }

    fn of_one(id: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The name of the program, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).context("no CPU time in stat");
        let io = fs::read_to_string(format!("/proc/{id}/io"))?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        Ok(Usage {
            cpu: Duration::from_secs_f64((ticks(11)? + ticks(12)?) / TICKS),
            written: number(&io, "write_bytes:").context("no written bytes in io")?,
            resident: number(&status, "VmRSS:").context("no memory in status")? * 1024,
        })
    }

    /// What came since `before`.
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            written: self.written.saturating_sub(before.written),
            resident: self.resident,
        }
    }
}

fn number(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What calls took.
#[derive(Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Those of others too.
    pub fn extend(&mut self, others: Latencies) {
        self.0.extend(others.0);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The duration that this share of the calls did not exceed.
    pub fn quantile(&mut self, share: f64) -> Duration {
        self.0.sort_unstable();
        let at = (self.0.len() as f64 * share) as usize;
        self.0.get(at.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Calls in a loop until `end`; what those took that began after `begin`.
pub async fn repeat<Call>(begin: Instant, end: Instant, mut call: impl FnMut() -> Call) -> anyhow::Result<Latencies>
where
    Call: Future<Output = anyhow::Result<()>>,
{
    let mut latencies = Latencies::default();
    loop {
        let began = Instant::now();
        if began >= end {
            return Ok(latencies);
        }
        call().await?;
        if began >= begin {
            latencies.add(began.elapsed());
        }
    }
}

/// The middle one; of an even number, the lower of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// The CPU time of this thread, which neighbours on a busy machine do not lengthen as they do any clock's.
#[derive(Debug, Clone, Copy)]
pub struct Busy(Duration);

impl Busy {
    /// From now on.
    pub fn begin() -> Self {
        Busy(Self::spent())
    }

    /// Since then.
    pub fn elapsed(self) -> Duration {
        Self::spent().saturating_sub(self.0)
    }

    fn spent() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}
