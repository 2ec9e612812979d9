//! TIME and DURATION arguments.
//!
//! A text that is no time is looked for among the names of markers: `deploy` is the moment of that
//! name or the start of that span, `deploy:end` the end of the span.

use chrono::{DateTime, Days, Local, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};

use super::message::{note, usage};
use super::output::rfc3339;
use crate::query::{NamedMarker, Recording};

const FORMS: &str = "write it as `2026-11-21T14:03:00+01:00`, `2026-11-21 14:03`, `14:03`, \
                     `10m ago`, `@1700000000`, `now` or the name of a marker; local time unless an \
                     offset is given";

/// Behind the name of a span: its end.
pub(super) const SPAN_END: &str = ":end";

/// Far from where nanoseconds overflow, and longer than anyone waits.
const LONGEST_NS: i64 = 10 * 365 * 86_400 * 1_000_000_000;

/// What times are relative to.
#[derive(Clone, Copy)]
pub(super) struct Anchor<'r> {
    /// This moment, UTC nanoseconds.
    pub(super) now_ns: i64,
    /// From when to when was recorded: a time of day means the last such moment in it.
    pub(super) recorded_ns: Option<(i64, i64)>,
    /// The start of a span whose end is read: a time of day is the first such moment after it.
    pub(super) after_ns: Option<i64>,
    /// Whose markers count.
    pub(super) recording: Option<&'r Recording>,
}

/// Reads a moment; gives UTC nanoseconds.
pub(super) fn parse_moment(text: &str, anchor: Anchor<'_>) -> anyhow::Result<i64> {
    let text = text.trim();
    let Some(ns) = moment(text, anchor)? else { return marked_moment(text, anchor) };
    if ns > anchor.now_ns {
        if anchor.after_ns.is_some() && time_of_day(text).is_some() {
            return Err(usage(
                format!("the span ends before it starts: `{text}` was before the start that day"),
                Some("swap `--from` and `--to`, or give the day as in `2026-11-21 14:03`"),
            ));
        }
        return Err(usage(
            format!("the time `{text}` is in the future"),
            Some("nothing can have been recorded then; check the date and the offset"),
        ));
    }
    Ok(ns)
}

/// Whether a text would be read as a time, right or wrong, and not as the name of a marker.
pub(super) fn is_moment(text: &str, anchor: Anchor<'_>) -> bool {
    !matches!(moment(text, anchor), Ok(None))
}

fn marked_moment(text: &str, anchor: Anchor<'_>) -> anyhow::Result<i64> {
    let unknown = |hint: &str| usage(format!("`{text}` is no time"), Some(hint));
    let Some(recording) = anchor.recording else { return Err(unknown(FORMS)) };
    let name = text.strip_suffix(SPAN_END).unwrap_or(text);
    let Some(marker) = recording.marker(name)? else {
        return Err(match recording.nearest_marker(name)? {
            Some(near) => unknown(&format!(
                "did you mean the marker `{near}`? `sockrec query markers` lists them"
            )),
            None => unknown(FORMS),
        });
    };
    if marker.count > 1 {
        note(&format!(
            "{} markers are named `{name}`: the latest is meant, of {}",
            marker.count,
            rfc3339(marker.started_at_ns)
        ));
    }
    if name == text { Ok(marker.started_at_ns) } else { end_of(name, marker) }
}

fn end_of(name: &str, marker: NamedMarker) -> anyhow::Result<i64> {
    let started = rfc3339(marker.started_at_ns);
    match marker.ended_at_ns {
        Some(ns) => Ok(ns),
        None if marker.is_span => Err(usage(
            format!("the end of the span `{name}`, begun at {started}, was not marked"),
            Some("`sockrec mark --end NAME` ends it, with `--at TIME` also later"),
        )),
        None => Err(usage(
            format!("the marker `{name}` of {started} is a moment, it has no end"),
            Some("`sockrec mark --start NAME` begins a span, `--end` ends it"),
        )),
    }
}

/// UTC nanoseconds of a time, `None` if the text has no form of one.
fn moment(text: &str, anchor: Anchor<'_>) -> anyhow::Result<Option<i64>> {
    let out_of_range = || usage(format!("the time `{text}` is out of range"), Some(FORMS));
    if text == "now" {
        return Ok(Some(anchor.now_ns));
    }
    if let Some(span) = text.strip_suffix("ago") {
        let Ok(span) = humantime::parse_duration(span.trim()) else { return Ok(None) };
        let span_ns = i64::try_from(span.as_nanos()).map_err(|_| out_of_range())?;
        return anchor.now_ns.checked_sub(span_ns).map(Some).ok_or_else(out_of_range);
    }
    if let Some((whole, fraction)) = text.strip_prefix('@').and_then(unix_time) {
        let ns = whole.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(fraction));
        return ns.map(Some).ok_or_else(out_of_range);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1)) {
        return time.timestamp_nanos_opt().map(Some).ok_or_else(out_of_range);
    }
    if let Some(time) = date_time(text) {
        return local(text, time).map(Some);
    }
    if let Some(time) = time_of_day(text) {
        return time_on_some_day(text, time, anchor).map(Some);
    }
    Ok(None)
}

