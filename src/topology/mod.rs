//! Servers, GTIDs, diagnosis: what the observations of the monitor mean.

pub mod flavor;
pub mod gtid;
pub mod server;

pub use flavor::Flavor;
pub use gtid::{GtidError, GtidSet};
pub use server::{Role, ServerId, State};
