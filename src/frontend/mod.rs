//! Clients: accepting them, logging them in, serving them.

pub mod login;
pub mod tls;

pub use login::{LoggedIn, LoginError, LoginRoom};
