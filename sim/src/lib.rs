//! dinhba.
