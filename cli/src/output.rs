//! How results are printed: tables for people, JSON and YAML for programs, names for pipes.

use crate::CliError;
use aidos_protocol::time::Micros;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};
use time::OffsetDateTime;

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Columns.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// What the API answered.
    Json,
    /// The same as YAML.
    Yaml,
    /// One name or id a line.
    Name,
}

/// Something that is printed as a row.
pub(crate) trait Row: Serialize {
    /// Column titles; those after `NARROW` show only with `-o wide`.
    const COLUMNS: &'static [&'static str];
    /// How many columns a plain table shows.
    const NARROW: usize;
    /// One cell per column.
    fn cells(&self) -> Vec<String>;
    /// What `-o name` prints: what other commands take as their argument.
    fn name(&self) -> String;
}

/// Prints a list.
pub(crate) fn list<R: Row>(format: Format, rows: &[R]) -> Result<(), CliError> {
    match format {
        Format::Json | Format::Yaml => value(format, &rows),
        Format::Name => line(&rows.iter().map(Row::name).collect::<Vec<_>>().join("\n")),
        Format::Table | Format::Wide => {
            let columns = if format == Format::Wide { R::COLUMNS.len() } else { R::NARROW };
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_header(&R::COLUMNS[..columns]);
            // Piped output is not wrapped to a width that nobody has.
            let arrangement =
                if std::io::stdout().is_terminal() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
            table.set_content_arrangement(arrangement);
            for row in rows {
                table.add_row(row.cells().into_iter().take(columns).map(|cell| printable(&cell)));
            }
            for column in table.column_iter_mut() {
                column.set_padding((0, 2));
            }
            line(&table.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// Prints one thing: as JSON or YAML, its name, or through `table`.
pub(crate) fn one<R: Row>(format: Format, row: &R, table: impl FnOnce() -> String) -> Result<(), CliError> {
    match format {
        Format::Json | Format::Yaml => value(format, row),
        Format::Name => line(&row.name()),
        Format::Table | Format::Wide => line(table().trim_end()),
    }
}

/// Prints any value as JSON, or YAML where that is asked for.
pub(crate) fn value(format: Format, value: &impl Serialize) -> Result<(), CliError> {
    let text = match format {
        Format::Yaml => serde_yaml::to_string(value).map_err(|e| CliError::from(anyhow::Error::from(e)))?,
        _ => serde_json::to_string_pretty(value).map_err(|e| CliError::from(anyhow::Error::from(e)))?,
    };
    line(text.trim_end())
}

/// Prints a text and a line end. A closed pipe ends the program quietly, as `head` expects.
pub(crate) fn line(text: &str) -> Result<(), CliError> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other
            .map_err(|e| CliError::failed(format!("standard output: {e}"), "send it to where there is room, or to a terminal")),
    }
}

/// `key: value` lines with the values in one column.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 2;
    pairs.iter().map(|(key, value)| format!("{:width$}{}\n", format!("{key}:"), printable(value))).collect()
}

/// Text from elsewhere, without what could steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '·' } else { c }).collect()
}

/// Labels as `a=1,b=2`.
pub(crate) fn labels(labels: &std::collections::BTreeMap<String, String>) -> String {
    let text = labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
    if text.is_empty() { "-".into() } else { text }
}

/// How long ago, in the two largest units that matter: `3d4h`, `12s`.
pub(crate) fn age(time: Micros) -> String {
    let seconds = (OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000 - i128::from(time.0)) / 1_000_000;
    duration(seconds.max(0))
}

/// A span in seconds, short.
pub(crate) fn duration(seconds: i128) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A point in time, UTC, to the second.
pub(crate) fn time(time: Micros) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time.0) * 1_000)
        .ok()
        .and_then(|t| t.replace_nanosecond(0).ok()?.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| "-".into())
}

/// Bytes in binary units.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a·[2Jb\nc");
    }

    #[test]
    fn spans_keep_their_two_largest_units() {
        assert_eq!([duration(5), duration(65), duration(3_660), duration(90_000)], ["5s", "1m5s", "1h1m", "1d1h"]);
    }
}
