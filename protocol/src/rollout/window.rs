//! Maintenance windows: when a device may change versions, in its own local time.
//!
//! ```text
//! window = span { ";" span }
//! span   = days time "-" time | time "-" time
//! days   = day [ "-" day ] { "," day [ "-" day ] }          time = HH ":" MM
//! ```
//! `Mon-Fri 22:00-04:00` opens on five evenings and closes on the mornings after them. The reader of the clock turns the
//! moment into local time; this module only compares.

use crate::syntax::{Cursor, SyntaxError};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The most spans of one window.
pub const MAX_SPANS: usize = 16;
/// Minutes from Monday 00:00 to Sunday 24:00.
pub const MINUTES_OF_WEEK: u32 = 7 * MINUTES_OF_DAY;
const MINUTES_OF_DAY: u32 = 24 * 60;
/// Bytes of the text: [`MAX_SPANS`] spans with each day named.
const MAX_LENGTH: usize = 1_024;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// When changes are allowed, by minute of the local week.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Window(Vec<Span>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Span {
    /// Bit 0 is Monday.
    days: u8,
    /// Minute of the day it opens.
    from: u32,
    /// Minute of the day it closes; not after `from`: on the next day.
    to: u32,
}

impl Span {
    fn minutes(self) -> u32 {
        if self.to > self.from { self.to - self.from } else { self.to + MINUTES_OF_DAY - self.from }
    }
    /// The minutes of the week at which it opens.
    fn opens(self) -> impl Iterator<Item = u32> {
        (0..7).filter(move |day| self.days & (1 << day) != 0).map(move |day| day * MINUTES_OF_DAY + self.from)
    }
}

impl Window {
    /// Minutes until it opens, from `minute` of the local week (0 is Monday 00:00); 0 while it is open.
    pub fn opens_in(&self, minute: u32) -> u32 {
        let minute = minute % MINUTES_OF_WEEK;
        let wait = |span: &Span| {
            let length = span.minutes();
            span.opens().map(move |open| {
                let since = (minute + MINUTES_OF_WEEK - open) % MINUTES_OF_WEEK;
                if since < length { 0 } else { MINUTES_OF_WEEK - since }
            })
        };
        self.0.iter().flat_map(wait).min().unwrap_or(0)
    }

    /// Whether it is open at `minute` of the local week.
    pub fn contains(&self, minute: u32) -> bool {
        self.opens_in(minute) == 0
    }
}

impl FromStr for Window {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text.len() > MAX_LENGTH {
            let cut = text.floor_char_boundary(MAX_LENGTH);
            return Err(SyntaxError::new(&text[..cut], cut, format!("a window has at most {MAX_LENGTH} bytes")));
        }
        let mut cursor = Cursor::new(text);
        let mut spans = Vec::new();
        loop {
            cursor.skip_space();
            if spans.len() == MAX_SPANS {
                return Err(cursor.error(format!("a window has at most {MAX_SPANS} spans")));
            }
            spans.push(cursor.span()?);
            cursor.skip_space();
            if cursor.at_end() {
                return Ok(Self(spans));
            }
            if !cursor.eat(';') {
                return Err(cursor.expected("`;` or the end"));
            }
        }
    }
}

