//! Says what the embedded migrations depend on.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
