//! The `Date` field, formatted once a second (RFC 9110 sections 5.6.7 and 6.6.1).
//!
//! Whoever writes responses keeps a [`DateCache`] of their own and shows it the time before each answer. Formatting is
//! skipped while the second stays the same. Since the time is looked at for every answer, the date is right after any
//! pause, and since nobody shares a cache, there is nothing to lock.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The formatted date of the second last seen.
#[derive(Debug, Default)]
pub struct DateCache {
    second: Option<u64>,
    text: String,
}

impl DateCache {
    /// The IMF-fixdate of `now`, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn at(&mut self, now: SystemTime) -> &str {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            // From the second rather than from `now`: a clock before 1970 shows 1970 instead of a panic.
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
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
        let mut dates = DateCache::default();
        let at = |seconds: u64, millis: u64| UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis);
        assert_eq!(dates.at(at(784_111_777, 0)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(dates.at(at(784_111_777, 999)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(dates.at(at(784_111_778, 0)), "Sun, 06 Nov 1994 08:49:38 GMT");
        // A clock that was set back is believed.
        assert_eq!(dates.at(at(0, 0)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(dates.at(UNIX_EPOCH - Duration::from_secs(99)), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
