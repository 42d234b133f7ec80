//! How far a version's answers have moved: a bounded histogram of its outputs, and the population stability index of two.

use aidos_protocol::oip::Tensor;

/// Bins: classes up to this many each have their own; values share them by magnitude.
const BINS: usize = 64;
/// Elements of an answer that are looked at: what a classifier gives, and the beginning of a picture.
const MAX_ELEMENTS: usize = 1_024;
/// Answers of either version below which the index says nothing.
const LEAST: u64 = 50;
/// The share that an empty bin counts as, so that one stray answer does not make the index infinite.
const FLOOR: f64 = 1e-4;

/// What one version has answered, by kind of answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Outputs {
    bins: Vec<u32>,
    all: u64,
}

impl Outputs {
    /// Adds an answer: the class of a vector of scores, or the magnitude of its first value.
    pub(super) fn add(&mut self, outputs: &[Tensor]) {
        let Some(first) = outputs.iter().find(|tensor| tensor.datatype().width().is_some()) else { return };
        let Some(values) = beginning(first).filter(|values| !values.is_empty()) else { return };
        let bin = match values.len() {
            1 => magnitude(values[0]),
            _ => class(&values).map_or(0, |class| class % BINS),
        };
        if self.bins.is_empty() {
            self.bins = vec![0; BINS];
        }
        self.bins[bin] = self.bins[bin].saturating_add(1);
        self.all += 1;
    }

    /// The population stability index against what was answered before; `None` while either has answered too little.
    pub(super) fn against(&self, before: &Self) -> Option<f64> {
        if self.all < LEAST || before.all < LEAST {
            return None;
        }
        let share = |outputs: &Self, bin: usize| (f64::from(outputs.bins[bin]) / outputs.all as f64).max(FLOOR);
        Some((0..BINS).map(|bin| (share(self, bin), share(before, bin))).map(|(is, was)| (is - was) * (is / was).ln()).sum())
    }
}

/// The first values, without reading all of a large tensor.
fn beginning(tensor: &Tensor) -> Option<Vec<f64>> {
    let width = tensor.datatype().width()?;
    let elements = tensor.elements().min(MAX_ELEMENTS);
    if elements == tensor.elements() {
        return tensor.to_f64();
    }
    let data = tensor.data().slice(..elements * width);
    Tensor::new("", tensor.datatype(), vec![elements], data).ok()?.to_f64()
}

/// The index of the largest value; `None` when one is no number.
pub(super) fn class(values: &[f64]) -> Option<usize> {
    let (mut best, mut largest) = (None, f64::NEG_INFINITY);
    for (index, value) in values.iter().enumerate() {
        if value.is_nan() {
            return None;
        }
        if *value > largest || best.is_none() {
            (best, largest) = (Some(index), *value);
        }
    }
    best
}

/// Four bins per factor of ten, from 10⁻⁴ to 10⁴ on either side of zero.
fn magnitude(value: f64) -> usize {
    let half = BINS / 2;
    if value.is_nan() {
        return 0;
    }
    let steps = (value.abs().max(1e-4).log10() + 4.0) * 4.0;
    let steps = (steps as usize).min(half - 1);
    if value < 0.0 { half - 1 - steps } else { half + steps }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(classes: impl IntoIterator<Item = usize>) -> Outputs {
        let mut outputs = Outputs::default();
        for class in classes {
            let scores: Vec<f32> = (0..10).map(|index| f32::from(u8::from(index == class))).collect();
            outputs.add(&[Tensor::fp32("y", vec![1, 10], &scores).unwrap()]);
        }
        outputs
    }

    #[test]
    fn the_same_answers_are_no_drift_and_other_ones_are() {
        let even = answers((0..200).map(|n| n % 10));
        assert!(even.against(&answers((0..500).map(|n| n % 10))).unwrap() < 0.01);
        // Above 0.25 is what practitioners call a shift.
        assert!(answers((0..200).map(|_| 3)).against(&even).unwrap() > 0.25);
        assert_eq!(answers(0..10).against(&even), None);
    }

    #[test]
    fn single_values_are_told_apart_by_sign_and_magnitude() {
        let bins: Vec<usize> = [-1e9, -1.0, -1e-3, 0.0, 1e-3, 1.0, 1e9].into_iter().map(magnitude).collect();
        assert!(bins.is_sorted() && bins.iter().all(|bin| *bin < BINS), "{bins:?}");
        assert_eq!(bins[6], BINS - 1);
    }

    #[test]
    fn an_answer_larger_than_is_looked_at_is_not_read_whole() {
        let mut outputs = Outputs::default();
        let mut values = vec![0.0; 5_000];
        (values[7], values[4_000]) = (1.0, 9.0);
        outputs.add(&[Tensor::fp32("y", vec![5_000], &values).unwrap()]);
        assert_eq!(outputs.bins[7], 1);
    }
}
