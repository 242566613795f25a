//! What the proxy's clients have open at a server, for whoever replaces the master.

use std::sync::{Arc, Weak};

use crate::frontend::registry::ClientState;
use crate::frontend::shared::Shared;
use crate::monitor::Traffic;
use crate::topology::ServerId;

/// See the module. Weak, for the monitor is part of what it looks at.
pub struct ClientTraffic(Weak<Shared>);

impl ClientTraffic {
    /// The clients of this proxy.
    pub fn of(shared: &Arc<Shared>) -> ClientTraffic {
        ClientTraffic(Arc::downgrade(shared))
    }
}

impl Traffic for ClientTraffic {
    fn open_on(&self, server: ServerId) -> usize {
        let Some(shared) = self.0.upgrade() else { return 0 };
        shared.registry.count_where(|view| {
            view.writes && view.server == Some(server) && (view.state == ClientState::Active || view.pins.holds_up())
        })
    }

    fn end(&self, server: ServerId) {
        let Some(shared) = self.0.upgrade() else { return };
        if let Some(pool) = shared.pools.get(server.index()) {
            pool.close_idle(None);
            pool.sever();
        }
    }
}
