//! Deadlines for a million connections: a stamp in each, and a sweep.
//!
//! Nearly every deadline is armed and then not needed, because the client does answer in time. So arming must be cheap,
//! and it is: a connection stores the [`Tick`] at which its time is up, and that is all. In exchange somebody has to
//! look at all of them now and then. [`Deadlines`] remembers the earliest tick that was armed since the last look; when
//! it comes, the event loop sweeps its connections in slices and expires the late ones. A tree or a wheel would know
//! exactly whose time is up, and would cost memory per connection and work per request for it.
//!
//! What must always hold: no stamp of a living connection is earlier than [`Deadlines::due`], except in the part of a
//! sweep still ahead. So the loop may sleep until then, and an idle server whose deadlines are all far away does not
//! wake up at all.

use std::ops::Range;
use std::time::{Duration, Instant};

/// The length of a tick. A deadline never passes early, and at most two ticks late.
const TICK: Duration = Duration::from_millis(100);

/// How many ticks make a second.
const TICKS_PER_SECOND: u64 = 10;

/// Connections looked at in one turn of the loop; about a tenth of a millisecond of work.
const SLICE: usize = 64 * 1024;

/// A moment, in ticks since the event loop started. 32 bits of them last thirteen years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u32);

impl Tick {
    /// Later than everything.
    pub(crate) const NEVER: Self = Self(u32::MAX);

    /// The tick at which at least `duration` has passed since this one.
    pub(crate) fn after(self, duration: Duration) -> Self {
        // One more, since this tick has partly passed already.
        let ticks = duration.as_millis().div_ceil(TICK.as_millis()).saturating_add(1);
        Self(u32::try_from(ticks).map_or(u32::MAX, |ticks| self.0.saturating_add(ticks)))
    }
}

/// Turns instants into ticks and back.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Self {
        Self { started: now }
    }

    /// The tick that `now` is in.
    pub(crate) fn tick(&self, now: Instant) -> Tick {
        let since = now.saturating_duration_since(self.started);
        let ticks = since.as_secs() * TICKS_PER_SECOND + u64::from(since.subsec_nanos() / TICK.subsec_nanos());
        Tick(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// How long it is from `now` to the beginning of a tick; `None` for [`Tick::NEVER`].
    pub(crate) fn until(&self, tick: Tick, now: Instant) -> Option<Duration> {
        (tick != Tick::NEVER).then(|| (self.started + TICK * tick.0).saturating_duration_since(now))
    }
}

/// Knows when the next sweep is due, and how far the present one has come.
#[derive(Debug)]
pub(crate) struct Deadlines {
    due: Tick,
    /// The first key not yet looked at, while a sweep is under way.
    cursor: Option<usize>,
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self { due: Tick::NEVER, cursor: None }
    }

    /// Notes a deadline that has been armed, or that a sweep found still ahead.
    pub(crate) fn note(&mut self, deadline: Tick) {
        self.due = self.due.min(deadline);
    }

    /// When the next sweep is due; now, while one is under way.
    pub(crate) fn due(&self) -> Tick {
        if self.cursor.is_some() { Tick(0) } else { self.due }
    }

    /// The keys to look at in this turn, if any. All deadlines found still ahead have to be [noted](Self::note).
    pub(crate) fn slice(&mut self, now: Tick, keys: usize) -> Option<Range<usize>> {
        if self.cursor.is_none() && self.due <= now {
            self.cursor = Some(0);
            self.due = Tick::NEVER;
        }
        let start = self.cursor.take()?.min(keys);
        let end = keys.min(start.saturating_add(SLICE));
        if end < keys {
            self.cursor = Some(end);
        }
        Some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_never_passes_early_and_at_most_two_ticks_late() {
        let started = Instant::now();
        let clock = Clock::new(started);
        for millis in [0, 1, 99, 100, 101, 250, 75_000] {
            for offset in [0, 1, 50, 99] {
                let armed = started + Duration::from_millis(1_000 + offset);
                let timeout = Duration::from_millis(millis);
                let wait = clock.until(clock.tick(armed).after(timeout), armed).expect("it is not never");
                assert!(wait >= timeout && wait <= timeout + 2 * TICK, "{millis} ms waited {wait:?}");
            }
        }
    }

    #[test]
    fn a_sweep_covers_every_key_once_and_is_due_again_at_the_earliest_deadline_noted() {
        let mut deadlines = Deadlines::new();
        assert_eq!(deadlines.slice(Tick(5), 10), None);
        deadlines.note(Tick(7));
        deadlines.note(Tick(6));
        assert_eq!(deadlines.due(), Tick(6));
        let keys = 3 * SLICE + 1;
        let mut covered = 0;
        while let Some(range) = deadlines.slice(Tick(6), keys) {
            assert_eq!(range.start, covered);
            covered = range.end;
            deadlines.note(Tick(9));
        }
        assert_eq!(covered, keys);
        assert_eq!(deadlines.due(), Tick(9));
    }

    #[test]
    fn far_deadlines_do_not_overflow() {
        assert_eq!(Tick(3).after(Duration::MAX), Tick::NEVER);
        assert_eq!(Clock::new(Instant::now()).until(Tick::NEVER, Instant::now()), None);
    }
}
