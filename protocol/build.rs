//! Compiles the `.proto` contract into Rust with protox, so that no protoc is needed.

fn main() {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/link.proto"], ["proto"]).expect("the .proto files of this crate are valid");
    prost_build::Config::new().bytes(["."]).compile_fds(files).expect("OUT_DIR is writable");
}