/// Whole seconds since 1970, and nanoseconds.
fn unix_time(seconds: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let is_digits = fraction.len() <= 9 && fraction.bytes().all(|b| b.is_ascii_digit());
    if !is_digits {
        return None;
    }
    Some((whole.parse().ok()?, format!("{fraction:0<9}").parse().ok()?))
}

fn date_time(text: &str) -> Option<NaiveDateTime> {
    let forms =
        ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"];
    forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok()).or_else(|| {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        Some(date.and_time(NaiveTime::MIN))
    })
}

fn time_of_day(text: &str) -> Option<NaiveTime> {
    ["%H:%M:%S%.f", "%H:%M"].iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok())
}

/// A time of day without a date: the first one after the start of the span, or the last one that
/// the recording can know of. On the day of a recording that has just ended it may be after its
/// end, up to now: the answer then says how old it is.
fn time_on_some_day(text: &str, time: NaiveTime, anchor: Anchor<'_>) -> anyhow::Result<i64> {
    let on = |date: NaiveDate| local(text, date.and_time(time));
    if let Some(after_ns) = anchor.after_ns {
        let date = Local.timestamp_nanos(after_ns).date_naive();
        let same_day = on(date)?;
        return match date.checked_add_days(Days::new(1)) {
            Some(next) if same_day < after_ns => on(next),
            _ => Ok(same_day),
        };
    }
    let now = Local.timestamp_nanos(anchor.now_ns).date_naive();
    let (from_ns, until_ns) = anchor.recorded_ns.unwrap_or((i64::MIN, anchor.now_ns));
    let until = Local.timestamp_nanos(until_ns.min(anchor.now_ns)).date_naive();
    let last_day = on(until)?;
    let is_known = last_day <= until_ns || (until == now && last_day <= anchor.now_ns);
    let Some(day_before) = until.checked_sub_days(Days::new(1)).filter(|_| !is_known) else {
        return Ok(last_day);
    };
    let before = on(day_before)?;
    Ok(if before < from_ns && last_day <= anchor.now_ns { last_day } else { before })
}

fn local(text: &str, time: NaiveDateTime) -> anyhow::Result<i64> {
    let time = match Local.from_local_datetime(&time) {
        LocalResult::Single(time) => time,
        LocalResult::Ambiguous(a, b) => {
            return Err(usage(
                format!("the local time `{text}` came twice when the clocks were set back"),
                Some(&format!("write `{}` or `{}`", a.to_rfc3339(), b.to_rfc3339())),
            ));
        }
        LocalResult::None => {
            return Err(usage(
                format!("the local time `{text}` never was: the clocks were set forward over it"),
                Some("give an offset, as in `2026-11-21T14:03:00+01:00`"),
            ));
        }
    };
    time.timestamp_nanos_opt()
        .ok_or_else(|| usage(format!("the time `{text}` is out of range"), Some(FORMS)))
}

/// Reads a length of time such as `1s`, `100ms` or `2h30m`; gives nanoseconds above 0.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    let duration = humantime::parse_duration(text.trim()).map_err(|e| {
        let with_unit = text.trim().parse::<f64>().is_ok();
        if with_unit { format!("it has no unit, write `{}s`", text.trim()) } else { e.to_string() }
    })?;
    match i64::try_from(duration.as_nanos()) {
        Ok(0) => Err("it must be above 0".to_owned()),
        Ok(ns) if ns <= LONGEST_NS => Ok(ns),
        _ => Err("the longest is 10 years".to_owned()),
    }
}

