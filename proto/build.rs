//! Compiles every `.proto` below `proto/` without a system `protoc`, and leaves the descriptors for gRPC reflection.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;

/// Where the descriptors go, below `OUT_DIR`; `FILE_DESCRIPTOR_SET` in `lib.rs` includes it.
const DESCRIPTORS: &str = "descriptors.bin";

/// What holds values of records, or bytes that do: `src/debug.rs` writes their `Debug`, with names and lengths only.
const SECRETIVE: [&str; 19] = [
    ".dinhba.v1.EditRequest",
    ".dinhba.v1.Part",
    ".dinhba.v1.FieldChange",
    ".dinhba.v1.Field",
    ".dinhba.v1.FieldValue",
    ".dinhba.v1.Conflict",
    ".dinhba.v1.FindRequest",
    ".dinhba.v1.Entry",
    ".dinhba.v1.JudgeRequest",
    ".dinhba.v1.Moved",
    ".dinhba.v1.Refused",
    ".dinhba.v1.BackupReply",
    ".dinhba.v1.LinkFrame",
    ".dinhba.peer.v1.App",
    ".dinhba.peer.v1.Entry",
    ".dinhba.peer.v1.AppendRequest",
    ".dinhba.peer.v1.SnapshotChunk",
    ".dinhba.peer.v1.ProposeRequest",
    ".dinhba.peer.v1.Proposed",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    find(root, &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [root])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join(DESCRIPTORS), descriptors.encode_to_vec())?;
    // Transports come boxed from the caller (see the client's `transport`), so no `connect` is generated.
    tonic_prost_build::configure().build_transport(false).skip_debug(SECRETIVE).compile_fds(descriptors)?;
    Ok(())
}

fn find(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
