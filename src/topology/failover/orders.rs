//! What operators command: what is refused and why, and what a dry run says.

use std::time::{Duration, Instant};

use super::super::observation::ThreadState;
use super::super::{ConfiguredRole, Flavor, ServerId, State};
use super::case::{Case, Kind, StepDone};
use super::machine::{Machine, Phase};
use super::{Action, Mode, Order, OrderId, ms};

/// Reading and setting a variable, at most, for the estimates of a dry run.
const ROUND: Duration = Duration::from_millis(20);

impl Machine {
    pub(super) fn order(&mut self, id: OrderId, order: Order, now: Instant, actions: &mut Vec<Action>) {
        let refused = match order {
            Order::Switchover { to, dry_run: true } => {
                let plan = self.plan(to);
                actions.push(Action::Reply(id, plan));
                return;
            }
            _ if self.settings.mode == Mode::Off => Err("failover.mode is \"off\": the servers are never touched".to_owned()),
            Order::Rejoin(server) => {
                self.rejoin(id, server, actions);
                return;
            }
            Order::Switchover { to, .. } => self.refuse_switchover(to).map_or(Ok(()), Err),
            Order::Failover { to, force } => self.refuse_failover(to, force).map_or(Ok(()), Err),
        };
        if let Err(why) = refused {
            actions.push(Action::Reply(id, Err(why)));
            return;
        }
        match order {
            Order::Switchover { to, .. } => self.begin_switchover(id, to, now, actions),
            Order::Failover { to, force } => self.take_over(id, to, force, now, actions),
            Order::Rejoin(_) => {}
        }
    }

    /// Why this switchover cannot be; `None` when it can.
    pub(super) fn refuse_switchover(&self, to: ServerId) -> Option<String> {
        if !matches!(self.phase, Phase::Idle) {
            return Some(format!("the master is being replaced already ({}); SHOW EVENTS tells how far it is", self.phase_name()));
        }
        let Some(target) = self.view(to) else { return Some("there is no such server".to_owned()) };
        let name = &target.name;
        let Some(master) = self.seen.master() else {
            return Some(format!("there is no master to switch from; FAILOVER TO {name} makes one"));
        };
        if master.id == to {
            return Some(format!("{name} is the master already"));
        }
        if self.seen.writer().is_none() {
            return Some(format!("the master {} is {}: {}", master.name, master.state, master.reason));
        }
        if target.configured_role == ConfiguredRole::Replica && !self.settings.topology.promote_replicas {
            return Some(format!("{name} is a replica, and failover.promote_replicas is off"));
        }
        if target.state != State::Online {
            return Some(format!("{name} is {}: {}", target.state, target.reason));
        }
        if target.facts.as_ref().is_none_or(|facts| facts.gtid_executed.is_none()) {
            return Some(format!("{name} has no GTIDs"));
        }
        let Some(channel) = self.seen.channel(to, master.id) else {
            return Some(format!("{name} does not replicate from the master {}", master.name));
        };
        if channel.io_running != ThreadState::Running || channel.sql_running != ThreadState::Running {
            let error = if channel.last_io_error.is_empty() { &channel.last_sql_error } else { &channel.last_io_error };
            return Some(format!("replication from {} to {name} does not run {error}", master.name).trim_end().to_owned());
        }
        let lag = Duration::from_millis(target.lag_ms.unwrap_or(0));
        if lag > self.follow_limit() {
            return Some(format!("{name} is {} ms behind; writes would be held that long", ms(lag)));
        }
        None
    }

    /// Why this failover cannot be; `None` when it can.
    pub(super) fn refuse_failover(&self, to: ServerId, force: bool) -> Option<String> {
        if !matches!(self.phase, Phase::Idle | Phase::Doubt { .. } | Phase::Collect { .. } | Phase::Refused { .. }) {
            return Some(format!("the master is being replaced already ({}); SHOW EVENTS tells how far it is", self.phase_name()));
        }
        let Some(target) = self.view(to) else { return Some("there is no such server".to_owned()) };
        let name = &target.name;
        if self.seen.master == Some(to) && self.seen.writer().is_some() {
            return Some(format!("{name} is the master already"));
        }
        if let Some(master) = self.seen.writer().filter(|_| !force) {
            return Some(format!(
                "the master {} is alive: SWITCHOVER TO {name} moves the writes without a loss; FAILOVER TO {name} FORCE does not ask it",
                master.name
            ));
        }
        if matches!(target.state, State::Down | State::Draining | State::Offline) {
            return Some(format!("{name} is {}: {}", target.state, target.reason));
        }
        // Where no other is left, it has to be possible to go on with this one.
        if target.state == State::Quarantined && !force {
            return Some(format!("{name} is quarantined: {}; FAILOVER TO {name} FORCE takes it as it is", target.reason));
        }
        None
    }

