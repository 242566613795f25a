//! `mute-successor SOCKET [WORD]`: a new process of an upgrade that never serves, for the tests. It asks at the socket for the doors, is given the
//! clients, puts a socket of its own in the place of the old one's, and then says WORD, or nothing.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Longer than any test waits for it.
const STAYS: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().context("usage: mute-successor SOCKET [WORD]")?;
    let word = args.next().unwrap_or_default();
    let mut old = UnixStream::connect(&path)?;
    old.write_all(b"sluice-upgrade 1 0.0.0\nready\n")?;
    let mut given = false;
    for line in BufReader::new(old.try_clone()?).lines() {
        if line?.starts_with("yours ") {
            given = true;
            break;
        }
    }
    ensure!(given, "it was given nothing");
    let beside = format!("{path}.mute");
    let _own = UnixListener::bind(&beside)?;
    std::fs::rename(&beside, &path)?;
    eprintln!("was given the clients");
    if !word.is_empty() {
        old.write_all(format!("{word}\n").as_bytes())?;
    }
    std::thread::sleep(STAYS);
    Ok(())
}
