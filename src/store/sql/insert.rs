//! Inserts of one row, made from the names of its columns.
//! Takes a table, and a value per column; returns a statement that names each column with its value. Guarantees that no value can land in another column.

use sqlx::any::AnyQueryResult;
use sqlx::{Any, Executor, Result};

use super::{Statement, Text, ToSql, sql};

/// A new row of a table.
///
/// ```ignore
/// insert_into("subscriptions")
///     .set("account", account)
///     .set("subscription_id", id)
///     .set("facts", facts)
///     .or_replace("account, subscription_id")
///     .execute(&mut *tx)
/// ```
pub(crate) fn insert_into(table: &'static str) -> Insert {
    Insert { table, columns: Vec::new(), row: sql(""), conflict: Text::from("") }
}

/// An insert of one row.
#[must_use = "an insert does nothing until it is executed"]
pub(crate) struct Insert {
    table: &'static str,
    columns: Vec<&'static str>,
    row: Statement,
    conflict: Text,
}

impl Insert {
    /// Sets a column.
    pub(crate) fn set(mut self, column: &'static str, value: impl ToSql) -> Self {
        self.columns.push(column);
        self.row = self.row.set(column, value);
        self
    }

    /// Leaves an existing row as it is.
    pub(crate) fn or_ignore(mut self) -> Self {
        self.conflict = Text::from(" on conflict do nothing");
        self
    }

    /// Replaces every other column of the row that has the same key, `account, id`.
    pub(crate) fn or_replace(mut self, key: &'static str) -> Self {
        let is_key = |column: &str| key.split(", ").any(|part| part == column);
        let others = self.columns.iter().filter(|column| !is_key(column));
        let assigned = joined(others, |text, column| text + column + " = excluded." + column);
        self.conflict = Text::from(" on conflict (") + key + ") do update set " + assigned;
        self
    }

    /// Runs it.
    ///
    /// # Errors
    /// If the database fails, or a constraint does not hold.
    pub(crate) async fn execute<'e>(
        self,
        executor: impl Executor<'e, Database = Any>,
    ) -> Result<AnyQueryResult> {
        self.statement().execute(executor).await
    }

    /// As a statement whose text ends with this piece: what to do with an existing row, what to
    /// return.
    pub(crate) fn then(self, piece: &'static str) -> Statement {
        self.statement().then(piece)
    }

    fn statement(mut self) -> Statement {
        let columns = joined(self.columns.iter(), |text, column| text + column);
        let values = joined(self.columns.iter(), |text, column| text + ":" + column);
        self.row.text = Text::from("insert into ")
            + self.table
            + " ("
            + columns
            + ") values ("
            + values
            + ")"
            + self.conflict;
        self.row
    }
}

/// The columns, each written by `write`, with commas between them.
fn joined<'c>(
    columns: impl Iterator<Item = &'c &'static str>,
    write: impl Fn(Text, &'static str) -> Text,
) -> Text {
    columns.enumerate().fold(Text::from(""), |text, (at, column)| {
        write(if at == 0 { text } else { text + ", " }, column)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_has_its_value() {
        let row = || insert_into("waits").set("account", "").set("id", 1).set("said", None::<&str>);
        let text = |insert: Insert| insert.statement().text.0.into_owned();
        let plain = "insert into waits (account, id, said) values (:account, :id, :said)";
        assert_eq!(text(row()), plain);
        assert_eq!(text(row().or_ignore()), format!("{plain} on conflict do nothing"));
        let replaced = "on conflict (account, id) do update set said = excluded.said";
        assert_eq!(text(row().or_replace("account, id")), format!("{plain} {replaced}"));
    }
}
