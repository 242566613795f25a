//! The doors of the proxy: the sockets clients, operators and scrapers come in by. Bound here, or taken over from the process
//! that had them before.

use std::net::ToSocketAddrs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::admin::{self, Access, Bound, Closing, Standing};
use crate::config::Config;
use crate::config::address::Address;
use crate::frontend::listener::{self, Listener, Stays};
use crate::frontend::shared::Shared;
use crate::frontend::workers::Workers;
use crate::run::house::ProxyHouse;

/// A door on its way from one process to another.
#[derive(Debug)]
pub struct Door {
    /// Which it is: the room and the address as the configuration has it, `clients 0.0.0.0:3306`.
    pub name: String,
    /// The listening socket.
    pub socket: OwnedFd,
}

/// Doors that nobody stands at yet.
#[derive(Debug)]
pub struct Doors {
    clients: Vec<(Listener, String)>,
    admin: Option<(Bound, String)>,
    http: Option<(Bound, String)>,
}

impl Doors {
    /// Opens what the configuration names; a door that is in `taken` is that one. What of `taken` it does not name is closed.
    ///
    /// # Errors
    /// An address that cannot be bound, with what to do.
    pub async fn open(config: &Config, mut taken: Vec<Door>, stays: &Stays) -> Result<Doors, String> {
        let mut find = |name: &str| {
            let at = taken.iter().position(|door| door.name == name)?;
            Some(taken.swap_remove(at).socket)
        };
        let mut clients = Vec::new();
        for address in &config.proxy.listen {
            let name = format!("clients {address}");
            let listener = match find(&name) {
                Some(socket) => Listener::of_another(socket, path(address), stays)
                    .map_err(|e| format!("cannot go on listening on {address}: {e}"))?,
                None => bind(address, stays)?,
            };
            clients.push((listener, name));
        }
        let mut ports = Vec::new();
        for (address, room) in [(&config.admin.listen, "admin"), (&config.http.listen, "http")] {
            let Some(address) = address else {
                ports.push(None);
                continue;
            };
            let name = format!("{room} {address}");
            let bound = match find(&name) {
                Some(socket) => Bound::of_another(socket, path(address).is_some())
                    .map_err(|e| format!("cannot go on listening on {address}: {e}"))?,
                None => Bound::bind(&address.to_string(), &format!("{room}.listen")).await?,
            };
            ports.push(Some((bound, name)));
        }
        let http = ports.pop().flatten();
        Ok(Doors { clients, admin: ports.pop().flatten(), http })
    }

    /// All of them once more, for whoever takes over.
    ///
    /// # Errors
    /// Those of the system, when file descriptors have run out.
    pub fn copies(&self) -> std::io::Result<Vec<Door>> {
        let door = |name: &String, socket: std::io::Result<OwnedFd>| socket.map(|socket| Door { name: name.clone(), socket });
        let clients = self.clients.iter().map(|(listener, name)| door(name, listener.copy()));
        clients.chain(self.admin.iter().chain(&self.http).map(|(bound, name)| door(name, bound.copy()))).collect()
    }

    /// Lets people in.
    pub fn serve(self, staff: &Staff) -> Served {
        let mut served = Served { accepting: Vec::new(), ports: Vec::new(), standing: watch::channel(Standing::Serves).0 };
        served.open(self, staff);
        served
    }
}

/// Who stands at the doors.
#[derive(Clone)]
pub struct Staff {
    /// What clients share.
    pub shared: Arc<Shared>,
    /// The threads clients live on. They live as long as this does.
    pub workers: Arc<Workers>,
    /// The admin port's account.
    pub access: Arc<ArcSwap<Access>>,
    /// Whom the admin and HTTP ports ask.
    pub house: Arc<ProxyHouse>,
}

/// Doors that are served.
pub struct Served {
    accepting: Vec<(String, JoinHandle<()>)>,
    /// The admin and HTTP ports.
    ports: Vec<(String, JoinHandle<()>)>,
    standing: watch::Sender<Standing>,
}

