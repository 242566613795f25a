use super::*;
use crate::cache::epoch::Epochs;
use crate::sql::classify::classify;
use crate::sql::lexer::LexMode;

fn gtid(text: &str) -> GtidSet {
    GtidSet::parse(Flavor::MariaDb, text).unwrap()
}

/// One proxy: what it knows of the table `t`, and of the master's log.
struct Proxy {
    epochs: Epochs,
    term: Term,
}

const SECOND: u64 = 1_000_000;

impl Proxy {
    fn new(at: Instant) -> Proxy {
        Proxy::following("db1", at, 0)
    }

    fn following(identity: &str, at: Instant, since_us: u64) -> Proxy {
        let term = Term::new(identity, Flavor::MariaDb, (1000 * SECOND, at), since_us);
        Proxy { epochs: Epochs::new(true), term }
    }

    fn granted(&self, now: Instant) -> crate::cache::epoch::Granted {
        self.epochs.ticket(&[self.epochs.cell(b"t", "t").unwrap()], now).unwrap()
    }

    /// The log tells of a change that can be seen.
    fn hears(&self, name: &str) {
        self.epochs.changed(&[self.epochs.cell(b"t", "t").unwrap()], Some(&gtid(name)));
        self.term.stands(&gtid(name));
    }

    fn entry(&self, ttl: u64, now: Instant) -> Entry {
        let statement = Arc::new(classify(b"SELECT a FROM t", LexMode::default()));
        let life = (now, now + Duration::from_secs(ttl));
        Entry::new(vec![7; 100].into(), 90, Status(2), 3, self.granted(now).ticket, life, statement)
    }

    fn puts(&self, now: Instant) -> Vec<u8> {
        write(&self.term, &self.term.stable().unwrap(), b"key", &self.entry(60, now), now).unwrap().0
    }

    fn takes(&self, bytes: &[u8], key: &[u8], ttl: u64, now: Instant) -> Result<Entry, Unfit> {
        let granted = self.granted(now);
        let statement = Arc::new(classify(b"SELECT a FROM t", LexMode::default()));
        let (demand, ticket) = (&granted.demand, &granted.ticket);
        let wanted = Wanted { term: &self.term, key, demand, ticket, ttl: Duration::from_secs(ttl), statement: &statement };
        judge(bytes, &wanted, now)
    }
}

#[test]
fn what_one_puts_there_another_takes_until_it_hears_of_a_change() {
    let now = Instant::now();
    let (a, b) = (Proxy::new(now), Proxy::new(now));
    a.hears("0-1-5");
    let bytes = a.puts(now);
    let entry = b.takes(&bytes, b"key", 60, now).unwrap();
    assert_eq!((entry.reply.len(), entry.status_at, entry.status, entry.rows), (100, 90, Status(2), 3));
    b.hears("0-1-5");
    assert!(b.takes(&bytes, b"key", 60, now).is_ok(), "the change was before it");
    b.hears("0-1-6");
    assert_eq!(b.takes(&bytes, b"key", 60, now).unwrap_err(), Unfit::Changed);
    // As soon as the first has heard of it too, what it reads is good again.
    a.hears("0-1-6");
    assert!(b.takes(&a.puts(now), b"key", 60, now).is_ok());
}

