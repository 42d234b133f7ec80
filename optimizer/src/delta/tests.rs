use super::*;
use crate::onnx::proto::{GraphProto, ModelProto, TensorProto};
use aidos_protocol::delta::{MAX_WINDOW_LOG, apply};
use proptest::prelude::*;
use prost::Message as _;
use std::io::Cursor;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let step = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

fn applied(base: &[u8], patch: &[u8]) -> Vec<u8> {
    let mut target = Vec::new();
    apply(Cursor::new(base), patch, &mut target, MAX_WINDOW_LOG).unwrap();
    target
}

fn model(producer: &str, weights: &[(&str, Vec<f32>)]) -> Vec<u8> {
    let tensor = |(name, values): &(&str, Vec<f32>)| TensorProto {
        name: (*name).into(),
        dims: vec![values.len() as i64],
        data_type: 1,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>().into(),
        ..TensorProto::default()
    };
    let graph = GraphProto { initializer: weights.iter().map(tensor).collect(), ..GraphProto::default() };
    ModelProto { producer_name: producer.into(), graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
}

#[test]
fn weights_are_aligned_by_name_when_the_files_are_laid_out_differently() {
    let weights =
        |seed| noise(seed, 80_000).chunks(2).map(|b| f32::from(b[0]) + f32::from(b[1]) / 256.0 + 1.0).collect::<Vec<_>>();
    let nudged = |w: &[f32]| w.iter().map(|w| w * 1.000_01).collect::<Vec<_>>();
    let (a, b) = (weights(1), weights(2));
    let new = model("another exporter", &[("b", nudged(&b)), ("new", weights(3)[..50].to_vec()), ("a", nudged(&a))]);
    let old = model("exporter", &[("a", a), ("b", b)]);
    let regions = regions(&old, &new);
    assert_eq!(regions.len(), 2);
    let tensors = one(Algorithm::Tensors, &old, &new, MAX_WINDOW_LOG).unwrap().unwrap();
    assert_eq!(applied(&old, &tensors), new);
    let full = one(Algorithm::Full, &old, &new, MAX_WINDOW_LOG).unwrap().unwrap();
    assert!(tensors.len() * 2 < full.len(), "{} of {}", tensors.len(), full.len());
    assert_eq!(create(&old, &new, MAX_WINDOW_LOG).unwrap().algorithm, Algorithm::Tensors);
}

#[test]
fn moved_and_edited_code_is_matched_by_its_content() {
    let base = noise(4, 300_000);
    let mut target = [noise(5, 777), base[100_000..].to_vec(), base[..100_000].to_vec()].concat();
    target.iter_mut().step_by(97).for_each(|byte| *byte = byte.wrapping_add(3));
    let patch = create(&base, &target, MAX_WINDOW_LOG).unwrap();
    assert_eq!(patch.algorithm, Algorithm::Bsdiff);
    assert!(patch.bytes.len() * 20 < target.len(), "{}", patch.bytes.len());
    assert_eq!(applied(&base, &patch.bytes), target);
}

#[test]
fn a_patch_between_strangers_is_never_larger_than_the_whole_file() {
    for (base, target) in [(noise(6, 200_000), noise(7, 300_000)), (noise(8, 10), vec![1; 300_000]), (Vec::new(), noise(9, 99))] {
        let patch = create(&base, &target, MAX_WINDOW_LOG).unwrap();
        let full = one(Algorithm::Full, &base, &target, MAX_WINDOW_LOG).unwrap().unwrap().len();
        assert!(patch.bytes.len() <= full, "{} of {full}", patch.bytes.len());
        assert_eq!(applied(&base, &patch.bytes), target);
    }
}

#[test]
fn files_that_are_too_large_to_hold_are_refused() {
    let huge = vec![0; MAX_DELTA_BYTES + 1];
    assert!(matches!(create(b"", &huge, MAX_WINDOW_LOG), Err(DeltaError::TooLarge(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_created_applies(seed: u64, length in 0..60_000_usize, cut: prop::sample::Index, insert in 0..500_usize, run in 0..3_usize) {
        let base = noise(seed, length);
        let at = cut.index(length + 1);
        let target = [&base[..at], &noise(seed ^ 5, insert)[..], &vec![0; run * 70_000][..], &base[at..]].concat();
        let patch = create(&base, &target, 16).unwrap();
        prop_assert!(applied(&base, &patch.bytes) == target);
        let back = create(&target, &base, 16).unwrap();
        prop_assert!(applied(&target, &back.bytes) == base);
    }

    #[test]
    fn garbage_has_no_tensors_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut other = model("x", &[("a", vec![1.0; 99])]);
        other.extend(&bytes);
        tensors::common(&bytes, &other);
        tensors::common(&other, &bytes);
    }
}
