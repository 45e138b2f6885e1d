//! Clock and chance of simulated people: the simulator's.

use std::time::Duration;

use dinhba_client::ambient::Ambient;
use dinhba_node::runtime;
use futures::FutureExt;
use futures::future::BoxFuture;

/// Virtual time and the seed's chance, on a thread where a simulator is installed.
#[derive(Debug, Clone, Copy)]
pub struct VirtualAmbient {
    since: runtime::Instant,
}

impl Default for VirtualAmbient {
    fn default() -> Self {
        VirtualAmbient { since: runtime::now() }
    }
}

impl Ambient for VirtualAmbient {
    fn elapsed(&self) -> Duration {
        runtime::now() - self.since
    }
    fn utc_ms(&self) -> i64 {
        runtime::utc_ms()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        runtime::sleep(duration).boxed()
    }
    fn fill(&self, bytes: &mut [u8]) {
        runtime::fill_random(bytes);
    }
}
