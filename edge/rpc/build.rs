//! Generates the service stubs of the .proto files in `proto`, which has the messages themselves.
//! Writes their descriptors, too. Needs no protoc.
use prost::Message as _;
use std::path::Path;

const DIR: &str = "../../core/proto/proto";
const FILES: [&str; 4] = ["health.proto", "rpc.proto", "v3election.proto", "v3lock.proto"];
/// Each protobuf package and the module of `proto` that holds its messages.
const PACKAGES: [(&str, &str); 6] = [
    (".authpb", "::proto::authpb"),
    (".etcdserverpb", "::proto::etcdserverpb"),
    (".grpc.health.v1", "::proto::healthpb"),
    (".mvccpb", "::proto::mvccpb"),
    (".v3electionpb", "::proto::v3electionpb"),
    (".v3lockpb", "::proto::v3lockpb"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={DIR}");
    let descriptors = protox::compile(FILES.map(|file| Path::new(DIR).join(file)), [DIR])?;
    let mut builder = tonic_prost_build::configure().build_client(true).build_server(true);
    for (package, module) in PACKAGES {
        builder = builder.extern_path(package, module);
    }
    let out = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    std::fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    builder.compile_fds(descriptors)?;
    Ok(())
}
