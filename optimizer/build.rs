//! Compiles the ONNX format's description into Rust with protox, so that no protoc is needed.

fn main() {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/onnx.proto"], ["proto"]).expect("the .proto file of this crate is valid");
    // `bytes`: weights stay slices of the file instead of being copied.
    prost_build::Config::new().bytes(["."]).compile_fds(files).expect("OUT_DIR is writable");
}
