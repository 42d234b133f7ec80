//! How a benchmark prints what it measured. `cargo xtask bench` reads these lines into `docs/benchmarks.md`.

use std::process::ExitCode;

/// The figures of one benchmark: one line each, `name value unit limit` (`-`: none).
#[derive(Debug, Default)]
pub struct Figures {
    passed: usize,
}

impl Figures {
    /// Prints a figure; one above its limit fails the benchmark.
    #[expect(clippy::print_stdout, reason = "a benchmark's result")]
    pub fn figure(&mut self, name: &str, value: f64, unit: &str, limit: Option<f64>) {
        let text = limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        println!("{name} {value:.2} {unit} {text}");
        // What is no number is within no limit.
        self.passed += usize::from(limit.is_some_and(|limit| value > limit || value.is_nan()));
    }

    /// Failure when a limit was passed.
    pub fn verdict(&self) -> ExitCode {
        if self.passed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
