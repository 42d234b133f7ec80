use super::*;
use proptest::prelude::*;

/// Bytes without long repetitions, the same for the same seed.
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

fn rebuilt(recipe: &Recipe, packed: &[u8]) -> Vec<u8> {
    let piece = |(chunk, _, at): (Chunk, _, std::ops::Range<u64>)| unpack(&chunk, &packed[at.start as usize..at.end as usize]);
    recipe.places().flat_map(|place| piece(place).unwrap()).collect()
}

#[test]
fn an_insertion_changes_few_chunks() {
    let old = noise(1, 4 << 20);
    let mut new = old.clone();
    new.splice(1_000_000..1_000_000, noise(2, 1_000));
    let recipe = |bytes: &[u8]| pack(bytes, std::io::sink()).unwrap();
    let held: std::collections::HashSet<_> = recipe(&old).chunks().iter().map(|chunk| chunk.digest).collect();
    let new = recipe(&new);
    let missing = new.chunks().iter().filter(|chunk| !held.contains(&chunk.digest)).count();
    assert!(missing <= 4, "{missing} of {}", new.chunks().len());
}

#[test]
fn cut_points_are_the_same_for_ever() {
    let recipe = pack(&noise(7, 300_000)[..], std::io::sink()).unwrap();
    let lengths: Vec<_> = recipe.chunks().iter().map(|chunk| chunk.length).collect();
    assert_eq!(lengths, CUTS);
}
/// What fastcdc 5.0 cuts; another list means that the stores of a whole fleet lose their shared chunks.
const CUTS: &[u32] = &[48637, 35660, 43585, 46454, 42476, 43401, 39787];

#[test]
fn a_chunk_that_lies_is_refused() {
    let bytes = vec![7; 60_000];
    let mut packed = Vec::new();
    let recipe = pack(&bytes[..], &mut packed).unwrap();
    let chunk = recipe.chunks()[0];
    assert!(unpack(&chunk, &packed[..chunk.packed as usize]).is_ok());
    // Other bytes, too few of them, and a frame that grows beyond what a chunk may have.
    let other = zstd::bulk::compress(&[8; 60_000], 3).unwrap();
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    for bytes in [&other[..], &packed[..5], &bomb[..], &[]] {
        let packed = u32::try_from(bytes.len()).unwrap();
        assert_eq!(unpack(&Chunk { packed, ..chunk }, bytes), Err(UnpackError { expected: chunk.digest }));
    }
}

#[test]
fn hostile_lists_are_refused() {
    let chunk = Chunk { digest: Digest::of(b"a"), length: MIN_CHUNK_BYTES, packed: 10 };
    let list = |chunks| Recipe::new(Digest::of(b"whole"), Digest::of(b"packed"), chunks);
    assert!(list(vec![chunk; 3]).is_ok());
    assert!(matches!(list(vec![]), Err(RecipeError::Size { size: 0 })));
    for bad in [
        Chunk { length: 0, ..chunk },
        Chunk { length: MAX_CHUNK_BYTES + 1, ..chunk },
        Chunk { length: MIN_CHUNK_BYTES - 1, ..chunk },
        Chunk { packed: 0, ..chunk },
        Chunk { packed: MIN_CHUNK_BYTES + 1, ..chunk },
    ] {
        assert!(matches!(list(vec![chunk, bad, chunk]), Err(RecipeError::Chunk { index: 1, .. })));
    }
    let full = Chunk { length: MAX_CHUNK_BYTES, ..chunk };
    assert!(matches!(list(vec![full; MAX_CHUNKS / 2 + 10]), Err(RecipeError::Size { .. })));
    assert!(matches!(list(vec![chunk; MAX_CHUNKS + 1]), Err(RecipeError::Malformed(_))));
    let good = list(vec![chunk]).unwrap();
    assert!(good.clone().expect(&Digest::of(b"whole"), u64::from(MIN_CHUNK_BYTES)).is_ok());
    assert!(good.clone().expect(&Digest::of(b"whole"), 1).is_err());
    assert!(good.expect(&Digest::of(b"other"), u64::from(MIN_CHUNK_BYTES)).is_err());
}

#[test]
fn a_list_of_a_newer_version_says_so() {
    let mut bytes = pack(&[1; 10][..], std::io::sink()).unwrap().encode();
    bytes[4] = 9;
    assert_eq!(Recipe::decode(&bytes), Err(RecipeError::Version(9)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_packed_comes_out_again(seed: u64, length in 1..400_000_usize, run in 0..200_000_usize) {
        let mut bytes = noise(seed, length);
        let zeros = length.min(run);
        bytes[..zeros].fill(0);
        let mut packed = Vec::new();
        let recipe = pack(&bytes[..], &mut packed).unwrap();
        prop_assert_eq!(recipe.packed_size(), packed.len() as u64);
        prop_assert_eq!(recipe.object(), &Digest::of(&packed));
        prop_assert_eq!(recipe.artifact(), &Digest::of(&bytes));
        prop_assert_eq!(rebuilt(&recipe, &packed), bytes);
        prop_assert_eq!(Recipe::decode(&recipe.encode()), Ok(recipe));
    }

    #[test]
    fn damaged_lists_never_panic(seed: u64, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = pack(&noise(seed, 200_000)[..], std::io::sink()).unwrap().encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        drop(Recipe::decode(&bytes));
        prop_assert!(Recipe::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }
}
