use super::*;
use crate::artifact::Digest;
use proptest::prelude::*;
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

fn applied(base: &[u8], patch: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let mut target = Vec::new();
    apply(Cursor::new(base), patch, &mut target, MAX_WINDOW_LOG)?;
    Ok(target)
}

fn whole(base: &[u8], target: &[u8], width: Option<Width>) -> Vec<Operation> {
    let length = base.len().min(target.len()) as u64;
    let regions = [Region { base: 0, target: 0, length, width }];
    plan(base, target, if length == 0 { &[] } else { &regions }).unwrap()
}

/// A patch of every algorithm, with small windows so that even short files have several blocks.
fn patches(base: &[u8], target: &[u8]) -> Vec<Vec<u8>> {
    let log = MIN_WINDOW_LOG;
    let mut all = vec![stored(base, target).unwrap(), full(base, target, log).unwrap(), patch_from(base, target, log).unwrap()];
    for width in [None, Some(Width::One), Some(Width::Two), Some(Width::Four)] {
        all.push(mapped(Algorithm::Tensors, base, target, &whole(base, target, width), log).unwrap());
    }
    let mut bytes = whole(base, target, Some(Width::One));
    bytes.iter_mut().filter(|step| step.kind == Kind::Copy).for_each(|step| step.kind = Kind::Add(Width::One));
    all.push(mapped(Algorithm::Bsdiff, base, target, &bytes, log).unwrap());
    all
}

fn similar() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..200);
    (any::<u64>(), 0..200_000_usize, 0..200_000_usize, 0..5_u8, edits).prop_map(|(seed, length, other, how, edits)| {
        let base = noise(seed, length);
        let mut target = match how {
            0 => base.clone(),
            1 => base[..length.min(other)].to_vec(),
            2 => [noise(seed ^ 77, other % 1_000), base.clone()].concat(),
            3 => noise(seed ^ 99, other),
            _ => vec![seed as u8; other],
        };
        for (at, byte) in edits {
            if !target.is_empty() {
                let at = at.index(target.len());
                target[at] = byte;
            }
        }
        (base, target)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_algorithm_makes_the_target_again((base, target) in similar()) {
        for patch in patches(&base, &target) {
            prop_assert!(applied(&base, &patch).unwrap() == target);
        }
    }

    #[test]
    fn a_damaged_patch_never_makes_a_wrong_file_silently(
        (base, target) in similar(), at: prop::sample::Index, near: bool, byte: u8, cut: prop::sample::Index,
    ) {
        for mut patch in patches(&base, &target) {
            // Half of the damage goes where lengths and places stand.
            let most = if near { patch.len().min(HEADER_BYTES + 120) } else { patch.len() };
            patch[at.index(most)] = byte;
            // Another base in the header is the only thing that the target does not show.
            if let Ok(made) = applied(&base, &patch) {
                prop_assert!(made == target);
            }
            let cut = cut.index(patch.len());
            if let Ok(made) = applied(&base, &patch[..cut]) {
                prop_assert!(made == target);
            }
        }
    }

    #[test]
    fn rows_of_zeros_come_out_again(length in 0..300_000_usize, others in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..50)) {
        let mut row = vec![0; length];
        for (at, byte) in others.iter().filter(|_| length > 0) {
            row[at.index(length)] = *byte;
        }
        if let Some(bytes) = sparse::encode(&row) {
            prop_assert_eq!(sparse::decode(&bytes, length), Some(row));
        }
    }

    #[test]
    fn operations_come_out_again(steps in prop::collection::vec((0..3_usize, 0..3_usize, 0..1_u64 << 40, 1..1_000_u64), 1..50)) {
        let widths = [Width::One, Width::Two, Width::Four];
        let steps: Vec<_> = steps.into_iter().map(|(kind, width, base, length)| {
            let width = widths[width];
            match kind {
                0 => Operation { kind: Kind::Copy, base, length },
                1 => Operation { kind: Kind::Literal(width), base: 0, length: length * 4 },
                _ => Operation { kind: Kind::Xor(width), base, length: length * 4 },
            }
        }).collect();
        let window = steps.iter().map(|step| step.length).sum();
        let bytes = operation::encode(&steps);
        prop_assert_eq!(operation::decode(&bytes, steps.len(), window, 1 << 41).unwrap(), steps.clone());
        prop_assert!(operation::decode(&bytes, steps.len(), window + 1, 1 << 41).is_err());
        prop_assert!(operation::decode(&bytes[..bytes.len() - 1], steps.len(), window, 1 << 41).is_err());
    }
}

