//! A bare relay as a yardstick: it passes bytes and looks at nothing. What it costs is what sockets cost; what Sluice costs above it is what
//! Sluice does.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// As long as Sluice's own.
const BUFFER: usize = 16 * 1024;
const BACKLOG: u32 = 4096;

/// Relays for ever: `bench --relay LISTEN SERVER THREADS`, each thread with a runtime and a listening socket of its own, as in Sluice.
///
/// # Errors
/// Wrong arguments, or the address is taken.
pub fn relay(args: &[String]) -> Result<()> {
    const USAGE: &str = "--relay LISTEN SERVER THREADS";
    let address = |at: usize| args.get(at).and_then(|text| text.parse::<SocketAddr>().ok()).context(USAGE);
    let (listen, server) = (address(0)?, address(1)?);
    let threads: usize = args.get(2).and_then(|text| text.parse().ok()).context(USAGE)?;
    let workers: Vec<_> = (0..threads).map(|_| std::thread::spawn(move || worker(listen, server))).collect();
    workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked"))))
}

fn worker(listen: SocketAddr, server: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.bind(listen)?;
        let listener = socket.listen(BACKLOG)?;
        loop {
            let (client, _) = listener.accept().await?;
            // Whichever side ends, both do.
            tokio::task::spawn_local(async move { _ = pass(client, server).await });
        }
    })
}

async fn pass(mut client: TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut up, mut down) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read? {
                0 => return Ok(()),
                n => server.write_all(&up[..n]).await?,
            },
            read = server.read(&mut down) => match read? {
                0 => return Ok(()),
                n => client.write_all(&down[..n]).await?,
            },
        }
    }
}
