//! What the rooms' tests share: each suite runs on SQLite and on Postgres, each test in a fresh database.

use super::clock::Clock;
use super::db::Db;
use super::http::Events;
use aidos_protocol::time::Micros;
use sqlx::{AssertSqlSafe, Connection, Executor};
use std::future::Future;
use tokio_util::sync::CancellationToken;

/// Where tests begin: 2026-01-01T00:00:00Z.
pub(crate) const START: Micros = Micros(1_767_225_600_000_000);

/// A manual clock at [`START`].
pub(crate) fn clock() -> Clock {
    Clock::manual(START)
}

/// Events that last as long as the test.
pub(crate) fn events(clock: &Clock) -> Events {
    Events::new(clock.clone(), CancellationToken::new())
}

/// A fresh SQLite database in a folder that lives as long as the second value.
pub(crate) async fn sqlite() -> (Db, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::connect(&Db::sqlite_url(&folder.path().join("test.db"))).await.unwrap();
    (db, folder)
}

/// The value of a variable that `cargo xtask test` sets to a server it started.
pub(crate) fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: `cargo xtask test` starts the server and sets it"))
}

/// Runs `suite` on a fresh database of the server in `AIDOS_TEST_POSTGRES_URL`, and drops that database.
pub(crate) async fn on_postgres<F: Future<Output = ()>>(suite: impl FnOnce(Db) -> F) {
    sqlx::any::install_default_drivers();
    let base = server("AIDOS_TEST_POSTGRES_URL");
    let name = format!("aidos_test_{:032x}", rand::random::<u128>());
    let mut admin = sqlx::AnyConnection::connect(&base).await.unwrap();
    admin.execute(sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))).await.unwrap();
    let (front, query) = base.split_once('?').map_or((base.as_str(), String::new()), |(f, q)| (f, format!("?{q}")));
    let (server, _) = front.rsplit_once('/').unwrap();
    let db = Db::connect(&format!("{server}/{name}{query}")).await.unwrap();
    suite(db.clone()).await;
    db.close().await;
    admin.execute(sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)")))).await.unwrap();
}

/// Runs `suite` on a fresh SQLite database.
pub(crate) async fn on_sqlite<F: Future<Output = ()>>(suite: impl FnOnce(Db) -> F) {
    let (db, _folder) = sqlite().await;
    suite(db.clone()).await;
    db.close().await;
}

/// Makes two tests of each `async fn name(db: Db)`: `name::sqlite` and `name::postgres`.
macro_rules! both_stores {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                $crate::platform::testing::on_sqlite(super::$name).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                $crate::platform::testing::on_postgres(super::$name).await;
            }
        }
    )+};
}
pub(crate) use both_stores;
