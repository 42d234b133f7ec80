//! Inference with real models: answers, bad files, and the protocol over HTTP.
#![allow(clippy::unwrap_used)] // in a test, a failed unwrap is the failure to show

mod answers;
mod bad_files;
mod golden;
mod http;
mod self_test;
