//! Who may check a password next.
//! Takes the caller's network, and whether the browser is known. Returns a turn, or that too many wait.
//! Guarantees that few are checked at once, that a known browser goes first, that networks take turns, and that the queue is bounded.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// How long somebody waits for a turn before the answer is "busy".
const PATIENCE: Duration = Duration::from_secs(10);
/// Strangers that may wait, which takes a few seconds at most.
const STRANGERS: usize = 64;
/// Of these from one network.
const PER_NETWORK: usize = 4;
/// Known browsers that may wait.
const KNOWN: usize = 32;

/// What counts as one client: an IPv4 address, or an IPv6 /64 or /56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Network(u64, u8);

impl Network {
    /// One household or server has a whole IPv6 /64.
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u64::from(address.to_bits()), 32),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64, 64),
        }
    }

    /// The /56 that many providers give to one customer; an IPv4 address is its own.
    pub(super) fn wide(address: IpAddr) -> Self {
        match Self::of(address) {
            Self(bits, 64) => Self(bits >> 8, 56),
            one => one,
        }
    }
}

/// Whose turn it might be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Signed in, or was in this browser before.
    Known,
    /// Anybody else, by network.
    Stranger(Network),
}

/// Hands out turns. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    running: usize,
    known: VecDeque<oneshot::Sender<Turn>>,
    strangers: HashMap<Network, VecDeque<oneshot::Sender<Turn>>>,
    /// The networks of `strangers`, the one that waits longest for its next turn first.
    order: VecDeque<Network>,
}

impl Queue {
    fn is_full(&self, who: Who) -> bool {
        match who {
            Who::Known => self.known.len() >= KNOWN,
            Who::Stranger(network) => {
                let of_network = self.strangers.get(&network).map_or(0, VecDeque::len);
                let all: usize = self.strangers.values().map(VecDeque::len).sum();
                of_network >= PER_NETWORK || all >= STRANGERS
            }
        }
    }

    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        if let Some(known) = self.known.pop_front() {
            return Some(known);
        }
        let network = self.order.pop_front()?;
        let waiting = self.strangers.get_mut(&network)?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.strangers.remove(&network);
        } else {
            self.order.push_back(network);
        }
        next
    }
}

/// The right to check one password; dropping it gives it to the next.
#[derive(Debug)]
pub(super) struct Turn(Option<Turns>);

impl Turns {
    /// Hashing takes 19 MiB and a core for tens of milliseconds: half the cores, and never more than two, leave capacity for visits and webhooks.
    fn at_once() -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (cores / 2).clamp(1, 2)
    }

    /// Waits for a turn. `None` when too many wait already, or it took too long.
    pub(super) async fn wait(&self, who: Who) -> Option<Turn> {
        let mut waiting = {
            let mut queue = self.queue();
            if queue.running < Self::at_once() {
                queue.running += 1;
                return Some(Turn(Some(self.clone())));
            }
            if queue.is_full(who) {
                return None;
            }
            let (next, waiting) = oneshot::channel();
            match who {
                Who::Known => queue.known.push_back(next),
                Who::Stranger(network) => {
                    if !queue.strangers.contains_key(&network) {
                        queue.order.push_back(network);
                    }
                    queue.strangers.entry(network).or_default().push_back(next);
                }
            }
            waiting
        };
        match tokio::time::timeout(PATIENCE, &mut waiting).await {
            Ok(turn) => turn.ok(),
            Err(_) => {
                waiting.close();
                waiting.try_recv().ok() // It may have come at the last moment.
            }
        }
    }

    /// Gives a turn that ended to the next caller that still waits.
    fn pass_on(&self) {
        loop {
            let next = {
                let mut queue = self.queue();
                let Some(next) = queue.next() else {
                    queue.running -= 1;
                    return;
                };
                next
            };
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                Err(mut turn) => turn.0 = None, // The caller hung up; the turn is still ours to give.
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn stranger(n: u8) -> Who {
        Who::Stranger(Network::of(IpAddr::from([203, 0, 113, n])))
    }

    /// All turns that can be had at once.
    async fn all(turns: &Turns) -> Vec<Turn> {
        let mut taken = Vec::new();
        for _ in 0..Turns::at_once() {
            taken.push(turns.wait(stranger(0)).await.unwrap());
        }
        taken
    }

    #[tokio::test]
    async fn a_known_browser_goes_first_and_networks_take_turns() {
        let turns = Turns::default();
        let mut taken = all(&turns).await;
        let names =
            [("a1", stranger(1)), ("a2", stranger(1)), ("b1", stranger(2)), ("known", Who::Known)];
        let served = Mutex::new(Vec::new());
        let waits = names.map(|(name, who)| {
            let (turns, served) = (&turns, &served);
            async move {
                let turn = turns.wait(who).await.unwrap();
                served.lock().unwrap().push(name);
                drop(turn);
            }
        });
        let end = async {
            tokio::task::yield_now().await;
            taken.pop(); // One turn goes round, so the order is plain.
        };
        tokio::join!(futures_util::future::join_all(waits), end);
        assert_eq!(*served.lock().unwrap(), ["known", "a1", "b1", "a2"]);
        drop(taken);
        assert_eq!(turns.queue().running, 0);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_per_network_and_in_all_and_keeps_room_for_known_browsers() {
        let turns = Turns::default();
        let taken = all(&turns).await;
        let mut waits = Vec::new();
        for n in (0_u8..).take(STRANGERS / PER_NETWORK) {
            for _ in 0..PER_NETWORK {
                let mut wait = Box::pin(turns.wait(stranger(n)));
                assert!((&mut wait).now_or_never().is_none());
                waits.push(wait);
            }
            assert!(turns.wait(stranger(n)).await.is_none(), "its network waits enough");
        }
        assert!(turns.wait(stranger(200)).await.is_none(), "too many wait");
        let mut known = Box::pin(turns.wait(Who::Known));
        assert!((&mut known).now_or_never().is_none());
        drop(waits); // They hang up; nobody's turn is lost for it.
        drop(taken);
        assert!(known.await.is_some());
        assert_eq!(turns.queue().running, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_too_long_is_refused_and_holds_nothing() {
        let turns = Turns::default();
        let taken = all(&turns).await;
        assert!(turns.wait(stranger(1)).await.is_none());
        drop(taken);
        assert_eq!(turns.queue().running, 0);
        assert!(turns.wait(stranger(1)).await.is_some());
    }
}
