//! Writers side by side: each has its own connection and sends one message after the other until time or messages are used up.

use std::io;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::meter::median;

/// When a measurement ends, whichever comes first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// No message is begun after that.
    pub(crate) time: Duration,
    /// Messages of all writers together.
    pub(crate) messages: usize,
}

/// What the writers did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tally {
    /// Messages that were acknowledged.
    pub(crate) messages: f64,
    /// Seconds from the first to the last.
    pub(crate) seconds: f64,
    /// Half of the messages took no longer, in seconds.
    pub(crate) p50: f64,
}

impl Tally {
    /// From the times of all messages.
    pub(crate) fn of(times: &[Duration], taken: Duration) -> Self {
        Self {
            messages: times.len() as f64,
            seconds: taken.as_secs_f64(),
            p50: median(times),
        }
    }
}

/// The numbers of the messages, handed out until the limit is reached.
pub(crate) struct Tickets {
    next: AtomicUsize,
    begun: Instant,
    limit: Limit,
}

impl Tickets {
    /// The time begins now.
    pub(crate) fn new(limit: Limit) -> Self {
        Self {
            next: AtomicUsize::new(0),
            begun: Instant::now(),
            limit,
        }
    }

    /// How long that is ago.
    pub(crate) fn taken(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The number of the next message.
    pub(crate) fn draw(&self) -> Option<usize> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Even a slow machine measures one message.
        let in_time = number == 0 || self.taken() < self.limit.time;
        (number < self.limit.messages && in_time).then_some(number)
    }
}

/// Runs as many threads as there are `connections`; each puts message after message.
pub(crate) fn race<C: Send>(
    connections: &mut [C],
    limit: Limit,
    put: impl Fn(&mut C, usize) -> io::Result<()> + Sync,
) -> Tally {
    let barrier = Barrier::new(connections.len());
    let tickets = std::sync::OnceLock::new();
    let (barrier, tickets, put) = (&barrier, &tickets, &put);
    std::thread::scope(|scope| {
        let writers: Vec<_> = connections
            .iter_mut()
            .map(|connection| {
                scope.spawn(move || {
                    barrier.wait();
                    let tickets = tickets.get_or_init(|| Tickets::new(limit));
                    let mut times = Vec::new();
                    while let Some(number) = tickets.draw() {
                        let begun = Instant::now();
                        put(connection, number).expect("the server takes the message");
                        times.push(begun.elapsed());
                    }
                    times
                })
            })
            .collect();
        let times: Vec<Duration> = writers
            .into_iter()
            .flat_map(|writer| writer.join().expect("no panic"))
            .collect();
        let taken = tickets.get().map_or(Duration::ZERO, Tickets::taken);
        Tally::of(&times, taken)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_messages_are_sent_than_asked_for() {
        let sent = AtomicUsize::new(0);
        let limit = Limit {
            time: Duration::from_secs(60),
            messages: 10,
        };
        let tally = race(&mut [(), (), ()], limit, |(), _| {
            sent.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        assert_eq!((tally.messages, sent.into_inner()), (10.0, 10));
    }
}
