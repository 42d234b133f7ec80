//! The agent's log: to standard error as lines for people or as JSON, and into the ring of the last lines.

use super::Logs;
use std::sync::Arc;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry, reload};

/// Sets which events are logged from now on.
pub type SetLevel = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What the rest of the agent does with the log.
#[derive(Clone)]
pub struct Logging {
    /// The last lines.
    pub logs: Logs,
    /// Changes the level while the agent runs.
    pub set_level: SetLevel,
}

impl Default for Logging {
    /// For an agent within another program, whose log is that program's: no lines are kept and the level is not changed here.
    fn default() -> Self {
        Self { logs: Logs::default(), set_level: Arc::new(|_| Ok(())) }
    }
}

impl Logging {
    /// Makes this the process's log. `level` is a level or a filter; call it once.
    pub fn start(level: &str, json: bool) -> Self {
        let logs = Logs::default();
        let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
        let (filter, handle) = reload::Layer::new(filter);
        let to_stderr = fmt::layer().with_writer(std::io::stderr);
        let lines = if json { to_stderr.json().boxed() } else { to_stderr.boxed() };
        // Fails only when this process already logs, and then that log stays.
        let _ = registry().with(filter).with(lines).with(logs.clone()).try_init();
        let set_level: SetLevel = Arc::new(move |level| {
            let filter = EnvFilter::try_new(level).map_err(|error| format!("`{level}` is no level: {error}"))?;
            handle.reload(filter).map_err(|error| error.to_string())
        });
        Self { logs, set_level }
    }
}
