//! The registry's tables. Every statement names the tenant; what returns nothing but tenants or belongs to none says so.

pub(super) mod artifacts;
pub(super) mod chunks;
pub(super) mod deltas;
pub(super) mod models;
pub(super) mod releases;
pub(super) mod settings;
pub(super) mod trust;
pub(super) mod versions;

use sqlx::{Row as _, any::AnyRow};

/// Reads a text column as what it should be.
pub(super) fn parsed<T>(row: &AnyRow, column: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.try_get::<String, _>(column)?.parse().map_err(|error| undecodable(column, error))
}

/// The same where the column may be empty.
pub(super) fn optional<T>(row: &AnyRow, column: &str) -> Result<Option<T>, sqlx::Error>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|error| undecodable(column, error))).transpose()
}

/// Reads a JSON column.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(&row.try_get::<String, _>(column)?).map_err(|error| undecodable(column, error))
}

/// Reads a count or a length.
pub(super) fn unsigned(row: &AnyRow, column: &str) -> Result<u64, sqlx::Error> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|error| undecodable(column, error))
}

/// A number that the borders of this room have bounded far below `i64::MAX`.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn undecodable(column: &str, source: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(source) }
}
