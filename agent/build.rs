//! Puts the build's time into the program: the least that a device without a clock knows about the present.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    // Packagers who build reproducibly set this; it is then the time of the source.
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=build.rs");
    let fixed = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = fixed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
    println!("cargo::rustc-env=AIDOS_BUILT={seconds}");
}
