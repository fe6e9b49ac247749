//! Times in the site's zone.
//! In: instants. Out: `<time>` elements, days, distances in words.
//! Promise: what is read is local, what machines read carries the offset, and the exact instant in UTC is one hover away.

use std::time::Duration;

use askama::Template;
use askama::filters::HtmlSafe;
use jiff::ZonedDateTime;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::numbers::counted;
use crate::clock::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// A `<time>` element.
#[derive(Clone, Debug, Template)]
#[template(path = "parts/time.html")]
pub(in crate::dashboard) struct Moment {
    pub(in crate::dashboard) iso: String,
    pub(in crate::dashboard) title: String,
    pub(in crate::dashboard) text: String,
}

impl HtmlSafe for Moment {}

/// The site's zone and its name.
#[derive(Clone, Debug)]
pub(in crate::dashboard) struct Times {
    pub(in crate::dashboard) zone: TimeZone,
    /// `New York`, `UTC`.
    pub(in crate::dashboard) place: String,
}

impl Times {
    /// By IANA name; one this machine does not know becomes UTC, and says so.
    pub(in crate::dashboard) fn of(name: &str) -> Self {
        match TimeZone::get(name) {
            Ok(zone) if !matches!(name, "UTC" | "Etc/UTC") => {
                let place = name.rsplit('/').next().unwrap_or(name).replace('_', " ");
                Self { zone, place }
            }
            Ok(_) | Err(_) => Self { zone: TimeZone::UTC, place: "UTC".to_owned() },
        }
    }

    /// `New York time`, `UTC`.
    pub(in crate::dashboard) fn named(&self) -> String {
        if self.place == "UTC" { "UTC".to_owned() } else { format!("{} time", self.place) }
    }

    fn local(&self, at: Timestamp) -> ZonedDateTime {
        at.in_zone(&self.zone)
    }

    /// The date of an instant here.
    pub(in crate::dashboard) fn date(&self, at: Timestamp) -> Date {
        self.local(at).date()
    }

    fn moment(&self, at: Timestamp, form: &str) -> Moment {
        let local = self.local(at);
        let mut title = local.strftime("%A %-d %B %Y, %H:%M:%S %Z").to_string();
        if self.place != "UTC" {
            let utc = local.timestamp().to_zoned_datetime(TimeZone::UTC);
            let form = if utc.date() == local.date() { "%H:%M:%S" } else { "%-d %B, %H:%M:%S" };
            title.push_str(&format!(" ({} UTC)", utc.strftime(form)));
        }
        Moment {
            iso: local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            title,
            text: local.strftime(form).to_string(),
        }
    }

    /// `14:13`.
    pub(in crate::dashboard) fn minute(&self, at: Timestamp) -> Moment {
        self.moment(at, "%H:%M")
    }

    /// `14:13:20`.
    pub(in crate::dashboard) fn second(&self, at: Timestamp) -> Moment {
        self.moment(at, "%H:%M:%S")
    }

    /// `14:13 EST`, for a sentence.
    pub(in crate::dashboard) fn minute_and_zone(&self, at: Timestamp) -> Moment {
        self.moment(at, "%H:%M %Z")
    }

    /// `14:13` today, else `23 Nov, 14:13`, with the year when it is another one.
    pub(in crate::dashboard) fn short(&self, at: Timestamp, now: Timestamp) -> Moment {
        let (day, today) = (self.date(at), self.date(now));
        if day == today {
            self.minute(at)
        } else if day.year() == today.year() {
            self.moment(at, "%-d %b, %H:%M")
        } else {
            self.moment(at, "%-d %b %Y, %H:%M")
        }
    }

    /// As [`Times::short`], to the second.
    pub(in crate::dashboard) fn short_second(&self, at: Timestamp, now: Timestamp) -> Moment {
        let mut moment = self.short(at, now);
        moment.text.push_str(&self.second(at).text[5..]);
        moment
    }

    /// "40 seconds ago", for what is alive now; the time of day from an hour on, the date from tomorrow on.
    pub(in crate::dashboard) fn ago(&self, at: Timestamp, now: Timestamp) -> String {
        let seconds = now.since(at).as_secs();
        match i64::try_from(seconds).unwrap_or(i64::MAX) {
            0..=1 => "just now".to_owned(),
            seconds @ 2..60 => format!("{seconds} seconds ago"),
            seconds @ 60..3600 => counted(seconds / 60, "minute ago", "minutes ago"),
            _ if self.date(at) == self.date(now) => format!("at {}", self.minute(at).text),
            _ => format!("on {}", self.short(at, now).text.replace(", ", " at ")),
        }
    }
}

/// `Monday 23 November 2026`.
pub(in crate::dashboard) fn long_day(date: Date) -> String {
    date.strftime("%A %-d %B %Y").to_string()
}

/// `Mon 23 Nov`.
pub(in crate::dashboard) fn short_day(date: Date) -> String {
    date.strftime("%a %-d %b").to_string()
}

