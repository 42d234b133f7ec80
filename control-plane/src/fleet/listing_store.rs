//! Finding devices in the database: by labels, state and text, in an order, page by page. It reads `devices`, the mirrored labels and
//! the rows that are searched, and changes nothing but a device's name; other statements that change devices stand in `store`.

use super::search_store;
use super::selector_sql::selector_sql;
use super::store::{DEVICE_COLUMNS, DeviceRow, parsed};
use crate::platform::db::StoreError;
use aidos_protocol::api::devices::{DeviceSort, DeviceState};
use aidos_protocol::selector::Selector;
use aidos_protocol::{DeviceId, TenantId};
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, AnyPool, FromRow as _, Row};
use std::collections::BTreeMap;

/// Devices per statement that asks for labels: far below the bind limits of both databases.
const DEVICES_PER_STATEMENT: usize = 500;

/// Digits of an id that a searched text needs before ids are looked at: fewer are in half of them.
const ID_DIGITS: usize = 4;

/// Found devices that are read and put in order one by one; of more, the first are looked for in the order itself.
pub(super) const MANY: i64 = 2_000;

/// Which devices.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeviceFilter {
    /// By their labels.
    pub(crate) selector: Selector,
    /// By whether they can be reached.
    pub(crate) state: Option<DeviceState>,
    /// By a part of their name, address or a label's value, or the begin of their id; letters of both cases are the same.
    pub(crate) text: Option<String>,
}

/// The place of a device in an order: the next page begins after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// In [`DeviceSort::Name`].
    Name(String, DeviceId),
    /// In [`DeviceSort::Newest`].
    Newest(DeviceId),
    /// In [`DeviceSort::LastSeen`]; -1 for never.
    LastSeen(i64, DeviceId),
}

impl Place {
    /// The place of `row` in the order `sort`.
    pub(crate) fn of(row: &DeviceRow, sort: DeviceSort) -> Self {
        match sort {
            DeviceSort::Name => Self::Name(row.name.clone(), row.id),
            DeviceSort::Newest => Self::Newest(row.id),
            DeviceSort::LastSeen => Self::LastSeen(row.last_seen.map_or(-1, |at| at.0), row.id),
        }
    }

    /// The order that it is a place in.
    pub(crate) fn sort(&self) -> DeviceSort {
        match self {
            Self::Name(..) => DeviceSort::Name,
            Self::Newest(_) => DeviceSort::Newest,
            Self::LastSeen(..) => DeviceSort::LastSeen,
        }
    }
}

enum Bind {
    Text(String),
    Number(i64),
}

/// A statement that grows, with what is bound to it.
struct Statement {
    text: String,
    binds: Vec<Bind>,
}

impl Statement {
    fn bind(&mut self, value: Bind) -> String {
        self.binds.push(value);
        format!("${}", self.binds.len())
    }
    fn text(&mut self, value: impl Into<String>) -> String {
        self.bind(Bind::Text(value.into()))
    }

    async fn fetch(self, pool: &AnyPool) -> Result<Vec<AnyRow>, StoreError> {
        // Postgres plans a statement that it keeps without the text that is searched for, and then walks through the whole order.
        let mut query = sqlx::query::<Any>(sqlx::AssertSqlSafe(self.text)).persistent(false);
        for bind in self.binds {
            query = match bind {
                Bind::Text(text) => query.bind(text),
                Bind::Number(number) => query.bind(number),
            };
        }
        Ok(query.fetch_all(pool).await?)
    }

    /// The first `limit` devices.
    async fn devices(mut self, pool: &AnyPool, limit: usize) -> Result<Vec<DeviceRow>, StoreError> {
        let limit = self.bind(Bind::Number(i64::try_from(limit).unwrap_or(i64::MAX)));
        self.text += &format!(" LIMIT {limit}");
        let rows = self.fetch(pool).await?;
        Ok(rows.iter().map(DeviceRow::from_row).collect::<Result<_, _>>()?)
    }
}

/// The devices of `filter` after `after` in the order `sort`, at most `limit`.
pub(super) async fn list(
    pool: &AnyPool,
    tenant: TenantId,
    filter: &DeviceFilter,
    sort: DeviceSort,
    after: Option<&Place>,
    limit: usize,
) -> Result<Vec<DeviceRow>, StoreError> {
    let mut sql = Statement { text: String::new(), binds: vec![Bind::Text(tenant.to_string())] };
    let (mut name, mut id) = ("d.name", "d.id");
    match &filter.text {
        None => sql.text = "SELECT d.* FROM devices d WHERE d.tenant_id = $1".into(),
        // What was heard of last is in no row of the search: where many are found, the first of them come soon in that order.
        Some(text) if sort == DeviceSort::LastSeen && finds_many(pool, tenant, text).await? => {
            let found = found(&mut sql, text);
            sql.text = format!(
                "SELECT d.* FROM devices d WHERE d.tenant_id = $1 AND EXISTS (SELECT 1 FROM device_search s \
                 WHERE s.tenant_id = d.tenant_id AND s.device_id = d.id AND {found})"
            );
        }
        Some(text) => {
            (name, id) = ("s.name", "s.device_id");
            let found = found(&mut sql, text);
            // CROSS: SQLite looks through the search first and takes up a device only once it is found.
            sql.text = format!(
                "SELECT d.* FROM device_search s CROSS JOIN devices d WHERE s.tenant_id = $1 AND {found} \
                 AND d.tenant_id = s.tenant_id AND d.id = s.device_id"
            );
        }
    }
    narrow(&mut sql, &filter.selector, filter.state);
    let order = match sort {
        DeviceSort::Name => format!("{name}, {id}"),
        DeviceSort::Newest => format!("{id} DESC"),
        DeviceSort::LastSeen => "COALESCE(d.last_seen_us, -1) DESC, d.id DESC".into(),
    };
    match after {
        None => {}
        Some(Place::Name(after, device)) => {
            let (after, device) = (sql.text(after.clone()), sql.text(device.to_string()));
            sql.text += &format!(" AND ({name} > {after} OR ({name} = {after} AND {id} > {device}))");
        }
        Some(Place::Newest(device)) => {
            let device = sql.text(device.to_string());
            sql.text += &format!(" AND {id} < {device}");
        }
        Some(Place::LastSeen(at, device)) => {
            let (at, device) = (sql.bind(Bind::Number(*at)), sql.text(device.to_string()));
            let seen = "COALESCE(d.last_seen_us, -1)";
            sql.text += &format!(" AND ({seen} < {at} OR ({seen} = {at} AND d.id < {device}))");
        }
    }
    sql.text += &format!(" ORDER BY {order}");
    sql.devices(pool, limit).await
}

