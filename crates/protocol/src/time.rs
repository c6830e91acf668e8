//! Instants as the wire carries them: RFC 3339, UTC, milliseconds. Section 2.

/// Length of an instant as text, in bytes: `2026-01-01T12:00:00.000Z`.
pub const INSTANT_SIZE: usize = 24;

/// 9999-12-31T23:59:59.999Z, the last instant that RFC 3339 can write.
const UNIX_MS_MAX: u64 = 253_402_300_799_999;

const DAY_MS: u64 = 86_400_000;

/// Appends the instant `unix_ms` (milliseconds since 1970, leap seconds not counted) as 24 bytes.
///
/// What lies beyond the year 9999 is written as its last millisecond, since RFC 3339 has four digits
/// for a year: a clock that wrong is somebody's fault, but no reason to write what nobody can read.
pub fn write_rfc3339_ms(unix_ms: u64, out: &mut Vec<u8>) {
    let unix_ms = unix_ms.min(UNIX_MS_MAX);
    let (year, month, day) = civil_from_days(unix_ms / DAY_MS);
    let ms = unix_ms % DAY_MS;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], ms / 3_600_000);
    digits(&mut text[14..16], ms / 60_000 % 60);
    digits(&mut text[17..19], ms / 1000 % 60);
    digits(&mut text[20..23], ms % 1000);
    out.extend_from_slice(&text);
}

/// Year, month and day of the day that is `days` after 1970-01-01, in the proleptic Gregorian calendar.
///
/// Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`. Years begin in
/// March there, so that the leap day is the last of its year and the months' lengths are a line.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // 0000-03-01
    let era = days / 146_097; // 400 years
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Reads an instant as [`write_rfc3339_ms`] writes it: milliseconds since 1970.
///
/// `None` for anything else, also for other forms of RFC 3339: section 2 allows one only.
pub fn parse_rfc3339_ms(text: &str) -> Option<u64> {
    let text: &[u8; INSTANT_SIZE] = text.as_bytes().try_into().ok()?;
    let form = b"0000-00-00T00:00:00.000Z";
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == form,
    };
    if !text.iter().zip(form).all(fits) {
        return None;
    }
    let number =
        |from: usize, to: usize| text[from..to].iter().fold(0, |n, b| n * 10 + u64::from(b - b'0'));
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    // A leap second is the first of the next minute, as in Unix time.
    if !(1970..).contains(&year)
        || !(1..=12).contains(&month)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let days = days_from_civil(year, month, day)?;
    Some(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + number(20, 23))
}

/// The other way round: the day that is `year`, `month` (1 to 12) and `day`, if there is one.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year_of, month_from_march) =
        if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let (era, year_of_era) = (year_of / 400, year_of % 400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

/// Writes `value` right-aligned over the zeros of `text`.
fn digits(text: &mut [u8], mut value: u64) {
    for place in text.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unix_ms: u64) -> String {
        let mut out = Vec::new();
        write_rfc3339_ms(unix_ms, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    // [2.units]
    #[test]
    fn known_instants() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(951_868_799_999), "2000-02-29T23:59:59.999Z");
        assert_eq!(text(951_868_800_000), "2000-03-01T00:00:00.000Z");
        assert_eq!(text(1_767_268_800_000), "2026-01-01T12:00:00.000Z");
        assert_eq!(text(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(text(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
    }

    // [2.units]
    #[test]
    fn instant_beyond_year_9999_is_the_last_one() {
        assert_eq!(text(UNIX_MS_MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(text(UNIX_MS_MAX + 1), "9999-12-31T23:59:59.999Z");
        assert_eq!(text(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn instants_are_read_as_they_are_written() {
        for unix_ms in (0..=UNIX_MS_MAX).step_by(86_399_999 * 37).chain([UNIX_MS_MAX]) {
            assert_eq!(parse_rfc3339_ms(&text(unix_ms)), Some(unix_ms));
        }
        let leap = parse_rfc3339_ms("2016-12-31T23:59:60.000Z");
        assert_eq!(leap, parse_rfc3339_ms("2017-01-01T00:00:00.000Z"));
    }

    #[test]
    fn what_is_no_instant_is_not_read() {
        let texts = [
            "",
            "2026-01-01T12:00:00Z",
            "2026-01-01T12:00:00.000+00:00",
            "2026-01-01 12:00:00.000Z",
            "2026-00-01T12:00:00.000Z",
            "2026-13-01T12:00:00.000Z",
            "2026-02-29T12:00:00.000Z",
            "2026-01-00T12:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T12:60:00.000Z",
            "1969-12-31T12:00:00.000Z",
            "2026-01-01T12:00:0é.00Z",
        ];
        for text in texts {
            assert_eq!(parse_rfc3339_ms(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_until_2400_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..157_054 {
            assert_eq!(civil_from_days(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (day, month) = if day == length { (1, month + 1) } else { (day + 1, month) };
            (month, year) = if month == 13 { (1, year + 1) } else { (month, year) };
        }
        assert_eq!((year, month, day), (2400, 1, 1));
    }
}