    /// An operator's failover begins, or takes over the one that is under way.
    pub(super) fn take_over(&mut self, order: OrderId, to: ServerId, force: bool, now: Instant, actions: &mut Vec<Action>) {
        let with = |case: Case| Case { order: Some(order), target: Some(to), force, ..case };
        if let Phase::Doubt { case, .. } | Phase::Collect { case, .. } | Phase::Refused { case, .. } = &self.phase
            && let Some(earlier) = case.order
        {
            let text = format!("a later FAILOVER TO {} takes its place; SHOW EVENTS tells how far it is", self.name(to));
            actions.push(Action::Reply(earlier, Err(text)));
        }
        let old = self.seen.master.or(self.master).filter(|old| *old != to);
        let detail = format!("to {}, by an operator{}", self.name(to), if force { ", forced" } else { "" });
        actions.push(Action::Tell { kind: "failover", server: old, detail });
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Doubt { case, .. } if force => self.depose(with(case), now, actions),
            Phase::Doubt { case, ticket, until } => Phase::Doubt { case: with(case), ticket, until },
            Phase::Collect { case, .. } | Phase::Refused { case, .. } => self.ask_candidates(with(case), None, now, actions),
            _ => {
                let mut case = with(Case::new(Kind::Failover, old, "an operator's FAILOVER".to_owned(), now));
                case.had = old.and_then(|id| self.had(id));
                case.held = true;
                actions.push(Action::Hold { why: case.why.clone(), deposed: false });
                match old {
                    Some(_) if !force => self.ask_about(case, now, actions),
                    _ => self.depose(case, now, actions),
                }
            }
        };
    }

    /// `failover.mode` has become `off`: whatever has not begun to promote somebody ends, and who is master is read off the servers.
    pub(super) fn stand_down(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Doubt { case, .. } | Phase::Collect { case, .. } | Phase::Refused { case, .. } => {
                // Writes go to whoever is writable. One that is not becomes no master by being named.
                let first = || self.seen.servers.first().map(|view| view.id);
                match case.old.or(self.master).or_else(first) {
                    Some(old) => self.call_off(case, old, "is left as it is: failover.mode is \"off\" now", now, actions),
                    None => Phase::Idle,
                }
            }
            other => other,
        };
    }

    /// `REJOIN SERVER`.
    pub(super) fn rejoin(&mut self, order: OrderId, server: ServerId, actions: &mut Vec<Action>) {
        let result = match (self.view(server), self.seen.writer()) {
            (None, _) => Err("there is no such server".to_owned()),
            (_, None) => Err("there is no master to rejoin".to_owned()),
            (Some(view), Some(master)) => {
                let name = &view.name;
                let mariadb = view.facts.as_ref().is_some_and(|facts| facts.flavor == Flavor::MariaDb);
                match (view.state, &view.errant) {
                    _ if master.id == server => Err(format!("{name} is the master")),
                    (State::Down, _) => Err(format!("{name} is down: {}", view.reason)),
                    (State::Quarantined, Some(errant)) if mariadb => Err(format!(
                        "{name} still has {errant}, and MariaDB cannot replicate past transactions of its own: restore it from a copy of {}, or \
                         save what they did and on {name} run RESET MASTER and SET GLOBAL gtid_slave_pos to the position of {}; then REJOIN SERVER \
                         {name}",
                        master.name, master.name
                    )),
                    (State::Quarantined, errant) => Ok(match errant {
                        Some(errant) => format!("taken back with {errant}, which {} does not have", master.name),
                        None => format!("taken back: it has nothing any more that {} never saw", master.name),
                    }),
                    _ => Err(format!("{name} is not quarantined, it is {}: {}", view.state, view.reason)),
                }
            }
        };
        let result = result.map(|detail| {
            actions.push(Action::Accept(server));
            self.tending.depose(server);
            actions.push(Action::Tell { kind: "rejoin", server: Some(server), detail: format!("by an operator: {detail}") });
            vec![StepDone { step: "rejoin", server: Some(server), took: Duration::ZERO, detail }]
        });
        actions.push(Action::Reply(order, result));
    }

    /// What a switchover would do, and how long each step may take.
    pub(super) fn plan(&self, to: ServerId) -> Result<Vec<StepDone>, String> {
        if self.settings.mode == Mode::Off {
            return Err("failover.mode is \"off\": the servers are never touched".to_owned());
        }
        if let Some(why) = self.refuse_switchover(to) {
            return Err(why);
        }
        let (Some(master), Some(target)) = (self.seen.master(), self.view(to)) else { return Err("there is no master".to_owned()) };
        let step = |step, server: ServerId, took, detail: String| StepDone { step, server: Some(server), took, detail };
        let lag = Duration::from_millis(target.lag_ms.unwrap_or(0));
        let mut steps = vec![
            step("hold", master.id, Duration::ZERO, "new transactions wait".to_owned()),
            step(
                "drain",
                master.id,
                self.drain_limit(),
                "at most: open transactions end; SHOW CLIENTS tells which there are".to_owned(),
            ),
            step("fence", master.id, ROUND, "read_only on, writers beside this proxy ended".to_owned()),
            step("apply", to, lag + ROUND, "it applies what it has not yet".to_owned()),
            step("promote", to, ROUND, "read_only off".to_owned()),
            step("release", to, Duration::ZERO, "waiting statements run here".to_owned()),
        ];
        for view in self.seen.servers.iter().filter(|view| view.id != to && view.id != master.id) {
            if self.seen.channel(view.id, master.id).is_some() && self.seen.channel(view.id, to).is_none() {
                steps.push(step("repoint", view.id, ROUND, format!("replicates from {}; writes do not wait for it", target.name)));
            }
        }
        Ok(steps)
    }
}
