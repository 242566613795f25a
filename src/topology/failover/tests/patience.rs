//! Single histories of survivors that have received more than they have applied, and of how long each is waited for.

use super::stories::*;
use super::*;

const C: ServerId = ServerId(2);

/// The master has died; db2 has so much of it left to apply, and db3 so much more.
fn backlogs(of_b: u64, of_c: u64) -> World {
    let mut world = running();
    let upto = |last: u64| (10..10 + last).fold(MySqlSet::default(), |all, number| all.union(&one_of_the_master(number)));
    (world.servers[1].relay, world.servers[2].relay) = (upto(of_b), upto(of_c));
    let ticket = crashed(&mut world);
    let answer = answers(&mut world, ticket);
    tell(&mut world, Some(answer));
    world
}

/// A server applies the next of what it has received.
fn apply_one(world: &mut World, n: usize) {
    let server = &mut world.servers[n];
    let next = some_of(&server.relay.subtract(&server.executed), 1);
    server.executed.merge(&next);
}

/// So many steps of half a second, before each of which something happens: the actions of the first that promotes or fetches, and its number.
fn until_it_goes_on(world: &mut World, steps: u64, mut before: impl FnMut(&mut World, u64)) -> Option<(u64, Action)> {
    (0..steps).find_map(|number| {
        before(world, number);
        world.now += ms(480);
        tell(world, Some(Event::Tick));
        let answer = newest(world);
        let goes_on = |action: &Action| matches!(action, Action::Promote { .. } | Action::Repoint { .. });
        step(world, answer).into_iter().find(goes_on).map(|action| (number, action))
    })
}

/// Harm: the peer was down to its last transaction, and a replica that applied hundreds more was measured by that: ten seconds later what it had was lost.
#[test]
fn each_survivor_is_measured_by_its_own_backlog() {
    let mut world = backlogs(4, 60);
    let done = until_it_goes_on(&mut world, 200, |world, _| (1..3).for_each(|n| apply_one(world, n)));
    assert!(matches!(done, Some((50.., Action::Repoint { server: B, to: C, .. }))), "{done:?}");
    // What comes while it applies is no halt either.
    let mut world = backlogs(3, 0);
    tell(&mut world, Some(Event::Order(7, Order::Failover { to: B, force: true })));
    let done = until_it_goes_on(&mut world, 200, |world, number| {
        if number == 2 {
            (20..70).for_each(|number| world.servers[1].relay.merge(&one_of_the_master(number)));
        }
        apply_one(world, 1);
    });
    assert!(matches!(done, Some((50.., Action::Promote { server: B, as_it_is: false, .. }))), "{done:?}");
}

/// Harm: one that applied nothing had cost all others the wait, too.
#[test]
fn one_that_applies_nothing_is_no_reason_not_to_wait_for_another() {
    let mut world = backlogs(0, 60);
    (10..40).for_each(|number| world.servers[3].relay.merge(&one_of_the_master(number)));
    let done = until_it_goes_on(&mut world, 200, |world, _| apply_one(world, 3));
    assert!(matches!(done, Some((25.., Action::Repoint { server: B, to: ServerId(3), .. }))), "{done:?}");
}

/// Harm: what another had been waited for in vain was held against the one that an operator ordered by force: what it was applying was thrown away at once.
#[test]
fn who_is_taken_by_force_has_its_own_time_to_apply() {
    let mut world = backlogs(2, 60);
    assert_eq!(until_it_goes_on(&mut world, 30, |_, _| ()), None, "nobody applies anything");
    tell(&mut world, Some(Event::Order(7, Order::Failover { to: B, force: true })));
    let done = until_it_goes_on(&mut world, 2, |_, _| ());
    assert!(matches!(done, Some((_, Action::Promote { server: B, as_it_is: true, .. }))), "it has had its time: {done:?}");

    for taken_before in [false, true] {
        let mut world = backlogs(2, 60);
        until_it_goes_on(&mut world, 30, |_, _| ());
        if taken_before {
            // It is ordered, and given up; its promotion is not begun before the other is ordered instead.
            world.servers[3].read_only = false;
            tell(&mut world, Some(Event::Order(7, Order::Failover { to: B, force: true })));
            world.now += ms(480);
            let answer = newest(&mut world);
            tell(&mut world, Some(answer));
        }
        tell(&mut world, Some(Event::Order(8, Order::Failover { to: C, force: true })));
        let done = until_it_goes_on(&mut world, 200, |world, _| apply_one(world, 2));
        assert!(matches!(done, Some((50.., Action::Promote { server: C, as_it_is: false, .. }))), "{taken_before}: {done:?}");
    }
}
