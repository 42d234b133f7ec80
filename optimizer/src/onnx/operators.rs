//! Which operators exist: those of the standard, and the contributed ones that engines commonly bring.

use std::collections::HashSet;
use std::sync::LazyLock;

/// The default domain under its full name.
pub(super) const STANDARD: &str = "ai.onnx";
/// ONNX Runtime's contributed operators. Its set is open-ended: whether one can run is the engine's to say.
const CONTRIBUTED: &str = "com.microsoft";

static OPERATORS: LazyLock<HashSet<(&'static str, &'static str)>> = LazyLock::new(|| {
    let mut domain = STANDARD;
    let mut known = HashSet::new();
    for line in include_str!("operators.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            Some(section) => domain = section,
            None => _ = known.insert((domain, line)),
        }
    }
    known
});

/// A domain's full name: the empty one is `ai.onnx`.
pub(super) fn full_domain(domain: &str) -> &str {
    if domain.is_empty() { STANDARD } else { domain }
}

/// Whether `operator` of the full `domain` is one that an engine could know.
pub(super) fn is_known(domain: &str, operator: &str) -> bool {
    domain == CONTRIBUTED || OPERATORS.contains(&(domain, operator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_operators_are_known_in_their_own_domain_only() {
        assert!(is_known(STANDARD, "Conv") && is_known("ai.onnx.ml", "TreeEnsembleClassifier"));
        assert!(!is_known("ai.onnx.ml", "Conv") && !is_known(STANDARD, "Convv"));
    }
}
