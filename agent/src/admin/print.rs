//! Answers on standard output: a table for people, JSON for programs.

use super::doctor::Level;
use super::wire::{Findings, ModelsView, StatusView};
use crate::bundle::Imported;
use crate::identity::Identity;
use crate::observe::LogLine;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{IntentView, TrustState, TrustStatus};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write as _};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// Columns for people.
    Table,
    /// JSON for programs.
    Json,
}

type Done = io::Result<()>;

/// Writes `value` as JSON, or the rows of `table` with aligned columns.
fn write<T: Serialize>(output: Output, value: &T, table: impl FnOnce() -> Vec<Vec<String>>) -> Done {
    let mut out = io::stdout().lock();
    let text = match output {
        Output::Json => serde_json::to_string_pretty(value).map_err(io::Error::other)? + "\n",
        Output::Table => align(&table()),
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `| head` closes the pipe; that is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// `2026-11-21 12:00:00Z`.
fn time(at: Micros) -> String {
    if at.0 == 0 {
        return "-".to_owned();
    }
    let seconds = at.0.div_euclid(1_000_000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from days since 1970-01-01, by 400-year cycles that begin on 1 March.
    let shifted = days + 719_468;
    let cycle = shifted.div_euclid(146_097);
    let day_of_cycle = shifted.rem_euclid(146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

pub(super) fn imported(output: Output, imported: &Imported) -> Done {
    write(output, imported, || {
        let model = |model: &aidos_protocol::bundle::BundledModel| row([&format!("{}@{}", model.name, model.version), "is here"]);
        let mut rows: Vec<_> = imported.models.iter().map(model).collect();
        let Imported { stored, stored_bytes, present, .. } = imported;
        rows.push(row(["files", &format!("{stored} new ({stored_bytes} bytes), {present} were here")]));
        rows.push(row(["kept until", &format!("{}, or longer once they are deployed", time(imported.kept_until))]));
        rows.push(row(["active", "nothing new: a deployment decides what runs, and checks each file"]));
        rows
    })
}

pub(super) fn joined(output: Output, identity: &Identity) -> Done {
    #[derive(Serialize)]
    struct Joined {
        device_id: String,
        tenant_id: String,
        api_url: String,
    }
    let joined = Joined {
        device_id: identity.device_id().to_string(),
        tenant_id: identity.tenant_id().to_string(),
        api_url: identity.endpoints().api_url,
    };
    write(output, &joined, || {
        vec![row([&format!("joined {} as {}", joined.api_url, joined.device_id)]), row(["next: aidos-agent run"])]
    })
}

pub(super) fn status(output: Output, status: &StatusView) -> Done {
    write(output, status, || {
        let device =
            status.device_id.map_or_else(|| "has not joined; see `aidos-agent join --help`".to_owned(), |id| id.to_string());
        let mut rows = vec![row(["device", &device]), row(["agent", &format!("{} (pid {})", status.version, status.pid)])];
        rows.push(row(["data", &status.data_dir]));
        let taken = status.drained.map_or_else(String::new, |since| {
            format!(", drained since {}: takes no requests until `aidos device undrain`", time(since))
        });
        rows.push(row(["inference", &format!("http://{}{taken}", status.serve_addr)]));
        if status.device_id.is_some() {
            let link = &status.link;
            let how = if link.transport.is_empty() {
                "offline".to_owned()
            } else {
                format!("{} since {}", link.transport, time(link.since))
            };
            rows.push(row(["control plane", &link.api_url]));
            rows.push(row(["link", &if link.note.is_empty() { how } else { format!("{how}: {}", link.note) }]));
            rows.push(row(["certificate", &format!("until {}", status.certificate_until.map_or_else(|| "-".into(), time))]));
            rows.push(row(["trust", &trust(&status.trust)]));
            rows.push(row(["edits pending", &status.edits_pending.to_string()]));
        }
        let telemetry = format!("{} samples wait, {} lost", status.telemetry_waiting, status.telemetry_lost);
        rows.push(row(["telemetry", &telemetry]));
        for (name, model) in &status.models {
            let active = model.active_version.map_or_else(|| "-".to_owned(), |version| format!("@{version}"));
            rows.push(row(["model", &format!("{name}{active} {}", state(model))]));
        }
        rows
    })
}

fn trust(trust: &TrustStatus) -> String {
    match trust.state {
        TrustState::Unsigned => "no root: installs by the control plane's word alone".to_owned(),
        TrustState::Verified => format!("root {}, signed updates only, valid until {}", trust.root, time(trust.expires_us)),
        TrustState::Stale => format!("root {}, nothing new is installed: {}", trust.root, trust.error),
    }
}

fn state(model: &aidos_protocol::twin::ModelStatus) -> String {
    serde_json::to_value(model.state).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(super) fn pairs(output: Output, what: &str, pairs: &BTreeMap<String, String>) -> Done {
    write(output, pairs, || {
        if pairs.is_empty() {
            return vec![row([&format!("no {what}")])];
        }
        pairs.iter().map(|(key, value)| row([key, value])).collect()
    })
}

pub(super) fn intent(output: Output, intent: &IntentView) -> Done {
    write(output, intent, || {
        let mut rows = vec![row(["epoch", &intent.epoch.to_string()])];
        rows.extend(intent.labels.iter().map(|(key, value)| row(["label", &format!("{key}={value}")])));
        rows.extend(intent.notes.iter().map(|(key, value)| row(["note", &format!("{key}: {value}")])));
        rows.extend(intent.models.iter().map(|(name, model)| row(["model", &format!("{name}@{}", model.version)])));
        rows.extend(intent.config.iter().map(|(key, value)| row(["config", &format!("{key} = {value}")])));
        rows.extend(
            intent
                .conflicts
                .iter()
                .map(|conflict| row(["conflict", &format!("{} (kept what {} wrote)", conflict.path, conflict.winner)])),
        );
        rows
    })
}

pub(super) fn models(output: Output, models: &ModelsView) -> Done {
    write(output, models, || {
        let mut rows = vec![row(["NAME", "WANTED", "ACTIVE", "BESIDE", "STATE", "SINCE", "ENGINE", "REASON"])];
        let version = |version: Option<u64>| version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        rows.extend(models.iter().map(|(name, model)| {
            let (wanted, active, previous) =
                (version(model.desired_version), version(model.active_version), version(model.previous_version));
            let since = time(model.since_us);
            row([name.as_str(), &wanted, &active, &previous, &state(model), &since, &model.engine, &model.error])
        }));
        rows
    })
}

pub(super) fn logs(output: Output, lines: &[LogLine]) -> Done {
    write(output, &lines, || lines.iter().map(|line| row([&time(line.time_us), &line.level, &line.target, &line.text])).collect())
}

pub(super) fn findings(output: Output, found: &Findings) -> Done {
    write(output, found, || {
        let mut rows = Vec::new();
        for finding in found {
            let mark = match finding.level {
                Level::Ok => "ok",
                Level::Warn => "warn",
                Level::Fail => "FAIL",
            };
            rows.push(row([mark, &finding.what, &finding.detail]));
            if !finding.hint.is_empty() {
                rows.push(row(["", "", &format!("→ {}", finding.hint)]));
            }
        }
        rows
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_civil_dates() {
        assert_eq!(time(Micros(951_782_400_000_000)), "2000-02-29 00:00:00Z");
        assert_eq!(time(Micros(1_795_262_399_000_000)), "2026-11-21 11:59:59Z");
        assert_eq!(time(Micros(0)), "-");
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        assert_eq!(align(&[row(["a", "b"]), row(["ccc", ""])]), "a    b\nccc\n");
    }
}
