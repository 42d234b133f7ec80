//! Progress on standard error: bars on a terminal, a plain line now and then elsewhere, nothing with `-q`.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static QUIET: AtomicBool = AtomicBool::new(false);

/// `-q`: no progress at all.
pub(crate) fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Says what happens now.
#[allow(clippy::print_stderr)]
pub(crate) fn say(text: &str) {
    if !QUIET.load(Ordering::Relaxed) {
        eprintln!("{text}");
    }
}

/// A transfer of a known size.
pub(crate) struct Transfer {
    what: String,
    total: u64,
    bar: ProgressBar,
    /// The last tenth that was told in a plain line.
    told: AtomicU64,
    plain: bool,
}

impl Transfer {
    /// Shows a transfer of `total` bytes.
    pub(crate) fn new(what: &str, total: u64) -> Self {
        let quiet = QUIET.load(Ordering::Relaxed);
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let bar = ProgressBar::with_draw_target(
            Some(total),
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        let style = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is a constant"));
        bar.set_message(what.to_owned());
        Self { what: what.to_owned(), total, bar, told: AtomicU64::new(0), plain: !terminal && !quiet }
    }

    /// Moves to `position` bytes.
    pub(crate) fn at(&self, position: u64) {
        self.bar.set_position(position);
        let tenth = position * 10 / self.total.max(1);
        if self.plain && self.told.fetch_max(tenth, Ordering::Relaxed) < tenth {
            say(&format!("{} {}%", self.what, tenth * 10));
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
