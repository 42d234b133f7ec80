//! End-to-end tests, one file per story, with the real binaries.

mod floors;
