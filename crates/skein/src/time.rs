//! Points in time as people write them.
//!
//! Input: text such as `2026-01-31T12:00:00Z`, `15m` (so long ago) or `@1700000000000`. Output:
//! milliseconds since 1970-01-01 UTC, and the way back.
//!
//! Source: RFC 3339 for dates; the proleptic Gregorian calendar, counted from March so that the
//! leap day is the last of its year.

use skein_types::Millis;

const MILLIS_PER_DAY: i64 = 86_400_000;
/// Days of 400 years, after which the calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;

/// A point in time, some of them relative to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// Since 1970-01-01 UTC.
    At(Millis),
    /// So long ago.
    Ago(Millis),
}

impl Time {
    /// The point in time, seen from `now`.
    pub(crate) fn resolve(self, now: Millis) -> Millis {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => Millis(now.0.saturating_sub(duration.0).max(0)),
        }
    }

    /// Parses any of the forms.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(millis) = text.strip_prefix('@') {
            let millis: i64 = millis.parse().ok()?;
            return (millis >= 0).then_some(Self::At(Millis(millis)));
        }
        if let Some(ago) = parse_duration(text) {
            return Some(Self::Ago(ago));
        }
        parse_date(text).map(Self::At)
    }
}

/// `90s`, `15m`, `2h`, `7d`.
fn parse_duration(text: &str) -> Option<Millis> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => MILLIS_PER_DAY,
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    Some(Millis(i64::from(number).checked_mul(unit)?))
}

/// `2026-01-31`, `2026-01-31T12:00:00`, with or without a fraction, `Z` or an offset. Without one,
/// UTC.
fn parse_date(text: &str) -> Option<Millis> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut parts = date.split('-').map(digits);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month);
    if parts.next().is_some() || !is_date || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * MILLIS_PER_DAY;
    if rest.is_empty() {
        return Some(Millis(midnight));
    }
    let time = rest.strip_prefix(['T', 't', ' '])?;
    let (time, offset) = split_offset(time)?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = clock.split(':').map(digits);
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let millis = format!("{fraction:0<3}");
    let millis = digits(millis.get(..3)?)?;
    digits(&format!("0{fraction}"))?;
    let time = ((hour * 60 + minute) * 60 + second) * 1000 + millis;
    Some(Millis(midnight + time - offset))
}

/// Splits `+01:00` or `Z` off; the offset in milliseconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, 0));
    };
    let (time, offset) = text.split_at(at);
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = offset[1..].split_once(':')?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some((time, sign * (hours * 60 + minutes) * 60_000))
}

/// Digits and nothing else.
fn digits(text: &str) -> Option<i64> {
    let is_number =
        !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * DAYS_PER_ERA + year * 365 + year / 4 - year / 100 + day_of_year - DAYS_TO_1970
}

/// Year, month and day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_1970;
    let (era, day) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// `2026-01-31T12:00:00.000Z`; `-` where there is no timestamp.
pub(crate) fn rfc3339(time: Millis) -> String {
    if time == Millis::NONE {
        return "-".into();
    }
    let (days, millis) = (
        time.0.div_euclid(MILLIS_PER_DAY),
        time.0.rem_euclid(MILLIS_PER_DAY),
    );
    let (year, month, day) = civil_from_days(days);
    let (second, millis) = (millis / 1000, millis % 1000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Option<i64> {
        match Time::parse(text)? {
            Time::At(time) => Some(time.0),
            Time::Ago(_) => None,
        }
    }

    #[test]
    fn every_form_means_what_it_says() {
        assert_eq!(at("1970-01-01"), Some(0));
        assert_eq!(at("2000-02-29T00:00:00Z"), Some(951_782_400_000));
        assert_eq!(at("2026-01-31T12:34:56.7Z"), Some(1_769_862_896_700));
        assert_eq!(at("2026-01-31T13:34:56.700+01:00"), Some(1_769_862_896_700));
        assert_eq!(at("2026-01-31 12:34"), Some(1_769_862_840_000));
        assert_eq!(at("@1769862896700"), Some(1_769_862_896_700));
        let ago = Time::parse("15m").unwrap();
        assert_eq!(ago.resolve(Millis(1_000_000)), Millis(100_000));
        assert_eq!(ago.resolve(Millis(1)), Millis(0));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "m",
            "-1m",
            "1w",
            "@",
            "@-1",
            "@x",
            "now",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "1900-01-01",
            "2026-01-31T",
            "2026-01-31T24:00",
            "2026-01-31T1",
            "2026-01-31T12:00+1",
            "2026-01-31T12:00:00.x",
            "2026-01-31T12:00:00:00",
            "2026-01-3é",
            "99999999999d",
        ] {
            assert_eq!(Time::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_gives_the_same_back(time in 0..253_402_300_800_000_i64) {
            prop_assert_eq!(at(&rfc3339(Millis(time))), Some(time));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,30}", time in any::<i64>()) {
            let _ = Time::parse(&text);
            let _ = rfc3339(Millis(time / 1000));
        }
    }
}
