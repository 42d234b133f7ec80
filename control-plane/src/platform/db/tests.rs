//! What every store relies on, on both databases.

use super::*;
use crate::platform::testing::{both_stores, sqlite};
use sqlx::Row;

both_stores!(
    every_type_and_null_reads_back_as_it_was_written,
    a_second_row_with_the_same_key_is_a_conflict_and_an_upsert_is_not,
    a_dropped_transaction_leaves_nothing_and_writers_take_turns,
    what_follows_a_transaction_is_done_once_it_is_durable_only,
    a_connection_made_twice_migrates_once,
);

async fn table(db: &Db) {
    let blob = if db.dialect() == Dialect::Sqlite { "BLOB" } else { "BYTEA" };
    let text = format!("CREATE TABLE spike (id TEXT PRIMARY KEY, n BIGINT, x DOUBLE PRECISION, b {blob}, t TEXT)");
    db.pool().execute(sqlx::raw_sql(sqlx::AssertSqlSafe(text))).await.unwrap();
}

async fn every_type_and_null_reads_back_as_it_was_written(db: Db) {
    table(&db).await;
    let mut tx = db.begin().await.unwrap();
    let insert = "INSERT INTO spike (id, n, x, b, t) VALUES ($1, $2, $3, $4, $5) RETURNING id, n, x, b, t";
    let full = sqlx::query(insert).bind("a").bind(7_i64).bind(0.5_f64).bind(vec![0_u8, 255]).bind("ü");
    let row = full.fetch_one(&mut *tx).await.unwrap();
    assert_eq!(row.get::<Option<i64>, _>("n"), Some(7));
    assert_eq!(row.get::<f64, _>("x"), 0.5);
    assert_eq!(row.get::<Vec<u8>, _>("b"), vec![0, 255]);
    assert_eq!(row.get::<Option<String>, _>("t").as_deref(), Some("ü"));
    let empty = sqlx::query(insert)
        .bind("b")
        .bind(None::<i64>)
        .bind(None::<f64>)
        .bind(None::<Vec<u8>>)
        .bind(None::<String>)
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert_eq!(empty.get::<Option<i64>, _>("n"), None);
    assert_eq!(empty.get::<Option<f64>, _>("x"), None);
    assert_eq!(empty.get::<Option<Vec<u8>>, _>("b"), None);
    assert_eq!(empty.get::<Option<String>, _>("t"), None);
    tx.commit().await.unwrap();
    let row = sqlx::query("SELECT COUNT(*) AS c, CAST(SUM(n) AS BIGINT) AS s, MAX(x) AS m FROM spike WHERE id IN ($1, $2)")
        .bind("a")
        .bind("b")
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!((row.get::<i64, _>("c"), row.get::<i64, _>("s"), row.get::<f64, _>("m")), (2, 7, 0.5));
}

async fn a_second_row_with_the_same_key_is_a_conflict_and_an_upsert_is_not(db: Db) {
    table(&db).await;
    let insert = "INSERT INTO spike (id, n) VALUES ($1, $2)";
    sqlx::query(insert).bind("a").bind(1_i64).execute(db.pool()).await.unwrap();
    let twice = sqlx::query(insert).bind("a").bind(2_i64).execute(db.pool()).await.unwrap_err();
    assert!(matches!(StoreError::from(twice), StoreError::Conflict(_)));
    let upsert = "INSERT INTO spike (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = excluded.n + spike.n RETURNING n";
    let row = sqlx::query(upsert).bind("a").bind(2_i64).fetch_one(db.pool()).await.unwrap();
    assert_eq!(row.get::<i64, _>("n"), 3);
    let none = sqlx::query("SELECT id FROM spike WHERE id = $1").bind("z").fetch_one(db.pool()).await.err().unwrap();
    assert!(matches!(StoreError::from(none), StoreError::NotFound));
}

