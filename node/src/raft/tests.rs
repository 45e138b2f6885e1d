//! Groups over real sockets.
