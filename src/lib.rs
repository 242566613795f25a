//! Sluice: a MySQL-protocol proxy. One address in front of a pair of master-master servers and their replicas.
//!
//! # The house
//!
//! Rooms in reading order. A room uses rooms above it, never one below; `tests/tidy.rs` holds that.
//!
//! ```text
//!  protocol   bytes: frames, packets, handshake, where a reply ends       DECIDE (pure)
//!  sql        text: lexer, digest, what a statement is and does           no socket, no .await, no clock,
//!  auth       challenges and answers, the login as a machine              no randomness, no metrics:
//!  topology   servers, GTIDs, what the monitor's observations mean,       all of these are arguments
//!             failover, switchover and rejoin as one machine
//!  binlog     what a server's binary log says has changed, by table
//!  session    one client's state: what it set, what pins it
//!  routing    statement + session + servers -> Decision with its Reason
//!  cache      may a result be kept, and until when is it true; what does a write void; the memory
//!  ------------------------------ below this line things may await ------------------------------
//!  clock      the one place that reads the wall clock for logs and tables  DO (I/O)
//!  metrics    counters, statement statistics, the log of events, spans
//!  net        a socket, on epoll or io_uring (the package `ring/`, which has all unsafe code), plain, TLS or compressed; the buffer to
//!             read it with, whose thread it belongs to, and that thread's tasks
//!  stores     Redis or memcached, where several proxies keep the cache's results in one place
//!  backend    logging in at servers, connections, their pools, KILL
//!  monitor    heartbeats; feeds topology and publishes its snapshot; carries out what topology::failover says
//!             follows the master's binlog for the cache
//!  frontend   clients: accept, log in, one loop each, one statement at a time
//!  admin      the proxy's own SQL and HTTP ports
//!  config     the file, its mistakes, its translation into each room's settings
//!  cli        the command line
//!  run        parts wired together: the running proxy, and how it hands its sockets over to a new one
//! ```
//!
//! # The way of one query
//!
//! ```text
//! frontend::listener   accepts on the main thread, and hands the socket to
//! frontend::workers    a thread for each core; a client stays on its own, with a connection of that thread where there is one;
//!                      net::tasks runs them where the thread has a net::ring, which sends and receives for all of them when nothing
//!                      else is to be done
//! frontend::login      drives auth::exchange: greeting, TLS, challenge; a server is asked about users not known yet
//! frontend::enter      the account's key in the pools, the session's first state, its schema tried at a server
//! frontend::client     waits without a buffer; bytes -> protocol::frame -> a command
//! frontend::query      drives the steps, with the statement as a frontend::job
//!                   1  frontend::reading, sql::classify       what is it: by its text but for literals, else by digest, else
//!                                                             read and remembered
//!                   2  session::machine                       where do we stand, pinned why
//!                   3  routing::rules                         what the operator says
//!                   4  frontend::cached                       is it kept: answered; is it to be kept: noted, and fetched for all
//!                      frontend::shared_cache                 has another proxy kept it in the store that they share
//!                   5  frontend::place, routing::decide       where does it go, and why
//!                   6  frontend::place, backend::pool         a connection, the one in the right state if there is one
//!                      frontend::admit                        is its server still the one to write to
//!                      frontend::changed                      what it may change is void for the cache, now and before step 10
//!                   7  frontend::send, backend::connection    what differs is restored along with the statement; sent
//!                   8  frontend::relay                        the reply goes through protocol::reply to the client
//!                   9  frontend::learn, session::machine,     learned from OK: status, GTID, variables, pins; warnings and counts
//!                      session::leftover
//!                      frontend::questions                    what lives on the connection alone is asked for before others have it
//!                  10  frontend::count                        metrics, statistics; connection given back or kept
//! ```
//! Prepared statements come in by `frontend::prepared` and take the same way, and so do long commands, which `frontend::long` judges by their
//! beginning and `frontend::upload` sends on piece by piece.
//! What asks for what the statement before has left is answered by `frontend::ask`, and a text that only begins so by `frontend::ask_first`, without a
//! server. A client without `DEPRECATE_EOF` gets its EOF packets at step 8, by `protocol::reply::old_eof`.
//! The last piece of a reply is written after its connection went back to the pool. On a ring, writing a short one means that it goes out, with those
//! of the other clients, when the thread has come to rest.
//!
//! # Words
//!
//! *client*: who connects to us. *session*: what the client has built up since it logged in. *statement*: one command that a
//! server may have to run. *server*: one mysqld or mariadbd. *connection*: one socket to a server. *pool*: a server's
//! connections. *master*: the one server that takes writes; *standby*: its peer; *replica*: the others. *pin*: why a session
//! must stay on its connection. *digest*: a statement with its literals taken out. *snapshot*: the servers as they are now.

pub mod auth;
pub mod binlog;
pub mod cache;
pub mod protocol;
pub mod routing;
pub mod session;
pub mod sql;
pub mod topology;

pub mod admin;
pub mod backend;
pub mod cli;
pub mod clock;
pub mod config;
pub mod frontend;
pub mod metrics;
pub mod monitor;
pub mod net;
pub mod run;
pub mod stores;
