//! From a master that is given up to the next one: collect what the survivors have, let the best apply and fetch the rest, promote it.

use std::time::{Duration, Instant};

use super::super::observation::{ReplicaChannel, ThreadState};
use super::super::snapshot::ServerView;
use super::super::{ConfiguredRole, Facts, ServerId, State, outranks};
use super::case::{Case, CatchingUp, Waited};
use super::choose::{Choice, choose};
use super::machine::{Machine, OUTCOME_LIMIT, Phase, outcome_of};
use super::{Action, Answer, Event, Kind, Outcome, Ticket};

/// Between two questions while a relay log is being applied.
const ASK_AGAIN: Duration = Duration::from_millis(15);
/// Between two questions while there is nobody to choose.
const NOBODY_AGAIN: Duration = Duration::from_millis(250);
/// A promotion that was refused is thought over again.
const REFUSED_AGAIN: Duration = Duration::from_secs(1);
/// A fence that does not come about is sent again this often, where a promotion may have come about.
const FENCES_MAX: u32 = 4;
/// How long a candidate may take to fetch from another survivor what that one has more.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(5);
/// And how long to receive the rest from a master that cannot write.
const REST_LIMIT: Duration = Duration::from_millis(250);
/// How long another survivor may apply nothing of what it has received and the candidate has not: as long as the servers' own limit for a commit that
/// nobody acknowledges (`rpl_semi_sync_*_timeout`), which may be what it waits for.
const WAIT_LIMIT: Duration = Duration::from_secs(10);
/// And how often fetching is begun, before what is missing counts as lost.
const CATCH_UPS_MAX: u32 = 5;

/// What a server answered.
fn said(answers: &[Answer], id: ServerId) -> Option<&Facts> {
    answers.iter().find(|(of, _)| *of == id).and_then(|(_, answer)| answer.as_ref().ok())
}

