//! The wire of dinhba: what is generated from the `.proto` files, and the descriptors for reflection.

/// Every message and service, encoded, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// What applications, operators and neighbour sites say to a node; the files below `proto/dinhba/v1` document it.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    /// The domain of the reasons in `google.rpc.ErrorInfo`, see `errors.proto`.
    pub const ERROR_DOMAIN: &str = "dinhba";

    /// What a [`Stale`] in the details of an error is called.
    pub const STALE_TYPE_URL: &str = "type.googleapis.com/dinhba.v1.Stale";

    tonic::include_proto!("dinhba.v1");
}

/// What the nodes of one site say to each other; the file `peer.proto` documents it.
#[allow(missing_docs, clippy::all)]
pub mod peer {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("dinhba.peer.v1");
    }
}

mod debug;
