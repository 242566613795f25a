use super::super::Flavor;
use super::super::settings::ConfiguredRole;
use super::*;

const A: ServerId = ServerId(0);
const B: ServerId = ServerId(1);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn set(text: &str) -> GtidSet {
    GtidSet::parse(Flavor::MariaDb, text).unwrap()
}

fn settings() -> FailoverSettings {
    FailoverSettings { hold_timeout: ms(10_000), step_timeout: ms(500), max_lost_transactions: None, promote_replicas: true }
}

fn candidate(id: ServerId, applied: u64, received: u64) -> Candidate {
    let role = if id.0 < 2 { ConfiguredRole::Master } else { ConfiguredRole::Replica };
    Candidate { id, role, applied: set(&format!("0-1-{applied}")), received: set(&format!("0-1-{received}")), applier_ok: true }
}

#[test]
fn a_crash_from_hold_to_release() {
    let t = Instant::now();
    let mut machine = Failover::new(settings(), Some(A));
    assert_eq!(machine.step(Event::MasterLost { master: B, had: None }, t), [], "not the master");
    assert_eq!(machine.step(Event::MasterLost { master: A, had: Some(set("0-1-9")) }, t), [Action::Hold, Action::Fence(A)]);
    assert_eq!(machine.step_name(), "fence");
    assert_eq!(machine.step(Event::Fenced(A), t), [Action::AskPositions]);
    assert_eq!(
        machine.step(Event::Positions(vec![candidate(A, 9, 9), candidate(B, 5, 7)]), t),
        [],
        "two are left in the relay log"
    );
    assert_eq!(machine.step(Event::Tick, t), [Action::AskPositions]);
    let positions = vec![candidate(B, 7, 7), candidate(ServerId(2), 7, 7)];
    assert_eq!(machine.step(Event::Positions(positions), t), [Action::Promote(B)]);
    assert_eq!(
        machine.step(Event::Promoted(B), t),
        [Action::Release { master: B, lost: "0-1-8..9".to_owned() }, Action::Repoint { server: ServerId(2), to: B }]
    );
}

#[test]
fn with_zero_losses_allowed_a_lossy_promotion_is_refused() {
    let t = Instant::now();
    let mut machine = Failover::new(FailoverSettings { max_lost_transactions: Some(0), ..settings() }, Some(A));
    machine.step(Event::MasterLost { master: A, had: Some(set("0-1-9")) }, t);
    machine.step(Event::Fenced(A), t);
    let refused = machine.step(Event::Positions(vec![candidate(B, 8, 8)]), t);
    assert!(matches!(refused.as_slice(), [Action::GiveUp(why)] if why.contains("0-1-9")), "{refused:?}");
}

#[test]
fn a_frozen_master_is_fenced_when_it_wakes() {
    let t = Instant::now();
    let mut machine = Failover::new(settings(), Some(A));
    machine.step(Event::MasterLost { master: A, had: None }, t);
    assert_eq!(machine.step(Event::Tick, t + ms(500)), [Action::AskPositions]);
    machine.step(Event::Positions(vec![candidate(B, 1, 1)]), t + ms(510));
    machine.step(Event::Promoted(B), t + ms(520));
    assert_eq!(machine.step(Event::HeardWritable(A), t + ms(900)), [Action::Fence(A)]);
    machine.step(Event::Fenced(A), t + ms(910));
    assert_eq!(machine.step(Event::HeardWritable(B), t + ms(920)), [], "the master may be writable");
}

/// Servers behind a lossy link: actions and confirmations are lost or late. Checked at every step: writes are released to one server, only after it
/// became writable, and no server but the released one is writable for longer than it takes to hear it, unless it hangs.
#[test]
fn simulation() {
    for seed in 1..=2000_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut roll = |sides: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % sides
        };
        let mut now = Instant::now();
        let mut machine = Failover::new(settings(), Some(A));
        let mut writable = [true, false, false];
        let mut released = Some(A);
        let mut deaf_until = now;
        let mut to_servers: Vec<(Instant, Action)> = Vec::new();
        let mut to_machine: Vec<(Instant, Event)> = vec![(now, Event::MasterLost { master: A, had: Some(set("0-1-5")) })];
        if roll(2) == 0 {
            deaf_until = now + ms(roll(5000)); // the master hangs, and wakes
        }
        for _ in 0..400 {
            now += ms(50);
            let quiet = now > deaf_until + ms(12_000); // then the link is good, so that it ends
            let due: Vec<Action> = to_servers.extract_if(.., |(at, _)| *at <= now).map(|(_, a)| a).collect();
            for action in due {
                let answer = match action {
                    Action::Fence(s) if s == A && now < deaf_until => None,
                    Action::Fence(s) => {
                        writable[s.index()] = false;
                        Some(Event::Fenced(s))
                    }
                    Action::Promote(s) => {
                        writable[s.index()] = true;
                        Some(Event::Promoted(s))
                    }
                    Action::AskPositions => {
                        Some(Event::Positions(vec![candidate(B, 4 + roll(2), 5), candidate(ServerId(2), 5, 5)]))
                    }
                    _ => None,
                };
                if let Some(answer) = answer.filter(|_| quiet || roll(4) > 0) {
                    to_machine.push((now + ms(roll(300)), answer));
                }
            }
            for (n, up) in writable.iter().enumerate() {
                if *up && (n > 0 || now >= deaf_until) {
                    to_machine.push((now, Event::HeardWritable(ServerId(n as u16))));
                }
            }
            to_machine.push((now, Event::Tick));
            let due: Vec<Event> = to_machine.extract_if(.., |(at, _)| *at <= now).map(|(_, e)| e).collect();
            for event in due {
                for action in machine.step(event, now) {
                    match action {
                        Action::Hold => released = None,
                        Action::Release { master, .. } => {
                            assert_eq!(released, None, "seed {seed}: released twice");
                            released = Some(master);
                        }
                        Action::GiveUp(_) => {}
                        // The link keeps the order of what is sent to one server: each is a command on one connection.
                        action if quiet || roll(4) > 0 => to_servers.push((now + ms(50), action)),
                        _ => {}
                    }
                }
            }
        }
        let left: Vec<usize> = (0..3).filter(|n| writable[*n] && released != Some(ServerId(*n as u16))).collect();
        assert!(left.is_empty(), "seed {seed}: {left:?} stayed writable, released to {released:?}");
        assert_eq!(machine.step_name(), "idle", "seed {seed}: it always ends");
        if let Some(master) = released {
            assert!(writable[master.index()], "seed {seed}: released to a server that is not writable");
        }
    }
}