async fn a_dropped_transaction_leaves_nothing_and_writers_take_turns(db: Db) {
    table(&db).await;
    let mut tx = db.begin().await.unwrap();
    sqlx::query("INSERT INTO spike (id, n) VALUES ($1, $2)").bind("gone").bind(1_i64).execute(&mut *tx).await.unwrap();
    drop(tx);
    sqlx::query("INSERT INTO spike (id, n) VALUES ('c', 0)").execute(db.pool()).await.unwrap();
    let writers = (0..20).map(|_| {
        let db = db.clone();
        tokio::spawn(async move {
            let mut tx = db.begin().await.unwrap();
            sqlx::query("UPDATE spike SET n = n + 1 WHERE id = 'c'").execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let rows = sqlx::query("SELECT id, n FROM spike").fetch_all(db.pool()).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<i64, _>("n"), 20);
}

async fn what_follows_a_transaction_is_done_once_it_is_durable_only(db: Db) {
    table(&db).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let telling = |text: &'static str| {
        let tell = tell.clone();
        move || tell.send(text).unwrap()
    };
    let mut tx = db.begin().await.unwrap();
    tx.afterwards(telling("given up"));
    drop(tx);
    let mut tx = db.begin().await.unwrap();
    tx.afterwards(telling("first"));
    tx.afterwards(telling("second"));
    assert!(told.try_recv().is_err(), "it is not durable yet");
    tx.commit().await.unwrap();
    assert_eq!((told.try_recv(), told.try_recv()), (Ok("first"), Ok("second")));
    assert!(told.try_recv().is_err());
}

async fn a_connection_made_twice_migrates_once(db: Db) {
    db.migrate().await.unwrap();
    db.ping().await.unwrap();
}

#[tokio::test]
async fn a_locked_database_says_who_may_hold_it() {
    let (db, folder) = sqlite().await;
    let other = Db::connect(&Db::sqlite_url(&folder.path().join("test.db"))).await.unwrap();
    let _held = db.begin().await.unwrap();
    let refused = other.begin().await.err().unwrap();
    assert!(matches!(&refused, StoreError::Unavailable(text) if text.contains("locked by another writer")), "{refused}");
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_changed() {
    let (db, _folder) = sqlite().await;
    let mut tx = db.begin().await.unwrap();
    let pages = sqlx::query("PRAGMA page_count").fetch_one(&mut *tx).await.unwrap();
    let pages: i64 = pages.get(0);
    tx.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")))).await.unwrap();
    let error = tx.execute("CREATE TABLE big AS SELECT randomblob(100000) AS b").await.unwrap_err();
    let error = StoreError::from(error);
    assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("full")), "{error}");
}

#[tokio::test]
async fn a_database_that_is_not_there_or_not_one_says_so() {
    let gone = Db::connect("postgres://nobody@127.0.0.1:1/none").await.err().unwrap();
    assert!(matches!(&gone, StoreError::Unavailable(text) if text.contains("cannot be reached")), "{gone}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a #1?.db");
    Db::connect(&Db::sqlite_url(&file)).await.unwrap().close().await;
    assert!(file.exists());
    std::fs::write(folder.path().join("text.db"), vec![b'x'; 4096]).unwrap();
    let broken = Db::connect(&Db::sqlite_url(&folder.path().join("text.db"))).await.err().unwrap();
    assert!(matches!(&broken, StoreError::Unavailable(text) if text.contains("damaged")), "{broken}");
    let other = Db::connect("mysql://x/y").await.err().unwrap();
    assert!(other.to_string().contains("`sqlite://` or `postgres://`"));
}

/// Writers that wait while one holds the turn, each the value that it adds, `None` when it gives up.
async fn queued(db: &Db, writers: impl IntoIterator<Item = Option<i64>>) -> Vec<Result<(), StoreError>> {
    let first = db.begin().await.unwrap();
    let waiting = writers.into_iter().map(|adds| {
        let db = db.clone();
        tokio::spawn(async move {
            let mut tx = db.begin().await?;
            let n = adds.unwrap_or(1_000);
            sqlx::query("UPDATE spike SET n = n + $1 WHERE id = 'c'").bind(n).execute(&mut *tx).await?;
            if adds.is_some() { tx.commit().await } else { Ok(()) }
        })
    });
    let waiting: Vec<_> = waiting.collect();
    tokio::task::yield_now().await;
    drop(first);
    let mut done = Vec::new();
    for writer in waiting {
        done.push(writer.await.unwrap());
    }
    done
}

#[tokio::test]
async fn those_who_wait_together_share_a_commit() {
    let (db, _folder) = sqlite().await;
    table(&db).await;
    sqlx::query("INSERT INTO spike (id, n) VALUES ('c', 0)").execute(db.pool()).await.unwrap();
    let read = || sqlx::query("SELECT n FROM spike");
    let first = db.begin().await.unwrap();
    let writer = async {
        let mut tx = db.begin().await.unwrap();
        sqlx::query("UPDATE spike SET n = 1").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    };
    let next = async {
        let mut tx = db.begin().await.unwrap();
        let within: i64 = read().fetch_one(&mut *tx).await.unwrap().get("n");
        let durable: i64 = read().fetch_one(db.pool()).await.unwrap().get("n");
        assert_eq!((within, durable), (1, 0), "the next writer is in the same transaction, and it is not committed yet");
        tx.commit().await.unwrap();
    };
    tokio::join!(writer, next, async { drop(first) });
    assert_eq!(read().fetch_one(db.pool()).await.unwrap().get::<i64, _>("n"), 1);
}

#[tokio::test]
async fn one_that_gives_up_takes_nothing_with_it() {
    let (db, folder) = sqlite().await;
    table(&db).await;
    sqlx::query("INSERT INTO spike (id, n) VALUES ('c', 0)").execute(db.pool()).await.unwrap();
    for done in queued(&db, [Some(1), None, Some(10), None, Some(100), None]).await {
        done.unwrap();
    }
    // Another process sees what was confirmed, and can write: nothing is left open.
    let other = Db::connect(&Db::sqlite_url(&folder.path().join("test.db"))).await.unwrap();
    let row = sqlx::query("SELECT n FROM spike").fetch_one(other.pool()).await.unwrap();
    assert_eq!(row.get::<i64, _>("n"), 111);
    drop(db.begin().await.unwrap());
    let mut tx = other.begin().await.unwrap();
    sqlx::query("UPDATE spike SET n = 0").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn callers_that_go_away_at_any_point_hold_nothing_up() {
    let (db, folder) = sqlite().await;
    table(&db).await;
    sqlx::query("INSERT INTO spike (id, n) VALUES ('c', 0)").execute(db.pool()).await.unwrap();
    let mut confirmed = 0;
    // Polled so many times and dropped: within the wait, the beginning, the statement and the commit.
    for polls in 0..40 {
        let mut leaving = Box::pin(async {
            let mut tx = db.begin().await?;
            sqlx::query("UPDATE spike SET n = n + 1000 WHERE id = 'c'").execute(&mut *tx).await?;
            tx.commit().await
        });
        for _ in 0..polls {
            if futures::poll!(&mut leaving).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(leaving);
        for done in queued(&db, [Some(1), Some(1)]).await {
            done.unwrap();
            confirmed += 1;
        }
    }
    let row = sqlx::query("SELECT n FROM spike").fetch_one(db.pool()).await.unwrap();
    assert_eq!(row.get::<i64, _>("n") % 1_000, confirmed, "what others were told of is there");
    let other = Db::connect(&Db::sqlite_url(&folder.path().join("test.db"))).await.unwrap();
    other.begin().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn when_the_disk_fills_within_a_group_nobody_is_told_of_success_that_was_not() {
    let (db, _folder) = sqlite().await;
    table(&db).await;
    sqlx::query("INSERT INTO spike (id, n) VALUES ('c', 0)").execute(db.pool()).await.unwrap();
    let mut confirmed = 0;
    for round in 0..3 {
        let filling = {
            let db = db.clone();
            async move {
                let mut tx = db.begin().await.unwrap();
                let pages: i64 = sqlx::query("PRAGMA page_count").fetch_one(&mut *tx).await.unwrap().get(0);
                tx.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")))).await.unwrap();
                tx.execute("CREATE TABLE big AS SELECT randomblob(100000) AS b").await.unwrap_err();
                tx.execute("PRAGMA max_page_count = 1000000").await.unwrap();
            }
        };
        let (done, ()) = tokio::join!(queued(&db, [Some(1), Some(1), Some(1)]), filling);
        confirmed += done.iter().filter(|done| done.is_ok()).count();
        let row = sqlx::query("SELECT n FROM spike").fetch_one(db.pool()).await.unwrap();
        assert_eq!(row.get::<i64, _>("n"), i64::try_from(confirmed).unwrap(), "after round {round}");
    }
    // And it goes on.
    queued(&db, [Some(1)]).await.remove(0).unwrap();
}