impl Served {
    /// Serves these doors, too, or again: who came in by the ports before has stayed.
    pub fn open(&mut self, doors: Doors, staff: &Staff) {
        self.standing.send_replace(Standing::Serves);
        for (listener, name) in doors.clients {
            tracing::info!(address = name.trim_start_matches("clients "), "clients are served");
            let door = tokio::spawn(listener::serve(staff.shared.clone(), listener, staff.workers.clone()));
            self.accepting.push((name, door));
        }
        let told = Closing(self.standing.subscribe());
        if let Some((bound, name)) = doors.admin {
            tracing::info!(address = bound.address(), "admin port");
            let shared = staff.shared.clone();
            // Operators are no clients: `client_ca` is not for them. A certificate that was read again is for the next of them.
            let tls = Arc::new(move || shared.login.tls.load().without_client_ca().cloned());
            let port = admin::server::serve(bound, staff.access.clone(), tls, staff.house.clone(), told.clone());
            self.ports.push((name, tokio::spawn(port)));
        }
        if let Some((bound, name)) = doors.http {
            tracing::info!(address = bound.address(), "http port");
            self.ports.push((name, tokio::spawn(admin::http::serve(bound, staff.house.clone(), told))));
        }
    }

    /// No client is accepted any more when this has returned; those that are in stay. The other ports stay. The doors that could
    /// not be closed by then are returned.
    pub async fn close_to_clients(&mut self, deadline: Instant) -> Vec<String> {
        self.accepting.iter().for_each(|(_, door)| door.abort());
        // A socket is closed when its task is gone.
        gone(&mut self.accepting, deadline).await
    }

    /// Nobody is accepted at any door any more when this has returned; who is in stays. With the sockets kept elsewhere, whoever
    /// comes waits in them. The doors that could not be closed within `limit` are returned; nothing is lost when this is dropped
    /// before.
    pub async fn close(&mut self, limit: Duration) -> Vec<String> {
        let deadline = Instant::now() + limit;
        self.standing.send_replace(Standing::AcceptsNobody);
        let mut open = self.close_to_clients(deadline).await;
        open.extend(gone(&mut self.ports, deadline).await);
        open
    }

    /// Who came in by the ports is let go, since another process serves them.
    pub fn let_go(&self) {
        self.standing.send_replace(Standing::LetsGo);
    }
}

/// Waits until these doors are closed; those that are not by then are ended where they stand, and returned.
async fn gone(doors: &mut Vec<(String, JoinHandle<()>)>, deadline: Instant) -> Vec<String> {
    let mut open = Vec::new();
    while let Some((name, door)) = doors.last_mut() {
        if timeout_at(deadline, &mut *door).await.is_err() {
            door.abort();
            open.push(std::mem::take(name));
        }
        doors.pop();
    }
    open
}

fn path(address: &Address) -> Option<&Path> {
    match address {
        Address::Unix(path) => Some(path),
        Address::Tcp { .. } => None,
    }
}

fn bind(address: &Address, stays: &Stays) -> Result<Listener, String> {
    let explain = |e: std::io::Error| {
        format!("cannot listen on {address} (proxy.listen): {e}; stop what listens there or choose another address")
    };
    match address {
        Address::Unix(path) => Listener::unix(path, stays).map_err(explain),
        Address::Tcp { host, port } => {
            let socket = (host.as_str(), *port).to_socket_addrs().map_err(explain)?.next();
            let socket = socket.ok_or_else(|| explain(std::io::ErrorKind::NotFound.into()))?;
            Listener::tcp(socket).map_err(explain)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A door whose task does not end when it is told, and two that do.
    #[tokio::test]
    async fn a_door_that_does_not_close_holds_nobody_up() {
        let task = |name: &str, task: JoinHandle<()>| (name.to_owned(), task);
        let mut served = Served {
            accepting: vec![task("clients a", tokio::spawn(std::future::pending()))],
            ports: vec![task("admin b", tokio::spawn(async {})), task("http c", tokio::spawn(std::future::pending()))],
            standing: watch::channel(Standing::Serves).0,
        };
        // Given up on the way, as when a signal comes: what is open is known still.
        assert!(tokio::time::timeout(Duration::ZERO, served.close(Duration::from_secs(3600))).await.is_err());
        assert_eq!(served.ports.len(), 2);
        while !served.accepting.iter().all(|(_, door)| door.is_finished()) {
            tokio::task::yield_now().await;
        }
        assert_eq!(served.close(Duration::ZERO).await, ["http c"]);
        assert!(served.accepting.is_empty() && served.ports.is_empty());
        assert!(*served.standing.borrow() == Standing::AcceptsNobody);
    }
}
