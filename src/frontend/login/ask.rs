//! Which server's word a login takes: the first that accepts, asked in turn, and none waited for alone.
//!
//! A server that is frozen takes a connection and says nothing. Until the monitor has seen that, a login that waited for it and then
//! for the next one would take longer than a failover does.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::LoginServer;
use crate::net::timer::timeout;
use crate::protocol::handshake::ServerError;

/// A server that nobody has heard of yet, or not lately, is not waited for alone for longer than this: the next one is asked beside it.
/// Several times what a login takes, and a fraction of a failover.
const PATIENCE: Duration = Duration::from_millis(250);
/// The same of one that answers the monitor: about as long as that takes to see that it does not any more. Not sooner, since a session whose
/// login cannot be repeated lives on the connection that took it, which had better be the master's.
const PATIENCE_ANSWERING: Duration = Duration::from_secs(1);

/// What came of asking one server.
pub(super) enum Word<T> {
    /// It has judged: this is what everybody was asked for.
    Said(T),
    /// It has refused the user.
    Refused(ServerError),
    /// It has not judged (out of reach, busy, too late), and why.
    Nothing(String),
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// Ask the server at this place too.
    Ask(usize),
    /// Hear what those who were asked say; after a while without a word, [`Turns::silent`].
    Hear,
    /// Hear what they say; there is nobody else to ask.
    HearOut,
    /// The refusal of the server at this place counts.
    Refuse(usize),
    /// Nobody is left.
    GiveUp,
}

/// Whose turn it is.
///
/// The first that accepts counts at once. A refusal counts once every server before it has come to nothing: what is in front, the
/// master, knows accounts that a replica may not know yet.
#[derive(Debug)]
struct Turns {
    servers: usize,
    asked: usize,
    running: Vec<usize>,
    refused: Option<usize>,
    ask_on: bool,
}

impl Turns {
    fn new(servers: usize) -> Turns {
        Turns { servers, asked: 0, running: Vec::new(), refused: None, ask_on: true }
    }

    fn next(&mut self) -> Next {
        if let Some(place) = self.refused {
            let earlier = self.running.iter().any(|running| *running < place);
            return if earlier { Next::HearOut } else { Next::Refuse(place) };
        }
        let left = self.asked < self.servers;
        if left && std::mem::take(&mut self.ask_on) {
            self.running.push(self.asked);
            self.asked += 1;
            return Next::Ask(self.asked - 1);
        }
        match (left, self.running.is_empty()) {
            (true, _) => Next::Hear,
            (false, false) => Next::HearOut,
            (false, true) => Next::GiveUp,
        }
    }

    /// Nobody has said anything for long enough.
    fn silent(&mut self) {
        self.ask_on = true;
    }

    /// The server at this place has come to nothing.
    fn nothing(&mut self, place: usize) {
        self.running.retain(|running| *running != place);
        self.ask_on = true;
    }

