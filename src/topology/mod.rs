//! Servers, GTIDs, diagnosis: what the observations of the monitor mean.
//!
//! The way of a heartbeat: the monitor asks a server and makes an [`Observation`]; [`diagnose()`] takes it into its [`Memory`] and judges all servers
//! anew; the [`Snapshot`] that comes out is what every statement is routed by, and the [`Change`]s are what operators read.
//!
//! Of the pure rooms this one may index and `expect`: its tables are made of the configured servers, and an index is the id of one of them.

pub mod candidate;
pub mod diagnose;
pub mod diagnosis;
pub mod errant;
pub mod failover;
pub mod flavor;
pub mod gtid;
pub mod known;
pub mod lag;
pub mod memory;
pub mod observation;
pub mod server;
pub mod settings;
pub mod snapshot;
pub mod source;

pub use diagnose::diagnose;
pub use diagnosis::{Change, ChangeKind, Diagnosis, Standing};
pub use errant::{Errant, errant, has_more, lacks_of, on_its_way, outranks};
pub use flavor::Flavor;
pub use gtid::{GtidError, GtidSet};
pub use known::KnownGtids;
pub use memory::{Hold, Memory, Override};
pub use observation::{Facts, Failure, Moment, Observation, Witness};
pub use server::{Role, ServerId, State};
pub use settings::{ConfiguredRole, ConfiguredServer, Settings};
pub use snapshot::{NoMaster, ServerView, Snapshot};
