//! HTTP range requests (RFC 9110 §14), as far as resumed downloads need them: one range of bytes. Pure.

use std::ops::Range;

/// What part of `size` bytes a request wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it, with status 200: no range, or one that a server may ignore.
    Whole,
    /// This part, with status 206; never empty.
    Part(Range<u64>),
    /// Nothing that exists, with status 416.
    Outside,
}

/// Reads the `Range` header. Several ranges, other units and malformed ones are ignored, as the standard allows.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|h| h.trim().strip_prefix("bytes=")) else { return Wanted::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    match (first.is_empty(), last.is_empty()) {
        (true, true) => Wanted::Whole,
        // The last so many bytes.
        (true, false) => match number(last) {
            Some(0) => Wanted::Outside,
            Some(_) if size == 0 => Wanted::Outside,
            Some(length) => Wanted::Part(size.saturating_sub(length)..size),
            None => Wanted::Whole,
        },
        (false, open) => match (number(first), if open { Some(u64::MAX) } else { number(last) }) {
            (Some(first), Some(last)) if first > last => Wanted::Whole,
            (Some(first), Some(_)) if first >= size => Wanted::Outside,
            (Some(first), Some(last)) => Wanted::Part(first..last.saturating_add(1).min(size)),
            _ => Wanted::Whole,
        },
    }
}

/// Whether `If-None-Match` or `If-Range` names the entity whose tag is `etag` (with its quotes). Content that is named by
/// its digest has strong tags, so a weak mark may be ignored.
pub(super) fn names(header: &str, etag: &str) -> bool {
    header.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == "*" || tag == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood_in_each_form() {
        for (header, part) in
            [("bytes=0-0", 0..1), ("bytes=2-", 2..10), ("bytes=-3", 7..10), ("bytes=4-99", 4..10), ("bytes=-99", 0..10)]
        {
            assert_eq!(wanted(Some(header), 10), Wanted::Part(part), "{header}");
        }
    }

    #[test]
    fn what_lies_outside_is_told_and_what_is_malformed_is_ignored() {
        for outside in ["bytes=10-", "bytes=99-100", "bytes=-0"] {
            assert_eq!(wanted(Some(outside), 10), Wanted::Outside, "{outside}");
        }
        for ignored in
            ["bytes=5-2", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "items=0-1", "bytes=+1-2", "", "bytes=99999999999999999999-"]
        {
            assert_eq!(wanted(Some(ignored), 10), Wanted::Whole, "{ignored}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Outside);
    }

    #[test]
    fn tags_are_found_in_lists() {
        assert!(names("\"a\", W/\"b\"", "\"b\"") && names("*", "\"b\"") && !names("\"a\"", "\"b\""));
    }
}
