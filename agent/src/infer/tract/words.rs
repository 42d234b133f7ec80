//! tract's errors in one line that a person can use.

use tract_onnx::prelude::TractError;

/// As much as a person reads: tract repeats whole facts in some.
const LONGEST: usize = 1_000;

/// The causes, outermost first; a fault with a known name is told plainly instead.
pub(super) fn of(error: &TractError) -> String {
    let causes: Vec<String> =
        error.chain().map(|cause| cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    branches(&causes).unwrap_or_else(|| causes.join(": ")).chars().take(LONGEST).collect()
}

/// `If` whose branches give values of different shape: tract can only join equal ones.
fn branches(causes: &[String]) -> Option<String> {
    let fault = causes.iter().find(|cause| cause.contains("then_body") && cause.contains("else_body"))?;
    let (one, other) = fault.rsplit_once('(')?.1.trim_end_matches(')').split_once(" vs ")?;
    let node = causes.iter().rev().find_map(|cause| cause.split('"').nth(1)).unwrap_or("?");
    let rank = |fact: &str| fact.split(',').count() - 1;
    let what = if rank(one) == rank(other) { "shape" } else { "rank" };
    Some(format!(
        "the branches of `{node}` (operator If) give values of different {what}: {one} and {other}; export the model without this If"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_of_different_rank_are_told_plainly() {
        let causes = [
            r#"Translating node #82 "decoder/If" If ToTypedTranslator"#.to_owned(),
            "Condition failed: `self.then_body.x == self.else_body.x` (1,128,F32 vs 1,128,1,F32)".to_owned(),
        ];
        let told = "the branches of `decoder/If` (operator If) give values of different rank: 1,128,F32 and 1,128,1,F32";
        assert!(branches(&causes).unwrap().starts_with(told));
        assert_eq!(branches(&["anything else".to_owned()]), None);
    }
}