impl Cursor<'_> {
    fn span(&mut self) -> Result<Span, SyntaxError> {
        let days = if self.rest().starts_with(|c: char| c.is_ascii_alphabetic()) { self.days()? } else { 0x7f };
        self.skip_space();
        let from = self.time()?;
        if !self.eat('-') {
            return Err(self.expected("`-` and the time it closes"));
        }
        let to = self.time()?;
        Ok(Span { days, from: from % MINUTES_OF_DAY, to })
    }

    fn days(&mut self) -> Result<u8, SyntaxError> {
        let mut days = 0;
        loop {
            let first = self.day()?;
            let last = if self.eat('-') { self.day()? } else { first };
            // `Fri-Mon` goes over the weekend.
            let mut day = first;
            days |= 1 << day;
            while day != last {
                day = (day + 1) % 7;
                days |= 1 << day;
            }
            if !self.eat(',') {
                return Ok(days);
            }
        }
    }

    fn day(&mut self) -> Result<u32, SyntaxError> {
        let name = self.rest().get(..3).unwrap_or_default();
        let Some(day) = DAYS.iter().position(|day| day.eq_ignore_ascii_case(name)) else {
            return Err(self.expected("a day: Mon, Tue, Wed, Thu, Fri, Sat or Sun"));
        };
        self.at += 3;
        Ok(day as u32)
    }

    fn time(&mut self) -> Result<u32, SyntaxError> {
        let text = self.rest().get(..5).filter(|text| text.as_bytes()[2] == b':');
        let number = |range: std::ops::Range<usize>| {
            let digits = text?.get(range)?;
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u32>().ok()).flatten()
        };
        match (number(0..2), number(3..5)) {
            (Some(hours), Some(minutes)) if minutes < 60 && hours * 60 + minutes <= MINUTES_OF_DAY => {
                self.at += 5;
                Ok(hours * 60 + minutes)
            }
            _ => Err(self.expected("a time from 00:00 to 24:00")),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, span) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            if span.days != 0x7f {
                let names: Vec<&str> = (0..7).filter(|day| span.days & (1 << day) != 0).map(|day| DAYS[day]).collect();
                write!(f, "{} ", names.join(","))?;
            }
            write!(f, "{:02}:{:02}-{:02}:{:02}", span.from / 60, span.from % 60, span.to / 60, span.to % 60)?;
        }
        Ok(())
    }
}
impl From<Window> for String {
    fn from(window: Window) -> String {
        window.to_string()
    }
}
impl TryFrom<String> for Window {
    type Error = SyntaxError;
    fn try_from(text: String) -> Result<Self, SyntaxError> {
        text.parse()
    }
}
impl utoipa::PartialSchema for Window {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("When devices may change versions, in their local time"))
            .examples([serde_json::json!("Mon-Fri 22:00-04:00")])
            .build()
            .into()
    }
}
impl utoipa::ToSchema for Window {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(day: u32, hour: u32, minute: u32) -> u32 {
        day * MINUTES_OF_DAY + hour * 60 + minute
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_evening_it_opens() {
        let window: Window = "Mon-Fri 22:00-04:00".parse().unwrap();
        assert!(window.contains(at(0, 22, 0)) && window.contains(at(5, 3, 59)));
        assert!(!window.contains(at(0, 3, 0)), "Monday's small hours belong to Sunday");
        assert!(!window.contains(at(5, 4, 0)));
        assert_eq!(window.opens_in(at(5, 4, 0)), at(7, 22, 0) - at(5, 4, 0));
        assert_eq!(window.opens_in(at(0, 21, 30)), 30);
    }

    #[test]
    fn days_and_times_are_lists_ranges_or_left_out() {
        let weekend: Window = "Sat,Sun 00:00-24:00".parse().unwrap();
        assert!(weekend.contains(at(6, 23, 59)) && !weekend.contains(at(0, 0, 0)));
        let daily: Window = "01:00-02:00; 13:00-14:00".parse().unwrap();
        assert!(daily.contains(at(3, 13, 30)) && !daily.contains(at(3, 2, 0)));
        assert!("Fri-Mon 10:00-11:00".parse::<Window>().unwrap().contains(at(6, 10, 0)));
        assert_eq!(daily.to_string(), "01:00-02:00; 13:00-14:00");
    }

    #[test]
    fn an_error_shows_where_and_what_to_do() {
        let column = |text: &str| text.parse::<Window>().unwrap_err().column();
        assert_eq!(column("Mon-Fry 22:00-04:00"), 5);
        assert_eq!(column("22:00"), 6);
        assert_eq!(column("22:60-23:00"), 1);
        assert_eq!(column("22:00-25:00"), 7);
        assert_eq!(column("22:00-23:00, 1"), 12);
        assert_eq!(column(""), 1);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_prints_back(text in "(Mon|Sat|-|,|;| |[0-9]{2}:[0-9]{2}|\\PC){0,12}", minute in 0..MINUTES_OF_WEEK) {
            if let Ok(window) = text.parse::<Window>() {
                let again = window.to_string().parse::<Window>().unwrap();
                prop_assert_eq!(again.opens_in(minute), window.opens_in(minute));
                prop_assert!(window.contains(minute + window.opens_in(minute)));
            }
        }
    }
}
