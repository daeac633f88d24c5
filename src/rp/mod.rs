//! rp