/// `27 October to 23 November 2026`; one day is one day.
pub(in crate::dashboard) fn day_range(first: Date, last: Date) -> String {
    if first == last {
        return long_day(last);
    }
    let form = if first.year() == last.year() { "%-d %B" } else { "%-d %B %Y" };
    format!("{} to {}", first.strftime(form), last.strftime("%-d %B %Y"))
}

/// The two largest units: `2 days 5 hours`, `15 minutes`, `3 seconds`; `less than a second` below one.
pub(in crate::dashboard) fn distance(between: Duration) -> String {
    let seconds = i64::try_from(between.as_secs()).unwrap_or(i64::MAX);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let parts = if days > 0 {
        [counted(days, "day", "days"), counted(hours, "hour", "hours")]
    } else if hours > 0 {
        [counted(hours, "hour", "hours"), counted(minutes, "minute", "minutes")]
    } else if minutes > 0 {
        [counted(minutes, "minute", "minutes"), "0".to_owned()]
    } else if seconds > 0 {
        [counted(seconds, "second", "seconds"), "0".to_owned()]
    } else {
        return "less than a second".to_owned();
    };
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.starts_with("0")).collect();
    parts.join(" ")
}

/// `in 2 hours 5 minutes`; `now` if it has passed.
pub(in crate::dashboard) fn until(at: Timestamp, now: Timestamp) -> String {
    let wait = at.since(now);
    if wait.is_zero() { "now".to_owned() } else { format!("in {}", distance(wait)) }
}

/// How long a try took: `0.31 s`, `20.0 s`.
pub(in crate::dashboard) fn took(ms: i64) -> String {
    if ms < 10_000 {
        format!("{}.{:02} s", ms / 1000, ms % 1000 / 10)
    } else {
        format!("{}.{} s", ms / 1000, ms % 1000 / 100)
    }
}

/// Days since 1970 as a date.
pub(in crate::dashboard) fn utc_day(day: i64) -> Date {
    Times::of("UTC").date(Timestamp::from_ms(day.saturating_mul(DAY_MS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_seconds(1_795_461_200); // 2026-11-23T19:13:20Z

    #[test]
    fn times_are_local_with_the_exact_instant_beside_them() {
        let times = Times::of("America/New_York");
        let moment = times.minute(AT);
        assert_eq!(moment.text, "14:13");
        assert_eq!(moment.iso, "2026-11-23T14:13:20-05:00");
        assert_eq!(moment.title, "Monday 23 November 2026, 14:13:20 EST (19:13:20 UTC)");
        let late = times.second(AT.plus(Duration::from_secs(7 * 3600)));
        assert_eq!(late.title, "Monday 23 November 2026, 21:13:20 EST (24 November, 02:13:20 UTC)");
        assert_eq!(times.named(), "New York time");
        let utc = Times::of("Nowhere/Land");
        assert_eq!(utc.named(), "UTC");
        assert_eq!(utc.second(AT).title, "Monday 23 November 2026, 19:13:20 UTC");
        assert!(moment.to_string().starts_with("<time datetime=\"2026-11-23T14:13:20-05:00\""));
    }

    #[test]
    fn ago_is_for_what_is_alive_now() {
        let times = Times::of("UTC");
        let rows = [
            (0, "just now"),
            (40, "40 seconds ago"),
            (61, "1 minute ago"),
            (3599, "59 minutes ago"),
            (3600, "at 18:13"),
            (86_400, "on 22 Nov at 19:13"),
            (400 * 86_400, "on 19 Oct 2025 at 19:13"),
        ];
        for (seconds, text) in rows {
            assert_eq!(times.ago(AT.minus(Duration::from_secs(seconds)), AT), text);
        }
    }

    #[test]
    fn distances_show_their_two_largest_units() {
        let rows = [
            (0, "less than a second"),
            (1, "1 second"),
            (900, "15 minutes"),
            (3600, "1 hour"),
            (190_800, "2 days 5 hours"),
            (86_400, "1 day"),
            (36_000, "10 hours"),
        ];
        for (seconds, text) in rows {
            assert_eq!(distance(Duration::from_secs(seconds)), text);
        }
        assert_eq!(until(AT.plus(Duration::from_secs(60)), AT), "in 1 minute");
        assert_eq!(until(AT, AT), "now");
        assert_eq!((took(310).as_str(), took(20_000).as_str()), ("0.31 s", "20.0 s"));
    }

    #[test]
    fn days_read_day_first() {
        let day = jiff::civil::date(2026, 11, 23);
        assert_eq!(long_day(day), "Monday 23 November 2026");
        assert_eq!(short_day(day), "Mon 23 Nov");
        let first = jiff::civil::date(2026, 10, 27);
        assert_eq!(day_range(first, day), "27 October to 23 November 2026");
        assert_eq!(utc_day(20_780).to_string(), "2026-11-23");
    }
}
