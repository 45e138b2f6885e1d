//! Officers who work without a pause until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dinhba_core::claims::Role;
use dinhba_tests::country::Country;
use dinhba_tests::officer::{Ledger, Officer};
use tokio::task::JoinHandle;

/// Officers at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// `count` officers of `unit` register people in a commune's shard at the site `code` and write into what they
    /// registered. Each begins with another node.
    pub fn start(country: &Country, code: &str, unit: &str, commune: &str, count: usize, ledger: &Ledger) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..count).map(|number| {
            let mut nodes = country.sites[code].nodes.clone();
            let turn = number % nodes.len();
            nodes.rotate_left(turn);
            let officer = Officer::new(country.client(&nodes, Role::Registrar, unit), country.shard(commune), ledger);
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let record = officer.register("Hà/Thị/Tải").await.expect("a registration under load");
                    for note in ["one", "two"] {
                        officer.write(record, "note", "", note).await.expect("an edit under load");
                    }
                }
            })
        });
        Load { tasks: tasks.collect(), stop }
    }

    /// Lets them finish what they do.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("an officer under load");
        }
    }
}