#[test]
fn an_own_write_and_one_without_a_name_void_what_is_there() {
    let now = Instant::now();
    let (a, b) = (Proxy::new(now), Proxy::new(now));
    a.hears("0-1-5");
    let bytes = a.puts(now);
    let cell = || smallvec::SmallVec::from_iter([b.epochs.cell(b"t", "t").unwrap()]);
    b.epochs.write(Some(cell()), now).end(&Need::Gtid(gtid("0-1-7")));
    assert_eq!(b.takes(&bytes, b"key", 60, now).unwrap_err(), Unfit::Changed);
    a.hears("0-1-7");
    let bytes = a.puts(now);
    assert!(b.takes(&bytes, b"key", 60, now).is_ok());
    // All servers have it; that says nothing of what is kept elsewhere.
    b.epochs.write(Some(cell()), now).end(&Need::Gtid(gtid("0-1-9")));
    b.epochs.sweep(now, &|_| true, None, Duration::ZERO, Duration::ZERO);
    assert_eq!(b.takes(&bytes, b"key", 60, now).unwrap_err(), Unfit::Changed);
    // Nobody knows its name: nothing is good until the master has said what it has, and then what is true up to there.
    b.epochs.write(Some(cell()), now).end(&Need::Master);
    a.hears("0-1-11");
    assert_eq!(b.takes(&a.puts(now), b"key", 60, now).unwrap_err(), Unfit::Changed);
    let settled = Duration::from_secs(3);
    let sweep = |after: u64, master: &str| {
        b.epochs.sweep(now + Duration::from_secs(after), &|_| true, Some(&gtid(master)), settled, Duration::ZERO);
    };
    sweep(0, "0-1-12");
    assert_eq!(b.takes(&a.puts(now), b"key", 60, now).unwrap_err(), Unfit::Changed);
    sweep(4, "0-1-12");
    assert_eq!(b.takes(&a.puts(now), b"key", 60, now).unwrap_err(), Unfit::Changed);
    a.hears("0-1-12");
    assert!(b.takes(&a.puts(now), b"key", 60, now).is_ok());
}

#[test]
fn without_a_store_nothing_is_remembered_and_nothing_is_good() {
    let epochs = Epochs::default();
    let cell = epochs.cell(b"t", "t").unwrap();
    assert_eq!(epochs.ticket(&[cell], Instant::now()).unwrap().demand, Need::Master);
}

#[test]
fn another_master_or_one_that_began_anew_is_another_history() {
    let now = Instant::now();
    let a = Proxy::new(now);
    a.hears("0-1-5");
    let bytes = a.puts(now + Duration::from_secs(10));
    let at = now + Duration::from_secs(20);
    for (identity, since, expected) in [
        ("db1", 1000 * SECOND, None),
        ("db1", 1010 * SECOND, None),
        ("db1", 1010 * SECOND + 1, Some(Unfit::History)),
        ("db2", 0, Some(Unfit::History)),
    ] {
        let b = Proxy::following(identity, now, since);
        assert_eq!(b.takes(&bytes, b"key", 60, at).err(), expected, "{identity} {since}");
    }
    assert_ne!(a.term.name(b"key"), Proxy::following("db2", now, 0).term.name(b"key"));
    assert!(a.term.name(b"key").len() < 250, "memcached takes no longer names");
}

#[test]
fn time_is_one_for_all_whoever_asked_the_master_when() {
    let now = Instant::now();
    let a = Proxy::new(now);
    a.hears("0-1-5");
    let bytes = a.puts(now + Duration::from_secs(10));
    // It has asked the same clock thirty seconds later, and its own began elsewhere.
    let b = Proxy { epochs: Epochs::new(true), term: Term::new("db1", Flavor::MariaDb, (1040 * SECOND, now), 0) };
    let entry = b.takes(&bytes, b"key", 60, now).unwrap();
    assert_eq!(entry.until - now, Duration::from_secs(30));
    assert_eq!(b.takes(&bytes, b"key", 40, now).unwrap().until - now, Duration::from_secs(10), "it lives shorter here");
    assert_eq!(b.takes(&bytes, b"key", 30, now).unwrap_err(), Unfit::Time);
    assert_eq!(b.takes(&bytes, b"key", 60, now + Duration::from_secs(30)).unwrap_err(), Unfit::Time);
    // Put there again it lives no longer, but is true now.
    let later = now + Duration::from_secs(20);
    let old = a.entry(60, now);
    let (again, left) = write(&a.term, &gtid("0-1-5"), b"key", &old, later).unwrap();
    assert_eq!(left, Duration::from_secs(40));
    let c = Proxy::following("db1", now, 1020 * SECOND);
    assert_eq!(c.takes(&again, b"key", 60, later).unwrap().until - later, Duration::from_secs(40));
    assert!(write(&a.term, &gtid("0-1-5"), b"key", &old, now + Duration::from_secs(60)).is_none());
}

