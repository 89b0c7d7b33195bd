//! Makes the generated code: by a protobuf compiler in Rust, so that building needs no other tool.

use std::path::{Path, PathBuf};
use tonic_prost_build::FileDescriptorSet;

const PUBLIC: [&str; 9] =
    ["admin", "cluster", "errors", "groups", "log", "queue", "records", "schemas", "transactions"];

/// The contract's folder at the root of the repository.
pub fn proto_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto")
}

/// Where the checked-in code is.
pub fn generated() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated")
}

/// Writes everything into `out`.
pub fn generate(out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let public: Vec<String> = PUBLIC.iter().map(|name| format!("flotilla/v1/{name}.proto")).collect();
    let descriptors = protox::compile(&public, [proto_root()])?;
    std::fs::write(out.join("descriptors.bin"), protox_bytes(&descriptors))?;
    let mut all =
        protox::compile(public.iter().map(String::as_str).chain(["peer/v1/peer.proto"]), [proto_root()])?;
    read_records_as_bytes(&mut all);
    tonic_prost_build::configure().out_dir(out).bytes(".").build_transport(true).compile_fds(all)?;
    Ok(())
}

fn protox_bytes(set: &FileDescriptorSet) -> Vec<u8> {
    prost::Message::encode_to_vec(set)
}

/// A batch's body is sealed by its maker, so the server must keep its bytes: `records` becomes `bytes`,
/// which is the same on the wire.
fn read_records_as_bytes(set: &mut FileDescriptorSet) {
    let field = set
        .file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
        .filter(|message| message.name() == "RecordBatch")
        .flat_map(|message| &mut message.field)
        .find(|field| field.name() == "records")
        .expect("RecordBatch has a field named records");
    field.set_type(prost_types::field_descriptor_proto::Type::Bytes);
    field.type_name = None;
}
