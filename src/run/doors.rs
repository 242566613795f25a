//! The doors of the proxy: the sockets clients, operators and scrapers come in by. Bound here, or taken over from the process
//! that had them before.

use std::net::ToSocketAddrs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

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
    accepting: Vec<JoinHandle<()>>,
    /// The admin and HTTP ports.
    ports: Vec<JoinHandle<()>>,
    standing: watch::Sender<Standing>,
}

impl Served {
    /// Serves these doors, too, or again: who came in by the ports before has stayed.
    pub fn open(&mut self, doors: Doors, staff: &Staff) {
        self.standing.send_replace(Standing::Serves);
        for (listener, name) in doors.clients {
            tracing::info!(address = name.trim_start_matches("clients "), "clients are served");
            self.accepting.push(tokio::spawn(listener::serve(staff.shared.clone(), listener, staff.workers.clone())));
        }
        let told = Closing(self.standing.subscribe());
        if let Some((bound, _)) = doors.admin {
            tracing::info!(address = bound.address(), "admin port");
            let tls = staff.shared.login.tls.load().acceptor().cloned();
            let port = admin::server::serve(bound, staff.access.clone(), tls, staff.house.clone(), told.clone());
            self.ports.push(tokio::spawn(port));
        }
        if let Some((bound, _)) = doors.http {
            tracing::info!(address = bound.address(), "http port");
            self.ports.push(tokio::spawn(admin::http::serve(bound, staff.house.clone(), told)));
        }
    }

    /// No client is accepted any more when this has returned; those that are in stay. The other ports stay.
    pub async fn close_to_clients(&mut self) {
        for door in self.accepting.drain(..) {
            door.abort();
            // Its socket is closed when its task is gone.
            let _ = door.await;
        }
    }

    /// Nobody is accepted at any door any more when this has returned; who is in stays. With the sockets kept elsewhere, whoever
    /// comes waits in them.
    pub async fn close(&mut self) {
        self.standing.send_replace(Standing::AcceptsNobody);
        self.close_to_clients().await;
        for port in self.ports.drain(..) {
            let _ = port.await;
        }
    }

    /// Who came in by the ports is let go, since another process serves them.
    pub fn let_go(&self) {
        self.standing.send_replace(Standing::LetsGo);
    }
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
