//! Replacing the master, between an operator, the monitor and the clients: what clients have open at a server, and commands with their steps.

use std::sync::{Arc, Weak};

use crate::admin::AdminError;
use crate::admin::house::{Command, StepRow};
use crate::frontend::registry::ClientState;
use crate::frontend::shared::Shared;
use crate::monitor::Traffic;
use crate::topology::ServerId;
use crate::topology::failover::{Order, StepDone};

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

    fn locks(&self, server: ServerId) -> Option<String> {
        let shared = self.0.upgrade()?;
        let held = shared.registry.count_where(|view| view.server == Some(server) && view.read_lock);
        (held > 0).then(|| format!("{held} of Sluice's clients hold a global read lock there (FLUSH TABLES WITH READ LOCK, BACKUP STAGE or LOCK INSTANCE)"))
    }

    fn end(&self, server: ServerId) {
        let Some(shared) = self.0.upgrade() else { return };
        if let Some(pool) = shared.pools.get(server.index()) {
            pool.close_idle(None);
            pool.sever();
        }
    }
}

/// A server by its name in the file.
///
/// # Errors
/// There is none, and which there are.
pub fn server_id(shared: &Shared, name: &str) -> Result<ServerId, AdminError> {
    let snapshot = shared.snapshot.load();
    snapshot.by_name(name).map(|s| s.id).ok_or_else(|| {
        let names: Vec<&str> = snapshot.current().map(|s| &*s.name).collect();
        AdminError::unknown_server(name, names)
    })
}

/// Has the monitor carry out `SWITCHOVER`, `FAILOVER` or `REJOIN`, and tells the steps.
///
/// # Errors
/// Why not, or what failed and what is so now.
pub async fn steps(shared: &Shared, command: Command) -> Result<Vec<StepRow>, AdminError> {
    let order = match command {
        Command::Switchover { to, dry_run } => Order::Switchover { to: server_id(shared, &to)?, dry_run },
        Command::Failover { to, force } => Order::Failover { to: server_id(shared, &to)?, force },
        Command::RejoinServer(server) => Order::Rejoin(server_id(shared, &server)?),
        other => return Err(AdminError::failed(format_args!("{other:?} has no steps"))),
    };
    let steps = shared.monitor.order(order).await.map_err(AdminError::failed)?;
    let row = |step: StepDone| StepRow {
        step: step.step.to_owned(),
        server: step.server.map(|id| shared.name(id).to_string()),
        took_ms: u64::try_from(step.took.as_millis()).unwrap_or(u64::MAX),
        detail: step.detail,
    };
    Ok(steps.into_iter().map(row).collect())
}
