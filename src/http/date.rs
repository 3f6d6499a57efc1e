//! The `Date` field, formatted once a second (RFC 9110 sections 5.6.7 and 6.6.1).
//!
//! Whoever writes responses keeps a [`DateCache`] of their own and shows it the time before each answer. As long as the
//! second lasts, that is all: the wall clock is not even asked. Since the time is looked at for every answer, the date is
//! right after any pause, and since nobody shares a cache, there is nothing to lock. A wall clock that is set anew is
//! noticed within a second.

use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The formatted date of the present second.
#[derive(Debug, Default)]
pub struct DateCache {
    /// When the second is over.
    until: Option<Instant>,
    text: String,
}

impl DateCache {
    /// The IMF-fixdate of `now`, such as `Sun, 06 Nov 1994 08:49:37 GMT`. `wall` is asked for the date of `now` if it is
    /// not known.
    pub fn at(&mut self, now: Instant, wall: impl FnOnce() -> SystemTime) -> &str {
        if self.until.is_none_or(|until| until <= now) {
            // A clock that is set before 1970 shows 1970.
            let since = wall().duration_since(UNIX_EPOCH).unwrap_or_default();
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(since.as_secs()));
            self.until =
                Some(now + Duration::from_secs(1).saturating_sub(Duration::from_nanos(since.subsec_nanos().into())));
            self.text.clear();
            write!(self.text, "{date}").expect("writing to a String cannot fail");
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_an_imf_fixdate_of_the_second_asked_for_rfc9110_5_6_7() {
        let started = Instant::now();
        let wall = UNIX_EPOCH + Duration::from_millis(784_111_777_300);
        let mut dates = DateCache::default();
        // Time passes on both clocks alike.
        let mut after = |millis: u64| {
            let passed = Duration::from_millis(millis);
            dates.at(started + passed, || wall + passed).to_owned()
        };
        assert_eq!(after(0), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(after(699), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(after(700), "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(after(1_699), "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(after(3_600_000), "Sun, 06 Nov 1994 09:49:37 GMT");
    }

    #[test]
    fn the_wall_clock_is_asked_once_a_second() {
        let started = Instant::now();
        let mut dates = DateCache::default();
        dates.at(started, || UNIX_EPOCH);
        dates.at(started + Duration::from_millis(999), || unreachable!("the second is not over"));
    }

    #[test]
    fn a_clock_set_before_the_epoch_shows_the_epoch() {
        let mut dates = DateCache::default();
        let date = dates.at(Instant::now(), || UNIX_EPOCH - Duration::from_secs(99));
        assert_eq!(date, "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
