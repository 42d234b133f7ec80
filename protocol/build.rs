//! Compiles the `.proto` contract into Rust with protox, so that no protoc is needed.

fn main() {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/link.proto"], ["proto"]).expect("the .proto files of this crate are valid");
    // The two ways make a grant four times as long as any other frame's body, and each frame would be as long in memory.
    let long = [".aidos.link.v1.ArtifactGrant.chunks", ".aidos.link.v1.ArtifactGrant.delta"];
    let mut config = prost_build::Config::new();
    long.into_iter()
        .fold(config.bytes(["."]), |config, path| config.boxed(path))
        .compile_fds(files)
        .expect("OUT_DIR is writable");
}
