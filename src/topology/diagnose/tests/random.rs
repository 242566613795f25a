//! Random histories from a seed.

use super::*;

/// Numbers from a seed (xorshift), so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Servers that crash, freeze, become read-only or both writable, observations lost and late, operators that drain: [`check`] holds at every step,
/// and a master that answers and is writable stays master.
#[test]
fn random_histories() {
    for seed in 1..=100 {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut world = World::new();
        let mut up = [true; 4];
        let mut writable = [true, false, false, false];
        let mut under_way: Vec<(u64, Observation)> = Vec::new();
        for step in 0..400_u64 {
            match dice.roll(60) {
                0 => up[dice.roll(4) as usize] ^= true,
                1 => writable[dice.roll(4) as usize] ^= true,
                2 => world.memory.set_override(
                    ServerId(dice.roll(4) as u16),
                    [Override::Online, Override::Online, Override::Drain, Override::Offline][dice.roll(4) as usize],
                ),
                3 => world.memory.forgive_stall(ms(dice.roll(400))),
                _ => {}
            }
            world.pass(dice.roll(300));
            if world.snapshot.writer().is_some() && dice.roll(4) > 0 {
                world.beat += 1;
                world.memory.beat_written(world.beat, world.now.mono);
            }
            for id in [A, B, R, S] {
                let n = id.index();
                let mut seen = facts(id, Some(if id == A { B } else { A }), writable[n]);
                seen.heartbeat =
                    [None, Some(Beat { run: RUN, number: world.beat.saturating_sub(dice.roll(40)) })][dice.roll(2) as usize];
                let outcome = match (up[n], dice.roll(8)) {
                    (true, 0) => Err([Failure::QueryTimeout, Failure::TooManyConnections, Failure::Auth(1045, "no".to_owned())]
                        [dice.roll(3) as usize]
                        .clone()),
                    (true, _) => Ok(seen),
                    (false, 0..=3) => Err(refused()),
                    (false, _) => Err(Failure::QueryTimeout),
                };
                if dice.roll(5) > 0 {
                    under_way.push((step + dice.roll(3), Observation::from_monitor(id, world.now.mono, world.now.mono, outcome)));
                }
            }
            let (arrived, later): (Vec<_>, Vec<_>) = under_way.into_iter().partition(|(at, _)| *at <= step);
            under_way = later;
            let before = world.snapshot.clone();
            world.diagnose(arrived.into_iter().map(|(_, o)| o).collect());
            if let Some(old) = before.master.filter(|old| world.snapshot.master != Some(*old)) {
                let view = world.snapshot.server(old).unwrap();
                let read_only = view.facts.as_ref().is_some_and(|f| !f.writable());
                let out = matches!(view.state, State::Down | State::Draining | State::Offline);
                assert!(read_only || out, "seed {seed} step {step}: {} lost the writes for nothing: {}", view.name, view.reason);
            }
            if let Some(new) = world.snapshot.master.filter(|new| before.master != Some(*new)) {
                let view = world.snapshot.server(new).unwrap();
                assert!(
                    view.state == State::Online && view.facts.as_ref().is_some_and(|f| f.writable()),
                    "seed {seed} step {step}"
                );
            }
        }
    }
}
