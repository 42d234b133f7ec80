//! Which target paths a delegation covers.

use sha2::{Digest as _, Sha256};

/// Whether `path` matches the shell-style `pattern`: `*` and `?` stay within one part between slashes, and nothing else is
/// special, so that a pattern of a richer dialect covers less here, never more.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if part_matches(pattern, part) => {}
            _ => return false,
        }
    }
}

/// Remembers only the last star, so that the time is at most the product of both lengths.
fn part_matches(pattern: &str, part: &str) -> bool {
    let (pattern, part): (Vec<char>, Vec<char>) = (pattern.chars().collect(), part.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < part.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == part[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Whether the SHA-256 of `path`, in hexadecimal digits, begins with `prefix`.
pub(super) fn hash_begins(prefix: &str, path: &str) -> bool {
    hex::encode(Sha256::digest(path.as_bytes())).starts_with(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stays_within_its_part() {
        for (pattern, path, expected) in [
            ("*", "a", true),
            ("*", "a/b", false),
            ("models/*/*", "models/digits/2", true),
            ("models/*/*", "models/digits", false),
            ("foo-?.tgz", "foo-1.tgz", true),
            ("foo-?.tgz", "foo-10.tgz", false),
            ("*.md", "README.MD", false),
            ("a*b*c", "aXbbXbc", true),
            ("a*b*c", "aXbbXb", false),
            ("", "", true),
            ("[a-z]", "b", false),
            ("é?", "éß", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn a_hash_prefix_takes_its_share_of_paths() {
        assert!(hash_begins("", "a"));
        assert!(hash_begins("ca97", "a"));
        assert!(!hash_begins("ca98", "a"));
    }

    proptest! {
        #[test]
        fn a_path_matches_itself_and_its_question_marks(path in "[a-z/.]{0,20}") {
            prop_assert!(matches(&path, &path));
            let marks: String = path.chars().map(|c| if c == '/' { '/' } else { '?' }).collect();
            prop_assert!(matches(&marks, &path));
            let stars: Vec<&str> = path.split('/').map(|_| "*").collect();
            prop_assert!(matches(&stars.join("/"), &path));
        }
    }
}