/// The interval between ticks.
pub(super) fn parse_interval(text: &str) -> Result<i64, String> {
    match parse_duration(text)? {
        ns if ns < 1_000_000 => Err("the shortest interval is 1ms".to_owned()),
        ns => Ok(ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21 13:03:07.5 UTC
    const NOW: i64 = 1_795_266_187_500_000_000;
    const ANCHOR: Anchor<'_> =
        Anchor { now_ns: NOW, recorded_ns: None, after_ns: None, recording: None };

    fn local_ns(text: &str) -> i64 {
        let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap();
        Local.from_local_datetime(&time).unwrap().timestamp_nanos_opt().unwrap()
    }

    #[test]
    fn every_form_of_a_moment_is_read() {
        let read = |text| parse_moment(text, ANCHOR).unwrap();
        assert_eq!(read("now"), NOW);
        assert_eq!(read("10m ago"), NOW - 600_000_000_000);
        assert_eq!(read("2h30m ago"), NOW - 9_000_000_000_000);
        assert_eq!(read("2026-11-21T13:03:07Z"), NOW - 500_000_000);
        assert_eq!(read("2026-11-21 14:03:07+01:00"), NOW - 500_000_000);
        assert_eq!(read("2026-11-21T13:03:07.123456789Z"), NOW - 376_543_211);
        assert_eq!(read("@1795266187"), NOW - 500_000_000);
        assert_eq!(read("@1795266187.25"), NOW - 250_000_000);
        assert_eq!(read("2026-11-20 14:03"), local_ns("2026-11-20 14:03:00"));
        assert_eq!(read("2026-11-20T14:03:05"), local_ns("2026-11-20 14:03:05"));
        assert_eq!(read("2026-11-20"), local_ns("2026-11-20 00:00:00"));
    }

    #[test]
    fn a_time_of_day_is_the_last_one_that_the_recording_can_know() {
        let (start, noon) = (local_ns("2026-11-10 00:00:00"), local_ns("2026-11-18 12:00:00"));
        let anchor = Anchor { recorded_ns: Some((start, noon)), ..ANCHOR };
        assert_eq!(parse_moment("11:59", anchor).unwrap(), local_ns("2026-11-18 11:59:00"));
        assert_eq!(parse_moment("12:01", anchor).unwrap(), local_ns("2026-11-17 12:01:00"));
        // A recording of that day alone: the question is about that day.
        let morning = local_ns("2026-11-18 08:00:00");
        let anchor = Anchor { recorded_ns: Some((morning, noon)), ..ANCHOR };
        assert_eq!(parse_moment("12:01", anchor).unwrap(), local_ns("2026-11-18 12:01:00"));
    }

    #[test]
    fn a_time_of_day_just_after_the_end_of_todays_recording_is_not_yesterdays() {
        let now = local_ns("2026-11-21 12:10:00");
        let recorded_ns = Some((local_ns("2026-11-20 01:00:00"), local_ns("2026-11-21 12:00:00")));
        let anchor = Anchor { now_ns: now, recorded_ns, ..ANCHOR };
        assert_eq!(parse_moment("12:05", anchor).unwrap(), local_ns("2026-11-21 12:05:00"));
        assert_eq!(parse_moment("12:15", anchor).unwrap(), local_ns("2026-11-20 12:15:00"));
    }

    #[test]
    fn the_end_of_a_span_comes_after_its_start() {
        let anchor = |after: &str| Anchor { after_ns: Some(local_ns(after)), ..ANCHOR };
        let after = anchor("2026-11-18 23:00:00");
        assert_eq!(parse_moment("23:30", after).unwrap(), local_ns("2026-11-18 23:30:00"));
        assert_eq!(parse_moment("00:30", after).unwrap(), local_ns("2026-11-19 00:30:00"));
    }

    #[test]
    fn an_end_before_the_start_is_called_so() {
        let anchor = Anchor { after_ns: Some(NOW - 1_000_000_000), ..ANCHOR };
        let earlier = Local.timestamp_nanos(NOW).format("%H:%M").to_string();
        let error = parse_moment(&earlier, anchor).unwrap_err().to_string();
        assert!(error.contains("ends before it starts"), "{error}");
    }

    #[test]
    fn nonsense_and_the_future_are_refused_with_a_hint() {
        for text in ["", "soon", "25:00", "2026-13-01", "@", "@1.2.3", "@1x", "ago", "5 ago"] {
            assert!(parse_moment(text, ANCHOR).is_err(), "{text}");
        }
        let error = parse_moment("2030-01-01", ANCHOR).unwrap_err();
        assert!(error.to_string().contains("future"));
        assert!(parse_moment("@99999999999999", ANCHOR).is_err());
        assert!(parse_moment("999999999y ago", ANCHOR).is_err());
    }

    #[test]
    fn durations_need_a_unit_and_are_above_zero() {
        assert_eq!(parse_duration("1s"), Ok(1_000_000_000));
        assert_eq!(parse_duration("2h30m"), Ok(9_000_000_000_000));
        assert!(parse_duration("0s").unwrap_err().contains("above 0"));
        assert!(parse_duration("5").unwrap_err().contains("5s"));
        assert!(parse_duration("-1s").is_err());
        assert!(parse_duration("11years").unwrap_err().contains("10 years"));
        assert!(parse_duration("9223372036s").is_err());
        assert!(parse_interval("10us").unwrap_err().contains("1ms"));
    }
}