    /// The server at this place refuses.
    fn refuses(&mut self, place: usize) {
        self.running.retain(|running| *running != place);
        self.refused = Some(self.refused.map_or(place, |before| before.min(place)));
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Word<T>> + Send + 'a>>;

/// Asks `servers` in their order, each within `limit`.
pub(super) async fn ask_in_turn<'a, T, F>(
    servers: &'a [LoginServer],
    limit: Duration,
    ask: impl Fn(&'a LoginServer) -> F,
) -> Word<T>
where
    F: Future<Output = Word<T>> + Send + 'a,
    T: 'a,
{
    let mut turns = Turns::new(servers.len());
    let mut why = "no server is known".to_owned();
    let mut refusals: Vec<(usize, ServerError)> = Vec::new();
    let mut running: Vec<(usize, Answer<'a, T>)> = Vec::new();
    loop {
        let patience = match turns.next() {
            Next::Ask(place) => {
                if let Some(server) = servers.get(place) {
                    let word = ask(server);
                    let late = move || Word::Nothing(format!("{} did not answer within {limit:?}", server.address));
                    running.push((place, Box::pin(async move { timeout(limit, word).await.unwrap_or_else(|_| late()) })));
                }
                continue;
            }
            Next::Hear => {
                let answers = running.iter().any(|(place, _)| servers.get(*place).is_some_and(|server| server.answers));
                Some(if answers { PATIENCE_ANSWERING } else { PATIENCE })
            }
            Next::HearOut => None,
            Next::Refuse(place) => match refusals.into_iter().find(|(of, _)| *of == place) {
                Some((_, error)) => return Word::Refused(error),
                None => return Word::Nothing(why),
            },
            Next::GiveUp => return Word::Nothing(why),
        };
        match hear(&mut running, patience).await {
            Some((_, Word::Said(said))) => return Word::Said(said),
            Some((place, Word::Refused(error))) => {
                turns.refuses(place);
                refusals.push((place, error));
            }
            Some((place, Word::Nothing(reason))) => {
                turns.nothing(place);
                why = reason;
            }
            None => turns.silent(),
        }
    }
}

/// The next word of those who were asked; `None` when there is none for as long as `patience`.
async fn hear<T>(running: &mut Vec<(usize, Answer<'_, T>)>, patience: Option<Duration>) -> Option<(usize, Word<T>)> {
    let word = poll_fn(|context| {
        for at in 0..running.len() {
            let Some((place, answer)) = running.get_mut(at) else { break };
            if let Poll::Ready(word) = answer.as_mut().poll(context) {
                let place = *place;
                drop(running.swap_remove(at));
                return Poll::Ready((place, word));
            }
        }
        Poll::Pending
    });
    match patience {
        Some(limit) => timeout(limit, word).await.ok(),
        None => Some(word.await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens, in the order of time.
    enum Comes {
        Silence,
        Nothing(usize),
        No(usize),
    }
    use Comes::{No, Nothing, Silence};

    /// Plays what comes, and tells who was asked after each and what was done in the end.
    fn play(servers: usize, all: &[Comes]) -> (Vec<usize>, Next) {
        let mut turns = Turns::new(servers);
        let mut asked = Vec::new();
        let mut go = |turns: &mut Turns| loop {
            match turns.next() {
                Next::Ask(place) => asked.push(place),
                next => return next,
            }
        };
        let mut next = go(&mut turns);
        for comes in all {
            assert!(matches!(next, Next::Hear | Next::HearOut), "it has ended already: {next:?}");
            match comes {
                Silence => turns.silent(),
                Nothing(place) => turns.nothing(*place),
                No(place) => turns.refuses(*place),
            }
            next = go(&mut turns);
        }
        (asked, next)
    }

    #[test]
    fn one_after_the_other_and_none_waited_for_alone() {
        type Row<'a> = (&'a str, usize, &'a [Comes], &'a [usize], Next);
        let table: &[Row<'_>] = &[
            ("nobody is known", 0, &[], &[], Next::GiveUp),
            ("the first is asked alone", 3, &[], &[0], Next::Hear),
            ("it is silent: the next beside it", 3, &[Silence], &[0, 1], Next::Hear),
            ("all are silent", 3, &[Silence, Silence], &[0, 1, 2], Next::HearOut),
            ("a port that refuses", 3, &[Nothing(0)], &[0, 1], Next::Hear),
            ("the only one refuses the user", 1, &[No(0)], &[0], Next::Refuse(0)),
            ("the first refuses the user: nobody else is asked", 3, &[No(0)], &[0], Next::Refuse(0)),
            ("the second does, and the first may know better", 3, &[Silence, No(1)], &[0, 1], Next::HearOut),
            ("it comes to nothing", 3, &[Silence, No(1), Nothing(0)], &[0, 1], Next::Refuse(1)),
            ("both refuse: the word of the first", 3, &[Silence, No(1), No(0)], &[0, 1], Next::Refuse(0)),
            (
                "the third refuses, the second has come to nothing",
                3,
                &[Silence, Silence, Nothing(1), No(2)],
                &[0, 1, 2],
                Next::HearOut,
            ),
            ("nobody is left", 2, &[Silence, Nothing(1), Nothing(0)], &[0, 1], Next::GiveUp),
        ];
        for (what, servers, comes, asked, next) in table {
            assert_eq!(play(*servers, comes), (asked.to_vec(), *next), "{what}");
        }
    }
}
