//! Lists of values in a statement, `IN ($2, $3, …)`, in a few lengths only: each length is a statement of its own to prepare and
//! to keep. It must never make a statement longer than both databases take.

/// The lengths that lists have in statements.
const LENGTHS: [usize; 3] = [1, 8, 64];

/// Some values of a list, as many as one of the lengths.
pub(crate) struct Among(Vec<String>);

impl Among {
    /// `values` in pieces. The last value of a piece stands in it as often as its length asks for, which a set does not mind.
    pub(crate) fn of<T: ToString>(values: &[T]) -> impl Iterator<Item = Self> {
        values.chunks(LENGTHS[LENGTHS.len() - 1]).map(|some| {
            let length = LENGTHS.into_iter().find(|length| *length >= some.len()).unwrap_or(some.len());
            let mut texts: Vec<_> = some.iter().map(T::to_string).collect();
            texts.resize(length, texts[texts.len() - 1].clone());
            Self(texts)
        })
    }

    /// The places of the values, the first of them `$first`.
    pub(crate) fn places(&self, first: usize) -> String {
        (first..first + self.0.len()).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
    }
}

impl IntoIterator for Among {
    type Item = String;
    type IntoIter = std::vec::IntoIter<String>;

    /// The values to bind, in the order of their places.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_piece_and_the_pieces_have_few_lengths() {
        for count in [0usize, 1, 2, 8, 9, 63, 64, 65, 200] {
            let values: Vec<usize> = (0..count).collect();
            let pieces: Vec<Vec<String>> = Among::of(&values).map(|some| some.into_iter().collect()).collect();
            let all: std::collections::BTreeSet<&String> = pieces.iter().flatten().collect();
            assert_eq!(all.len(), count);
            assert!(pieces.iter().all(|piece| LENGTHS.contains(&piece.len())));
        }
        assert_eq!(Among::of(&["a", "b"]).map(|some| some.places(3)).collect::<Vec<_>>(), ["$3, $4, $5, $6, $7, $8, $9, $10"]);
    }
}
