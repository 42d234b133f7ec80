//! The agent's log: to standard error as lines for people or as JSON, and into the ring of the last lines.

use super::Logs;
use std::sync::Arc;
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry, reload};

/// Where every event of this crate comes from.
const OWN: &str = env!("CARGO_CRATE_NAME");

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
    /// For an agent that keeps no lines: a tool that runs for a moment, or a test. See [`Logging::within`].
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
        Self { logs, set_level: settable(handle) }
    }

    /// For an agent within another program, whose log is that program's: the layer to add to it keeps the agent's own lines, for
    /// whoever asks this device for its log, and nobody else's. `level` is a level or a filter.
    pub fn within<S>(level: &str) -> (Self, impl Layer<S> + Send + Sync + use<S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let logs = Logs::default();
        let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
        let (filter, handle) = reload::Layer::new(filter);
        let own = filter_fn(|meta| meta.target().strip_prefix(OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")));
        let layer = logs.clone().with_filter(filter.and(own));
        (Self { logs, set_level: settable(handle) }, layer)
    }
}

fn settable<S: 'static>(handle: reload::Handle<EnvFilter, S>) -> SetLevel {
    Arc::new(move |level| {
        let filter = EnvFilter::try_new(level).map_err(|error| format!("`{level}` is no level: {error}"))?;
        handle.reload(filter).map_err(|error| error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_another_program_only_the_agents_own_lines_are_kept_at_the_level_that_was_set() {
        let (logging, layer) = Logging::within("info");
        let quiet = fmt::layer().with_writer(std::io::sink).with_filter(EnvFilter::new("warn"));
        tracing::subscriber::with_default(registry().with(quiet).with(layer), || {
            tracing::info!("ours");
            tracing::debug!("too fine");
            tracing::info!(target: "aidos_control_plane::fleet", "theirs");
            tracing::info!(target: "aidos_agent_of_another_name", "nobody's");
            (logging.set_level)("debug").unwrap();
            tracing::debug!("fine");
            assert!((logging.set_level)("aidos_agent=loud").is_err());
        });
        let texts: Vec<String> = logging.logs.tail(10, "debug").into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["ours", "fine"]);
    }
}
