//! The proxy's own SQL and HTTP.
pub mod nearest;