#[test]
fn garbage_is_nothing() {
    let now = Instant::now();
    let a = Proxy::new(now);
    a.hears("0-1-5");
    let bytes = a.puts(now);
    assert_eq!(a.takes(&bytes, b"other", 60, now).unwrap_err(), Unfit::OtherKey);
    for cut in 0..bytes.len() {
        assert_eq!(a.takes(bytes.get(..cut).unwrap(), b"key", 60, now).unwrap_err(), Unfit::Garbage);
        let mut wrong = bytes.clone();
        wrong[cut] ^= 1;
        assert_eq!(a.takes(&wrong, b"key", 60, now).unwrap_err(), Unfit::Garbage, "{cut}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(a.takes(&longer, b"key", 60, now).unwrap_err(), Unfit::Garbage);
    // A right sum over lengths that lie.
    let mut body = bytes[36..].to_vec();
    let at = 32 + 8 * 5 + 2;
    body[at..at + 8].copy_from_slice(&(u64::MAX - 1).to_le_bytes());
    let lie = [&MARK[..], &sha256(&[&body]), &body].concat();
    assert_eq!(a.takes(&lie, b"key", 60, now).unwrap_err(), Unfit::Garbage);
}

/// Two proxies, each with the log of one master at its own pace, each writing through itself, in all orders of a few steps: whatever one
/// takes from the store has every write that it has heard of.
#[test]
fn whatever_the_order_nothing_is_taken_that_lacks_a_known_change() {
    #[derive(Clone, Copy, Debug)]
    enum Do {
        /// The proxy writes; its client hears of it at once.
        Write(usize),
        /// The proxy reads one more transaction of the log.
        Hear(usize),
        /// It reads from the master and puts it there.
        Fill(usize),
        /// It looks.
        Look(usize),
    }
    let all = [Do::Write(0), Do::Write(1), Do::Hear(0), Do::Hear(1), Do::Fill(0), Do::Fill(1), Do::Look(0), Do::Look(1)];
    let now = Instant::now();
    let (mut taken, mut refused) = (0u32, 0u32);
    for run in 0..8usize.pow(4) {
        let proxies = [Proxy::new(now), Proxy::new(now)];
        proxies.iter().for_each(|proxy| proxy.term.stands(&gtid("0-1-1")));
        let mut store: Option<Vec<u8>> = None;
        let (mut last, mut heard, mut knows) = (1u64, [1u64; 2], [1u64; 2]);
        let steps = (0..4).map(|place| all[run / 8usize.pow(place) % 8]);
        for step in steps.chain([Do::Look(0)]) {
            match step {
                Do::Write(p) => {
                    last += 1;
                    let proxy = &proxies[p];
                    let cells = smallvec::SmallVec::from_iter([proxy.epochs.cell(b"t", "t").unwrap()]);
                    proxy.epochs.write(Some(cells), now).end(&Need::Gtid(gtid(&format!("0-1-{last}"))));
                    knows[p] = last;
                }
                Do::Hear(p) if heard[p] < last => {
                    heard[p] += 1;
                    proxies[p].hears(&format!("0-1-{}", heard[p]));
                    knows[p] = knows[p].max(heard[p]);
                }
                Do::Fill(p) => {
                    let mut entry = proxies[p].entry(60, now);
                    entry.rows = last;
                    let stable = proxies[p].term.stable().unwrap();
                    store = write(&proxies[p].term, &stable, b"key", &entry, now).map(|(bytes, _)| bytes);
                }
                Do::Look(p) => {
                    let Some(bytes) = &store else { continue };
                    match proxies[p].takes(bytes, b"key", 60, now) {
                        Ok(entry) => {
                            taken += 1;
                            assert!(entry.rows >= knows[p], "run {run}: {} where {} is known", entry.rows, knows[p]);
                        }
                        Err(_) => refused += 1,
                    }
                }
                Do::Hear(_) => {}
            }
        }
    }
    assert!(taken > 500 && refused > 500, "{taken} {refused}");
}