impl Machine {
    /// Asks the survivors what they have. The old master is asked too, but not waited for.
    pub(super) fn ask_candidates(
        &mut self,
        case: Case,
        catching_up: Option<CatchingUp>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Phase {
        let ticket = self.ticket();
        actions.push(Action::Ask { ticket, unless: case.old, probe: None, spare: Vec::new(), write: None });
        Phase::Collect { case, ticket: Some(ticket), until: now + OUTCOME_LIMIT, catching_up }
    }

    pub(super) fn collect(
        &mut self,
        mut case: Case,
        ticket: Option<Ticket>,
        until: Instant,
        mut catching_up: Option<CatchingUp>,
        event: &Event,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Phase {
        if let Some(fetch) = &mut catching_up
            && let Event::Done(of, Outcome::Acted(result)) = event
            && fetch.ticket == Some(*of)
        {
            (fetch.ticket, fetch.early) = (None, ticket);
            if let Err(why) = result {
                // Begun anew with the next answers.
                (fetch.until, case.fetched_from) = (now, None);
                let detail = format!("catch_up: {} cannot fetch from {}: {why}", self.name(fetch.whom), self.name(fetch.from));
                actions.push(Action::Tell { kind: "failover", server: Some(fetch.whom), detail });
            }
        }
        let answers = match event {
            Event::Done(of, Outcome::Answers { answers, .. }) if Some(*of) == ticket => answers,
            _ if now >= until => return self.ask_candidates(case, catching_up, now, actions),
            _ => return Phase::Collect { case, ticket, until, catching_up },
        };
        // It has started anew since: what hung there is over, and it may be writable again.
        case.blocked &= case.old.and_then(|old| said(answers, old)).is_none_or(|facts| facts.restarts == self.restarts);
        let writable: Vec<_> = answers
            .iter()
            .filter_map(|(id, outcome)| outcome.as_ref().ok().filter(|facts| facts.writable()).map(|facts| (*id, facts)))
            // A replica that somebody made writable is none of our masters.
            .filter(|(id, _)| {
                let peer = self.view(*id).is_some_and(|view| view.configured_role == ConfiguredRole::Master);
                peer || case.old == Some(*id) || self.settings.topology.promote_replicas || self.master == Some(*id)
            })
            .collect();
        let outranked: Vec<ServerId> = match case.old {
            None => writable.iter().filter(|(id, facts)| self.is_outranked(*id, facts, answers)).map(|(id, _)| *id).collect(),
            Some(_) => Vec::new(),
        };
        // After the start: somebody is master already. Who is writable beside it is fenced then.
        let masters: Vec<ServerId> = writable.iter().map(|(id, _)| *id).filter(|id| !outranked.contains(id)).collect();
        if case.old.is_none()
            && case.failed.is_empty()
            && let [only] = masters.as_slice()
            && self.view(*only).is_none_or(|view| view.state != State::Quarantined)
        {
            return self.call_off(case, *only, "is writable", now, actions);
        }
        // Right after the start nobody knows who was master. Whom those that answer replicate from, and who does not answer, has no other's opinion yet.
        if (case.old, self.master, case.order) == (None, None, None)
            && case.failed.is_empty()
            && masters.is_empty()
            && let Some(source) = self.silent_source(answers)
        {
            (case.old, case.had) = (Some(source), self.had(source));
            return self.ask_about(case, now, actions);
        }
        for (id, _) in answers.iter().filter(|(id, answer)| answer.is_ok() && case.old != Some(*id)) {
            if !case.let_commit.contains(id) {
                case.let_commit.push(*id);
                actions.push(Action::LetCommit(*id));
            }
        }
        // Somebody else has made it master, and only this answer of it is missing: nobody is promoted beside it before it is down.
        let silent = |id: ServerId| answers.iter().any(|(of, answer)| *of == id && answer.is_err());
        if case.old.is_none() && case.failed.is_empty() && !case.force && self.adoptable().is_some_and(silent) {
            return Phase::Collect { case, ticket: None, until: now + NOBODY_AGAIN, catching_up };
        }
        let again = |wait: Duration, case: Case, catching_up| Phase::Collect { case, ticket: None, until: now + wait, catching_up };
        let promote_replicas = self.settings.topology.promote_replicas;
        match choose(&self.seen, &case, answers, &outranked, promote_replicas) {
            Choice::Nobody(why) => {
                let text = format!("nobody can take over: {why}");
                if case.told != text {
                    actions.push(Action::Tell { kind: "failover", server: case.old, detail: text.clone() });
                    case.told = text;
                }
                // Whoever failed may be the only one there is: it gets another try. And so does a master that cannot write.
                case.failed.clear();
                case.blocked = false;
                // What it fetches from another survivor cannot be applied there: it is not waited for any longer.
                let fails = |fetch: CatchingUp| {
                    let facts = answers.iter().find(|(id, _)| *id == fetch.whom).and_then(|(_, answer)| answer.as_ref().ok());
                    facts.is_some_and(|facts| self.seen.own_channels(facts).any(|channel| !channel.last_sql_error.is_empty()))
                };
                case.no_catch_up |= catching_up.is_some_and(fails);
                again(NOBODY_AGAIN, case, catching_up)
            }
            Choice::Applying(whom) if self.goes_on(&mut case, answers, whom, now) => {
                self.applies(whom, true, case, catching_up, now, actions)
            }
            Choice::Applying(whom) if case.force && case.target == Some(whom) => {
                case.stands_still = Some(whom);
                self.ask_candidates(case, None, now, actions)
            }
            Choice::Applying(whom) => self.applies(whom, false, case, catching_up, now, actions),
            Choice::WaitFor(whom) if self.goes_on(&mut case, answers, whom, now) => {
                self.applies(whom, true, case, catching_up, now, actions)
            }
            Choice::WaitFor(whom) => {
                case.no_wait.push(whom);
                let detail = "apply: it has received more and applies nothing of it; it is not waited for any longer".to_owned();
                actions.push(Action::Tell { kind: "failover", server: Some(whom), detail });
                self.ask_candidates(case, catching_up, now, actions)
            }
            Choice::Rest(whom) => {
                let limit = *case.rest_until.get_or_insert(now + REST_LIMIT);
                case.no_rest = now >= limit;
                if case.no_rest {
                    self.ask_candidates(case, None, now, actions)
                } else {
                    self.applies(whom, true, case, catching_up, now, actions)
                }
            }
            Choice::CatchUp { whom, from } => match catching_up.filter(|fetch| fetch.whom == whom && fetch.from == from) {
                Some(fetch) if now < fetch.until && !self.fetches_in_vain(&fetch, ticket, answers) => {
                    again(ASK_AGAIN, case, catching_up)
                }
                Some(fetch) if now >= fetch.until && case.catch_ups > 1 && self.has_not_grown(&case, whom, answers) => {
                    case.no_catch_up = true;
                    self.ask_candidates(case, None, now, actions)
                }
                _ if case.catch_ups >= CATCH_UPS_MAX => {
                    case.no_catch_up = true;
                    self.ask_candidates(case, None, now, actions)
                }
                _ => {
                    let detail = format!("{} has more: {} fetches it", self.name(from), self.name(whom));
                    actions.extend(case.note("apply", Some(whom), detail, now));
                    case.catch_ups += 1;
                    case.fetched_from = said(answers, whom).map(|facts| self.seen.received(facts));
                    self.tending.adrift(whom);
                    let ticket = self.ticket();
                    actions.push(Action::Repoint { ticket, server: whom, to: from, instead_of: case.old, demoted: false });
                    let fetch = CatchingUp { whom, from, ticket: Some(ticket), early: None, until: now + CATCH_UP_LIMIT };
                    again(ASK_AGAIN, case, Some(fetch))
                }
            },
            Choice::Ready { whom, lost, count, why, as_it_is } => {
                let fetched = catching_up.map(|fetch| fetch.from);
                let step = if fetched.is_some() { "catch_up" } else { "apply" };
                let mut detail = "it has applied all that it received".to_owned();
                if !why.is_empty() {
                    detail.push_str(&format!("; not the others: {why}"));
                }
                actions.extend(case.note(step, Some(whom), detail, now));
                // Of a master that cannot write it was tried already, and nothing is sent to it any more.
                let tried = |id: ServerId| (case.blocked || case.unfenced) && case.old == Some(id);
                if let Some((other, _)) = writable.iter().find(|(id, _)| *id != whom && !tried(*id)) {
                    // What waits there for an acknowledgement would hold that up.
                    if !case.let_commit.contains(other) {
                        case.let_commit.push(*other);
                        actions.push(Action::LetCommit(*other));
                    }
                    let ticket = self.ticket();
                    actions.push(Action::Fence { ticket, server: *other, kill: true });
                    return Phase::Undo { case, ticket, until: now + OUTCOME_LIMIT, whom: *other, blamed: false };
                }
                if !case.force && self.settings.max_lost_transactions.is_some_and(|max| count > max) {
                    return self.refused(case, whom, &lost, now, actions);
                }
                // From nobody: what others fetch from the old master when it comes back must not arrive by a detour.
                let stop_from: Vec<ServerId> = self.settings.topology.ids().map(|(id, _)| id).filter(|id| *id != whom).collect();
                let ticket = self.ticket();
                actions.push(Action::Promote { ticket, server: whom, stop_from, as_it_is });
                let others = answers.iter().filter(|(id, outcome)| *id != whom && outcome.is_ok()).map(|(id, _)| *id).collect();
                Phase::Promote { case, ticket, until: now + OUTCOME_LIMIT, whom, lost, others }
            }
        }
    }

    /// Whom most of those that answer replicate from, of those that do not and may be master.
    fn silent_source(&self, answers: &[Answer]) -> Option<ServerId> {
        let follows = |facts: &Facts, id: ServerId| facts.replication.iter().any(|c| self.seen.source_of(c) == Some(id));
        let followers =
            |id: ServerId| answers.iter().filter(|(_, answer)| answer.as_ref().is_ok_and(|facts| follows(facts, id))).count();
        let silent = answers.iter().filter(|(_, answer)| answer.is_err()).filter_map(|(id, _)| self.view(*id));
        let may_be_master =
            |view: &&ServerView| view.configured_role == ConfiguredRole::Master || self.settings.topology.promote_replicas;
        silent
            .filter(may_be_master)
            .map(|view| (followers(view.id), view.id))
            .filter(|(count, _)| *count > 0)
            .max()
            .map(|(_, id)| id)
    }

    /// Whether its receiver says, since it was told to fetch, that it cannot.
    fn fetches_in_vain(&self, fetch: &CatchingUp, asked: Option<Ticket>, answers: &[Answer]) -> bool {
        let channels = said(answers, fetch.whom).map_or(&[][..], |facts| &facts.replication);
        let mut from = channels.iter().filter(|channel| self.seen.source_of(channel) == Some(fetch.from));
        // One that only fails to connect goes on trying.
        let in_vain = |c: &ReplicaChannel| c.io_running == ThreadState::Stopped && !c.last_io_error.is_empty();
        fetch.ticket.is_none() && fetch.early != asked && from.any(in_vain)
    }

    /// Whether a survivor that is waited for applies what it has received, or is given the time to begin: each has its own. Measured by what it had received
    /// when that began, so that neither what it fetches meanwhile nor what somebody writes there looks like a change.
    fn goes_on(&self, case: &mut Case, answers: &[Answer], whom: ServerId, now: Instant) -> bool {
        let Some(facts) = said(answers, whom) else { return true };
        let received = self.seen.received(facts);
        if let Some(one) = case.waited.iter_mut().find(|one| one.server == whom) {
            let left = one.received.missing_count(&facts.applied());
            if left > 0 || one.received.covers(&received) {
                if left < one.left {
                    (one.left, one.until) = (left, now + WAIT_LIMIT);
                }
                return now < one.until;
            }
        }
        case.waited.retain(|one| one.server != whom);
        let left = received.missing_count(&facts.applied());
        case.waited.push(Waited { server: whom, received, left, until: now + WAIT_LIMIT });
        true
    }

    /// Whether nothing has come since it began to fetch: whoever has it does not send it.
    fn has_not_grown(&self, case: &Case, whom: ServerId, answers: &[Answer]) -> bool {
        let now = said(answers, whom).map(|facts| self.seen.received(facts));
        now.zip(case.fetched_from.as_ref()).is_some_and(|(now, before)| before.covers(&now))
    }

    /// Whether the only writable one is a former master that has been replaced, see [`outranks`].
    fn is_outranked(&self, only: ServerId, facts: &Facts, answers: &[Answer]) -> bool {
        let peer = |id: ServerId| {
            let view = self.view(id).filter(|view| !matches!(view.state, State::Quarantined | State::Draining | State::Offline));
            view.is_some_and(|view| view.configured_role == ConfiguredRole::Master || self.settings.topology.promote_replicas)
        };
        let mut others = answers.iter().filter(|(id, _)| *id != only && peer(*id));
        let role = |id: ServerId| self.view(id).map(|view| view.configured_role);
        others.any(|(id, answer)| {
            let alike = role(*id) == role(only);
            answer.as_ref().is_ok_and(|other| outranks((other, self.followers(*id)), (facts, self.followers(only)), alike))
        })
    }

    /// It is asked again in a moment. `goes_on`: it does apply.
    fn applies(
        &self,
        whom: ServerId,
        goes_on: bool,
        mut case: Case,
        catching_up: Option<CatchingUp>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Phase {
        let name = self.name(whom);
        let text = if goes_on {
            format!("apply: {name} applies what it has received")
        } else {
            format!(
                "apply: {name} has applied nothing of what it has received for {} s: its SHOW PROCESSLIST and its delay tell why; FAILOVER TO {name} FORCE takes it as it is",
                WAIT_LIMIT.as_secs()
            )
        };
        if case.told != text {
            actions.push(Action::Tell { kind: "failover", server: Some(whom), detail: text.clone() });
            case.told = text;
        }
        Phase::Collect { case, ticket: None, until: now + ASK_AGAIN, catching_up }
    }

    fn refused(&mut self, mut case: Case, whom: ServerId, lost: &str, now: Instant, actions: &mut Vec<Action>) -> Phase {
        let name = self.name(whom);
        let text = format!(
            "promotion of {name} refused by failover.max_lost_transactions: {lost} would be lost; bring the old master back, or FAILOVER TO {name} FORCE"
        );
        if let Some(order) = case.order.take() {
            actions.push(Action::Reply(order, Err(text.clone())));
        }
        if case.told != text {
            actions.push(Action::Tell { kind: "failover", server: Some(whom), detail: text.clone() });
            actions.push(Action::Count { kind: Kind::Failover, result: "refused", took: None });
            actions.push(Action::Hold { why: text.clone(), deposed: true });
            case.told = text;
        }
        Phase::Refused { case, until: now + REFUSED_AGAIN }
    }

    /// The promotion has an unknown outcome: before anybody else, that one must not be writable.
    pub(super) fn undo(&mut self, mut case: Case, whom: ServerId, why: String, now: Instant, actions: &mut Vec<Action>) -> Phase {
        actions.extend(case.note("promote", Some(whom), format!("failed: {why}"), now));
        actions.push(Action::Count { kind: case.kind, result: "failed", took: None });
        self.tending.adrift(whom);
        let ticket = self.ticket();
        actions.push(Action::Fence { ticket, server: whom, kill: true });
        Phase::Undo { case, ticket, until: now + OUTCOME_LIMIT, whom, blamed: true }
    }

    pub(super) fn undone(
        &mut self,
        mut case: Case,
        ticket: Ticket,
        until: Instant,
        (whom, blamed): (ServerId, bool),
        event: &Event,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Phase {
        let detail = match outcome_of(event, ticket, until, now) {
            None => return Phase::Undo { case, ticket, until, whom, blamed },
            Some(Ok(_)) => "it is read-only".to_owned(),
            // It may have become writable, and only its answers are lost.
            Some(Err(_)) if blamed && now < until && case.fences < FENCES_MAX => {
                case.fences += 1;
                let ticket = self.ticket();
                actions.push(Action::Fence { ticket, server: whom, kill: true });
                return Phase::Undo { case, ticket, until, whom, blamed };
            }
            Some(Err(why)) => {
                // An operator knows better, and has said so.
                case.unfenced |= case.force && case.old == Some(whom);
                format!("out of reach: {why}")
            }
        };
        case.fences = 0;
        actions.extend(case.note("fence", Some(whom), detail, now));
        match (case.kind, case.old) {
            (Kind::Switchover, Some(old)) if blamed => self.restore(case, old, "its promotion failed".to_owned(), now, actions),
            _ if !blamed => self.ask_candidates(case, None, now, actions),
            _ => {
                case.failed.push(whom);
                if let Some(order) = case.order.take() {
                    actions
                        .push(Action::Reply(order, Err(format!("the promotion of {} failed; see SHOW EVENTS", self.name(whom)))));
                    case.target = None;
                }
                self.ask_candidates(case, None, now, actions)
            }
        }
    }
}
