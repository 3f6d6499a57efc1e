//! Counters of what happened.
//!
//! The poll thread and the workers write them; people and tests read them. Nothing in the server ever decides anything
//! by them, so relaxed ordering is enough and a snapshot may be a moment old.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares the counters once for both the live set and the snapshot.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The live counters of one server.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(pub(crate) $name: Counter,)*
        }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Metrics {
            /// The counters now.
            #[must_use]
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections_accepted,
    /// Connections closed, by whichever side.
    connections_closed,
    /// Requests read in full and understood.
    requests,
    /// Responses handed to the kernel in full, refusals included, interim ones not.
    responses,
    /// Requests refused because they were malformed, too large or too slow.
    refusals,
    /// Requests answered 503 because the slow lane and its queue were full.
    overloads,
    /// Requests whose handler panicked, answered 500.
    panics,
    /// Connections closed because a deadline passed.
    timeouts,
    /// Connections lost with a request or an answer under way.
    disconnects,
    /// Times accepting was put off because descriptors or places had run out.
    accept_pauses,
    /// Worker threads that the system refused to start.
    spawn_failures,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let (responses, connections) = (self.responses, self.connections_accepted);
        write!(formatter, "{responses} response{} on ", plural(responses))?;
        write!(formatter, "{connections} connection{}", plural(connections))?;
        let rare = [
            (self.refusals, "refused"),
            (self.overloads, "overloaded"),
            (self.panics, "panicked"),
            (self.timeouts, "timed out"),
            (self.disconnects, "disconnected"),
            (self.accept_pauses, "accept pauses"),
            (self.spawn_failures, "threads not started"),
        ];
        rare.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, what)| write!(formatter, ", {count} {what}"))
    }
}