/// The devices that match and may connect, by id after `after`, at most `limit`.
pub(super) async fn matching(
    pool: &AnyPool,
    tenant: TenantId,
    selector: &Selector,
    after: Option<DeviceId>,
    limit: usize,
) -> Result<Vec<DeviceRow>, StoreError> {
    let mut sql = Statement { text: String::new(), binds: vec![Bind::Text(tenant.to_string())] };
    sql.text = format!("SELECT {DEVICE_COLUMNS} FROM devices d WHERE d.tenant_id = $1 AND d.state = 'active'");
    narrow(&mut sql, selector, None);
    if let Some(id) = after {
        let id = sql.text(id.to_string());
        sql.text += &format!(" AND d.id > {id}");
    }
    sql.text += " ORDER BY d.id";
    sql.devices(pool, limit).await
}

fn narrow(sql: &mut Statement, selector: &Selector, state: Option<DeviceState>) {
    if !selector.is_everything() {
        let condition = selector_sql(selector, sql.binds.len() + 1);
        sql.binds.extend(condition.values.into_iter().map(Bind::Text));
        sql.text += &format!(" AND ({})", condition.text);
    }
    sql.text += match state {
        None => "",
        Some(DeviceState::Online) => " AND d.state = 'active' AND d.session IS NOT NULL",
        Some(DeviceState::Offline) => " AND d.state = 'active' AND d.session IS NULL",
        Some(DeviceState::Revoked) => " AND d.state = 'revoked'",
    };
}

/// The condition on a row `s` of the search that holds where `text` is found.
fn found(sql: &mut Statement, text: &str) -> String {
    let part = sql.text(format!("%{}%", literal(text)));
    let digits = text.strip_prefix("dev_").unwrap_or(text);
    if digits.len() < ID_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit() || digit == b'-') {
        return format!("s.text LIKE {part} ESCAPE '!'");
    }
    let begin = sql.text(format!("dev!_{}%", literal(digits)));
    format!("(s.text LIKE {part} ESCAPE '!' OR s.device_id LIKE {begin} ESCAPE '!')")
}

/// Whether `text` is found at more devices than are quickly put in order.
async fn finds_many(pool: &AnyPool, tenant: TenantId, text: &str) -> Result<bool, StoreError> {
    let mut sql = Statement { text: String::new(), binds: vec![Bind::Text(tenant.to_string())] };
    let found = found(&mut sql, text);
    let limit = sql.bind(Bind::Number(MANY));
    sql.text = format!(
        "SELECT COUNT(*) AS devices FROM (SELECT 1 FROM device_search s WHERE s.tenant_id = $1 AND {found} LIMIT {limit}) AS few"
    );
    let counted = sql.fetch(pool).await?.first().map(|row| row.try_get::<i64, _>("devices")).transpose()?;
    Ok(counted == Some(MANY))
}

/// `text` within a LIKE pattern, in lower case: it means itself, whatever characters it has.
fn literal(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern
}

/// The labels of `devices`, those without any left out.
pub(super) async fn labels(
    pool: &AnyPool,
    tenant: TenantId,
    devices: &[DeviceId],
) -> Result<BTreeMap<DeviceId, BTreeMap<String, String>>, StoreError> {
    let mut labels: BTreeMap<DeviceId, BTreeMap<String, String>> = BTreeMap::new();
    for chunk in devices.chunks(DEVICES_PER_STATEMENT) {
        let binds: Vec<String> = (0..chunk.len()).map(|index| format!("${}", index + 2)).collect();
        let sql = format!(
            "SELECT device_id, key, value FROM device_labels WHERE tenant_id = $1 AND device_id IN ({})",
            binds.join(", ")
        );
        let mut query = sqlx::query::<Any>(sqlx::AssertSqlSafe(sql)).persistent(false).bind(tenant.to_string());
        for device in chunk {
            query = query.bind(device.to_string());
        }
        for row in query.fetch_all(pool).await? {
            let device = parsed(&row, "device_id")?;
            labels.entry(device).or_default().insert(row.try_get("key")?, row.try_get("value")?);
        }
    }
    Ok(labels)
}

/// Names the device, unless its revision is another than `if_revision`. Returns the new revision.
pub(super) async fn rename(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    name: &str,
    if_revision: i64,
) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query::<Any>(
        "UPDATE devices SET name = $3, revision = revision + 1 \
         WHERE tenant_id = $1 AND id = $2 AND revision = $4 RETURNING revision",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(name.to_owned())
    .bind(if_revision)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    search_store::rename(tx, tenant, device, name).await?;
    Ok(Some(row.try_get("revision")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_searched_text_means_itself() {
        assert_eq!(literal("50%_Off!"), "50!%!_off!!");
    }
}
