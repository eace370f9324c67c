//! Many rows in few statements, whose texts are so few that the database has each of them prepared.
//!
//! Knows how a statement is written for both databases, and of a table only its name, its key and its columns. Building
//! the same statement from a tree of expressions costs more than the database needs to carry it out.

use std::fmt::Write as _;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, Value, Values};

/// Rows of one statement, most first: what is left of a batch goes into smaller ones.
const STATEMENT_ROWS: [usize; 5] = [256, 64, 16, 4, 1];

/// A row of a table that can be inserted in bulk.
pub(crate) trait BulkRow {
    /// The table.
    const TABLE: &'static str;
    /// The column that tells rows apart.
    const KEY: &'static str;
    /// Every column.
    const COLUMNS: &'static [&'static str];

    /// The values in the order of the columns.
    fn push_values(self, values: &mut Vec<Value>);
}

/// Makes a model a [`BulkRow`]: its table, its key and all of its columns.
macro_rules! bulk_row {
    ($model:ty, $table:literal, $key:ident, [$($column:ident),+ $(,)?]) => {
        impl $crate::bulk::BulkRow for $model {
            const TABLE: &'static str = $table;
            const KEY: &'static str = stringify!($key);
            const COLUMNS: &'static [&'static str] = &[$(stringify!($column)),+];

            fn push_values(self, values: &mut Vec<sea_orm::Value>) {
                // Every field: a column that is forgotten does not compile.
                let Self { $($column),+ } = self;
                values.extend([$(sea_orm::Value::from($column)),+]);
            }
        }
    };
}
pub(crate) use bulk_row;

/// Inserts the rows whose key is not there yet; how many there were.
pub(crate) async fn insert_unless_there<C: ConnectionTrait, R: BulkRow>(
    connection: &C,
    rows: Vec<R>,
) -> Result<u64, DbErr> {
    let backend = connection.get_database_backend();
    let (mut rows, mut inserted) = (rows.into_iter(), 0);
    while let Some(count) = STATEMENT_ROWS.into_iter().find(|count| *count <= rows.len()) {
        let mut values = Vec::with_capacity(count * R::COLUMNS.len());
        rows.by_ref().take(count).for_each(|row| row.push_values(&mut values));
        let statement = Statement { sql: text::<R>(backend, count), values: Some(Values(values)), db_backend: backend };
        inserted += connection.execute_raw(statement).await?.rows_affected();
    }
    Ok(inserted)
}

fn text<R: BulkRow>(backend: DbBackend, rows: usize) -> String {
    let columns = R::COLUMNS;
    let mut sql = String::with_capacity(rows * columns.len() * 6);
    sql.push_str("INSERT INTO ");
    sql.push_str(R::TABLE);
    let quoted = columns.iter().enumerate().map(|(index, column)| (if index == 0 { " (\"" } else { ", \"" }, column));
    for (before, column) in quoted {
        sql.extend([before, column, "\""]);
    }
    sql.push_str(") VALUES ");
    for place in 0..rows * columns.len() {
        let (row, column) = (place / columns.len(), place % columns.len());
        sql.push_str(match (row, column) {
            (0, 0) => "(",
            (_, 0) => "), (",
            (_, _) => ", ",
        });
        if backend == DbBackend::Postgres {
            // Writing to a string does not fail.
            let _ = write!(sql, "${}", place + 1);
        } else {
            sql.push('?');
        }
    }
    sql.extend([") ON CONFLICT (\"", R::KEY, "\") DO NOTHING"]);
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair {
        a: String,
        b: i64,
    }

    bulk_row!(Pair, "pairs", a, [a, b]);

    #[test]
    fn a_statement_has_a_place_for_each_value_in_the_way_of_its_database() {
        assert_eq!(
            text::<Pair>(DbBackend::Sqlite, 2),
            r#"INSERT INTO pairs ("a", "b") VALUES (?, ?), (?, ?) ON CONFLICT ("a") DO NOTHING"#
        );
        assert_eq!(
            text::<Pair>(DbBackend::Postgres, 2),
            r#"INSERT INTO pairs ("a", "b") VALUES ($1, $2), ($3, $4) ON CONFLICT ("a") DO NOTHING"#
        );
    }

    #[test]
    fn values_come_in_the_order_of_the_columns() {
        let mut values = Vec::new();
        Pair { a: "x".to_owned(), b: 7 }.push_values(&mut values);
        assert_eq!(values, [Value::from("x"), Value::from(7_i64)]);
    }

    #[tokio::test]
    async fn every_row_of_an_uneven_batch_arrives_once() {
        let store = crate::Store::open("sqlite::memory:").await.unwrap();
        let database = store.writer();
        database.execute_unprepared("CREATE TABLE pairs (a TEXT PRIMARY KEY, b INTEGER)").await.unwrap();
        let rows = || (0..473).map(|b| Pair { a: b.to_string(), b }).collect::<Vec<_>>();
        assert_eq!(insert_unless_there(database, rows()).await.unwrap(), 473);
        assert_eq!(insert_unless_there(database, rows()).await.unwrap(), 0);
        let sum = database
            .query_one_raw(Statement::from_string(DbBackend::Sqlite, "SELECT count(*), sum(b) FROM pairs"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(sum.try_get_by_index::<i64>(0).unwrap(), 473);
        assert_eq!(sum.try_get_by_index::<i64>(1).unwrap(), 473 * 472 / 2);
    }
}
