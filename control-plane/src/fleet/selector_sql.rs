//! A selector as a condition of SQL, for statements that list devices. It must never put a key or value into the text: both
//! come from people and travel as bound values.

use aidos_protocol::selector::{Selector, Test};
use std::fmt::Write as _;

/// A condition on a row of `devices` aliased `d`, in both dialects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SelectorSql {
    /// The condition; `1 = 1` for the selector that matches everything.
    pub(crate) text: String,
    /// What to bind, in order, from the number that was asked for.
    pub(crate) values: Vec<String>,
}

/// Writes `selector` as a condition whose first bind is `$first`. The statement must call its table of devices `d` and
/// restrict it to one tenant itself.
pub(crate) fn selector_sql(selector: &Selector, first: usize) -> SelectorSql {
    let mut sql = SelectorSql { text: String::new(), values: Vec::new() };
    for requirement in selector.requirements() {
        if !sql.text.is_empty() {
            sql.text.push_str(" AND ");
        }
        let (negated, wanted): (bool, Vec<&String>) = match &requirement.test {
            Test::Exists => (false, Vec::new()),
            Test::Absent => (true, Vec::new()),
            Test::Equals(value) => (false, vec![value]),
            Test::Differs(value) => (true, vec![value]),
            Test::In(values) => (false, values.iter().collect()),
            Test::NotIn(values) => (true, values.iter().collect()),
        };
        if negated {
            sql.text.push_str("NOT ");
        }
        let key = sql.bind(first, &requirement.key);
        // Writing to a String cannot fail.
        let _ = write!(
            sql.text,
            "EXISTS (SELECT 1 FROM device_labels l WHERE l.tenant_id = d.tenant_id AND l.device_id = d.id AND l.key = {key}"
        );
        if !wanted.is_empty() {
            let binds: Vec<String> = wanted.into_iter().map(|value| sql.bind(first, value)).collect();
            let _ = write!(sql.text, " AND l.value IN ({})", binds.join(", "));
        }
        sql.text.push(')');
    }
    if sql.text.is_empty() {
        sql.text.push_str("1 = 1");
    }
    sql
}

impl SelectorSql {
    fn bind(&mut self, first: usize, value: &str) -> String {
        self.values.push(value.to_owned());
        format!("${}", first + self.values.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_bound_and_none_is_in_the_text() {
        let sql = selector_sql(&"site=lab,gpu notin (none,old),!retired".parse().unwrap(), 3);
        assert_eq!(sql.values, ["site", "lab", "gpu", "none", "old", "retired"]);
        assert_eq!(sql.text.matches("EXISTS").count(), 3);
        assert_eq!(sql.text.matches("NOT EXISTS").count(), 2);
        for bind in 3..=8 {
            assert!(sql.text.contains(&format!("${bind}")), "{}", sql.text);
        }
        assert!(!sql.text.contains("lab,") && !sql.text.contains("retired"));
    }

    #[test]
    fn everything_is_a_true_condition() {
        assert_eq!(selector_sql(&Selector::everything(), 1), SelectorSql { text: "1 = 1".into(), values: vec![] });
    }
}

#[cfg(test)]
mod database_tests;