#[test]
fn another_base_is_noticed() {
    let (base, target) = (noise(1, 100_000), noise(2, 100_000));
    let patch = mapped(Algorithm::Tensors, &base, &target, &whole(&base, &target, None), MAX_WINDOW_LOG).unwrap();
    assert!(matches!(applied(&base[1..], &patch), Err(DeltaError::Base { .. })));
    let patch = patch_from(&base, &[&base[..], b"more"].concat(), MAX_WINDOW_LOG).unwrap();
    let mut other = base.clone();
    other[50_000] ^= 1;
    assert!(matches!(applied(&other, &patch), Err(DeltaError::Mismatch { .. } | DeltaError::Malformed(_))));
}

#[test]
fn a_device_with_little_memory_refuses_a_large_window_before_it_takes_any() {
    let patch = full(b"", b"target", 23).unwrap();
    let refused = apply(Cursor::new(b""), &patch[..], Vec::new(), 20);
    assert!(matches!(refused, Err(DeltaError::Window { needed: 23, allowed: 20 })));
    let mut head = Header::decode(patch[..HEADER_BYTES].try_into().unwrap()).unwrap();
    head.target_size = u64::MAX;
    assert!(matches!(Header::decode(&head.encode()), Err(DeltaError::TooLarge(_))));
    head.window_log = 31;
    assert!(matches!(Header::decode(&head.encode()), Err(DeltaError::Malformed(_))));
}

#[test]
fn a_block_that_announces_gigabytes_is_refused() {
    let base = noise(3, 1_000);
    let head = Header {
        algorithm: Algorithm::Tensors,
        window_log: 16,
        base: Digest::of(&base),
        target: Digest::of(b""),
        base_size: 1_000,
        target_size: 1 << 32,
    };
    let announce = |words: &[u32]| {
        let mut patch = head.encode().to_vec();
        words.iter().for_each(|word| patch.extend_from_slice(&word.to_le_bytes()));
        applied(&base, &patch)
    };
    assert!(matches!(announce(&[u32::MAX, 1, 0]), Err(DeltaError::Malformed("a block that is not allowed"))));
    assert!(matches!(announce(&[1, u32::MAX, 0]), Err(DeltaError::Malformed("a block that is not allowed"))));
    assert!(matches!(announce(&[1 << 16, 1, 0x0000_0002, u32::MAX, u32::MAX]), Err(DeltaError::Malformed(_))));
}

#[test]
fn weights_that_moved_a_little_take_less_as_differences() {
    let old: Vec<f32> = noise(5, 400_000).chunks(4).map(|b| f32::from(b[0]) + f32::from(b[1]) / 256.0 + 1.0).collect();
    let new: Vec<f32> = old.iter().zip(noise(6, 100_000)).map(|(w, n)| w * (1.0 + f32::from(n) * 1e-6)).collect();
    let bytes = |weights: &[f32]| weights.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let (old, new) = (bytes(&old), bytes(&new));
    let delta = mapped(Algorithm::Tensors, &old, &new, &whole(&old, &new, None), MAX_WINDOW_LOG).unwrap();
    let full = full(&old, &new, MAX_WINDOW_LOG).unwrap();
    assert!(delta.len() * 10 < full.len() * 7, "{} of {}", delta.len(), full.len());
    assert_eq!(applied(&old, &delta).unwrap(), new);
}
