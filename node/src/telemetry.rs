//! What the process says of itself on standard error: text for people or one JSON object per line.
//!
//! Owns: turning `[log]` into a subscriber. Promises: `DINHBA_LOG`, if set, replaces the level (but for what Raft's library says,
//! which it may name), in the syntax of
//! `tracing_subscriber::EnvFilter` (`info,dinhba_node=debug`); what cannot be understood there is an error, not
//! silence. Leaves to others: what is logged, and that no personal data ever is.

use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Format, Level, Log};

/// The variable that replaces `log.level`.
pub const FILTER_VARIABLE: &str = "DINHBA_LOG";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The variable cannot be understood.
    #[error("{FILTER_VARIABLE}={text:?}: {reason}: set it to a level, or to target=level pairs with commas between")]
    Filter {
        /// Its value.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// Something logs already.
    #[error("a log is set up already")]
    Twice,
}

/// Sets up the log of this process, once.
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    let variable = std::env::var(FILTER_VARIABLE).ok();
    let subscriber = subscriber(log, variable.as_deref(), std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Twice)
}

fn subscriber<W>(
    log: &Log,
    variable: Option<&str>,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // What openraft calls information is its trace of every election and every vote, and it warns of a member that is away with
    // each heartbeat, for each group: the peer's own line says so once. What it says of a log that went back is said once.
    const QUIET: &str = "openraft=error,openraft::progress=warn";
    let usual = match log.level {
        level @ (Level::Info | Level::Warn) => format!("{},{QUIET}", level.name()),
        other => other.name().to_owned(),
    };
    // Whoever names openraft in the variable wants to read it; whoever does not, does not want it as a flood.
    let asked = variable.map(str::trim).filter(|text| !text.is_empty());
    let asked = asked.map(|text| if text.contains("openraft") { text.to_owned() } else { format!("{QUIET},{text}") });
    let text = asked.as_deref().unwrap_or(&usual);
    let filter = text.parse::<EnvFilter>().map_err(|error: ParseError| TelemetryError::Filter {
        text: variable.unwrap_or(text).to_owned(),
        reason: error.to_string(),
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match log.format {
        Format::Text => Box::new(builder.with_ansi(false).finish()),
        Format::Json => Box::new(builder.json().flatten_event(true).finish()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: &Log, variable: Option<&str>) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = subscriber(log, variable, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("node", site = "s-1", node = "n-1").entered();
            tracing::info!(group = "g-1", "elected");
            tracing::debug!("heartbeat sent");
        });
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_a_line_that_a_person_reads() {
        let text = logged(&Log::default(), None);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("INFO") && text.contains("elected") && text.contains("group=\"g-1\""), "{text}");
    }

    #[test]
    fn json_is_an_object_with_its_fields_and_spans() {
        let text = logged(&Log { format: Format::Json, level: Level::Info }, None);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["group"]),
            (&"INFO".into(), &"elected".into(), &"g-1".into())
        );
        assert_eq!(line["span"]["site"], "s-1");
    }

    #[test]
    fn the_level_bounds_what_is_said_and_the_variable_replaces_it() {
        assert_eq!(logged(&Log { level: Level::Debug, ..Log::default() }, None).lines().count(), 2);
        assert_eq!(logged(&Log { level: Level::Warn, ..Log::default() }, None), "");
        assert_eq!(logged(&Log { level: Level::Warn, ..Log::default() }, Some("info")).lines().count(), 1);
        assert_eq!(logged(&Log::default(), Some("")).lines().count(), 1);
    }

    #[test]
    fn what_openraft_says_of_each_heartbeat_is_not_said() {
        let said = |level: Level| {
            let page = Page::default();
            let writer = page.clone();
            let log = Log { level, ..Log::default() };
            let subscriber = subscriber(&log, None, move || writer.clone()).unwrap();
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "openraft::core::heartbeat::worker", "failed to send a heartbeat");
                tracing::warn!(target: "openraft::replication", "ReplicationCore recv RPCError");
                tracing::warn!(target: "openraft::progress::entry::update", "follower log is reverted");
                tracing::error!(target: "openraft::core::raft_core", "storage error");
            });
            let bytes = page.0.lock().unwrap().clone();
            String::from_utf8(bytes).unwrap().lines().count()
        };
        assert_eq!([Level::Info, Level::Warn].map(said), [2, 2]);
    }

    #[test]
    fn a_filter_that_means_nothing_is_an_error() {
        let error = subscriber(&Log::default(), Some("dinhba_node=loud"), std::io::sink).err().unwrap().to_string();
        assert!(error.starts_with("DINHBA_LOG=\"dinhba_node=loud\": "), "{error}");
    }
}
