//! Typed SQL: statements with named values, and rows whose columns decode themselves.
//! Takes a constant text with `:name` for each value; returns rows and typed columns.
//! Guarantees that a text consists of constant pieces, so that a value never becomes part of it,
//! and that a name without a value is an error.

mod insert;
mod row;
mod value;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Add;

use sqlx::any::{AnyArguments, AnyQueryResult};
use sqlx::error::BoxDynError;
use sqlx::{Any, Arguments as _, AssertSqlSafe, Error, Executor, Result};

pub(crate) use insert::insert_into;
pub(crate) use row::{FromRow, Row, from_row};
pub(crate) use value::{FromSql, ToSql, Value};

/// A statement without values yet.
///
/// ```ignore
/// sql("update visits set host = :host where click_id = :click_id")
///     .set("host", host)
///     .set("click_id", id)
///     .execute(&mut *tx)
/// ```
pub(crate) fn sql(text: impl Into<Text>) -> Statement {
    Statement { text: text.into(), values: Vec::new() }
}

/// The text of a statement, made of constant pieces only.
#[derive(Clone, Debug)]
pub(crate) struct Text(Cow<'static, str>);

impl From<&'static str> for Text {
    fn from(piece: &'static str) -> Self {
        Self(Cow::Borrowed(piece))
    }
}

impl Add<&'static str> for Text {
    type Output = Self;

    fn add(self, piece: &'static str) -> Self {
        Self(self.0 + piece)
    }
}

impl Add for Text {
    type Output = Self;

    fn add(self, piece: Self) -> Self {
        Self(Cow::Owned(self.0.into_owned() + &piece.0))
    }
}

impl Add<i64> for Text {
    type Output = Self;

    fn add(self, number: i64) -> Self {
        Self(Cow::Owned(format!("{}{number}", self.0)))
    }
}

/// A text with names, and their values.
#[must_use = "a statement does nothing until it is executed or its rows are read"]
pub(crate) struct Statement {
    text: Text,
    values: Vec<(&'static str, Given)>,
}

/// The value of a name.
enum Given {
    One(Value),
    List(Vec<Value>),
    Rows(Vec<Vec<Value>>),
}

impl Statement {
    /// Sets the value of `:name`. The text need not contain it.
    pub(crate) fn set(mut self, name: &'static str, value: impl ToSql) -> Self {
        self.values.push((name, Given::One(value.to_sql())));
        self
    }

    /// Sets the values of a list, `in (:name)`. The text always has `places` of them, so that it
    /// stays the same: the first value is repeated. `values` has at least one and at most `places`
    /// items.
    pub(crate) fn set_list<T: ToSql>(
        mut self,
        name: &'static str,
        values: &[T],
        places: usize,
    ) -> Self {
        let padded =
            values.iter().chain(std::iter::repeat(&values[0])).take(places.max(values.len()));
        self.values.push((name, Given::List(padded.map(ToSql::to_sql).collect())));
        self
    }

    /// Sets rows of values, all of one length: `values :name` becomes `values ($1, $2), ($3, $4)`.
    pub(crate) fn set_rows(mut self, name: &'static str, rows: Vec<Vec<Value>>) -> Self {
        self.values.push((name, Given::Rows(rows)));
        self
    }

    /// Asks how the database would answer, on SQLite.
    #[cfg(test)]
    pub(crate) fn explained(mut self) -> Self {
        self.text = Text::from("explain query plan ") + self.text;
        self
    }

    /// Appends a piece.
    pub(crate) fn then(mut self, piece: impl Into<Text>) -> Self {
        self.text = self.text + " " + piece.into();
        self
    }

    /// Appends `and CONDITION` if there is a value for its name; otherwise the text does not
    /// change, so the planner sees only conditions that are used.
    pub(crate) fn and(self, condition: &'static str, value: Option<impl ToSql>) -> Self {
        let Some(value) = value else { return self };
        let name = condition.split_once(':').map_or("", |(_, rest)| leading_name(rest));
        self.then("and").then(condition).set(name, value)
    }

    /// Runs a statement that writes.
    ///
    /// # Errors
    /// If the database fails, or names and values do not match.
    pub(crate) async fn execute<'e>(
        self,
        executor: impl Executor<'e, Database = Any>,
    ) -> Result<AnyQueryResult> {
        let (text, arguments) = self.numbered()?;
        sqlx::query_with(text, arguments).execute(executor).await
    }

    /// Every row.
    ///
    /// # Errors
    /// As [`Statement::execute`].
    pub(crate) async fn fetch_all<'e>(
        self,
        executor: impl Executor<'e, Database = Any>,
    ) -> Result<Vec<Row>> {
        let (text, arguments) = self.numbered()?;
        let rows = sqlx::query_with(text, arguments).fetch_all(executor).await?;
        Ok(rows.into_iter().map(Row).collect())
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// As [`Statement::execute`].
    pub(crate) async fn fetch_optional<'e>(
        self,
        executor: impl Executor<'e, Database = Any>,
    ) -> Result<Option<Row>> {
        let (text, arguments) = self.numbered()?;
        Ok(sqlx::query_with(text, arguments).fetch_optional(executor).await?.map(Row))
    }

    /// The first row.
    ///
    /// # Errors
    /// As [`Statement::execute`]; [`Error::RowNotFound`] if there is none.
    pub(crate) async fn fetch_one<'e>(
        self,
        executor: impl Executor<'e, Database = Any>,
    ) -> Result<Row> {
        self.fetch_optional(executor).await?.ok_or(Error::RowNotFound)
    }

    /// Every row as a `T`.
    ///
    /// # Errors
    /// As [`Statement::execute`], or if a column cannot be read.
    pub(crate) async fn all<'e, T: FromRow>(
        self,
        executor: impl Executor<'e, Database = Any>,
    ) -> Result<Vec<T>> {
        self.fetch_all(executor).await?.iter().map(T::from_row).collect()
    }

    /// The first row as a `T`, if there is one.
    ///
    /// # Errors
    /// As [`Statement::all`].
    pub(crate) async fn optional<'e, T: FromRow>(
        self,
        executor: impl Executor<'e, Database = Any>,
    ) -> Result<Option<T>> {
        self.fetch_optional(executor).await?.as_ref().map(T::from_row).transpose()
    }

    /// The first row as a `T`.
    ///
    /// # Errors
    /// As [`Statement::all`]; [`Error::RowNotFound`] if there is none.
    pub(crate) async fn one<'e, T: FromRow>(
        self,
        executor: impl Executor<'e, Database = Any>,
    ) -> Result<T> {
        T::from_row(&self.fetch_one(executor).await?)
    }

    /// The first column of every row.
    ///
    /// # Errors
    /// As [`Statement::all`].
    pub(crate) async fn values<'e, T: FromSql>(
        self,
        executor: impl Executor<'e, Database = Any>,
    ) -> Result<Vec<T>> {
        self.fetch_all(executor).await?.iter().map(|row| row.get(0)).collect()
    }

    /// The first column of the first row.
    ///
    /// # Errors
    /// As [`Statement::one`].
    pub(crate) async fn value<'e, T: FromSql>(
        self,
        executor: impl Executor<'e, Database = Any>,
    ) -> Result<T> {
        self.fetch_one(executor).await?.get(0)
    }

    /// The text with `$1`, `$2`, … in the order in which the names occur, and the values in that
    /// order.
    fn numbered(self) -> Result<(AssertSqlSafe<String>, AnyArguments)> {
        let mut arguments = AnyArguments::default();
        let mut known: Vec<(&str, String)> = Vec::new();
        let text = replace_names(&self.text.0, |name| {
            if let Some((_, places)) = known.iter().find(|(known, _)| *known == name) {
                return Ok(places.clone());
            }
            let mut given = self.values.iter().filter(|(given, _)| *given == name);
            let (Some((name, given)), None) = (given.next(), given.next()) else {
                return Err(misfit(&format!(":{name} needs one value"), &self.text));
            };
            let places = given.add_to(&mut arguments).map_err(Error::Encode)?;
            known.push((name, places.clone()));
            Ok(places)
        })?;
        Ok((AssertSqlSafe(text), arguments))
    }
}

fn misfit(what: &str, text: &Text) -> Error {
    Error::Encode(format!("{what} in: {}", text.0).into())
}

/// Replaces every `:name` outside of quoted text and comments.
fn replace_names<'t>(
    text: &'t str,
    mut places: impl FnMut(&'t str) -> Result<String>,
) -> Result<String> {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '-', ':']) {
        let (before, from) = rest.split_at(at);
        replaced.push_str(before);
        let name = from.strip_prefix(':').map_or("", leading_name);
        let taken = if name.is_empty() { literal(from) } else { 1 + name.len() };
        if name.is_empty() {
            replaced.push_str(&from[..taken]);
        } else {
            replaced.push_str(&places(name)?);
        }
        rest = &from[taken..];
    }
    replaced.push_str(rest);
    Ok(replaced)
}

/// Length of the quoted text, comment or other character that begins a text.
fn literal(text: &str) -> usize {
    let end = match text.as_bytes() {
        [b'\'', ..] => text[1..].find('\'').map(|at| at + 2),
        [b'-', b'-', ..] => text.find('\n'),
        _ => Some(1),
    };
    end.unwrap_or(text.len())
}

fn leading_name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

impl Given {
    /// Adds the values, and returns their places: `$3`, `$3, $4, $5` or `($3, $4), ($5, $6)`.
    fn add_to(&self, arguments: &mut AnyArguments) -> Result<String, BoxDynError> {
        match self {
            Self::One(value) => add_all(std::slice::from_ref(value), arguments),
            Self::List(values) => add_all(values, arguments),
            Self::Rows(rows) => {
                let rows = rows.iter().map(|row| Ok(format!("({})", add_all(row, arguments)?)));
                Ok(rows.collect::<Result<Vec<_>, BoxDynError>>()?.join(", "))
            }
        }
    }
}

fn add_all(values: &[Value], arguments: &mut AnyArguments) -> Result<String, BoxDynError> {
    let mut places = String::new();
    for value in values {
        value.add_to(arguments)?;
        let comma = if places.is_empty() { "" } else { ", " };
        write!(places, "{comma}${}", arguments.len())?;
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn text(statement: Statement) -> String {
        statement.numbered().map_or_else(|error| error.to_string(), |(text, _)| text.0)
    }

    #[test]
    fn names_become_numbers_outside_of_quotes() {
        let rows = [
            ("select 1", "select 1"),
            ("a = :a and b = :b or a <> :a", "a = $1 and b = $2 or a <> $1"),
            ("k = 'first:' || :a", "k = 'first:' || $1"),
            ("k = 'it''s :no' and x = :b", "k = 'it''s :no' and x = $1"),
            ("values (:b, :a_1)", "values ($1, $2)"),
            ("id in (:ids) and b = :b", "id in ($1, $2, $3) and b = $4"),
            ("values :rows", "values ($1, $2), ($3, $4)"),
            ("a - :a -- it's :no\n and :b", "a - $1 -- it's :no\n and $2"),
            ("a = :a -- so: not :no", "a = $1 -- so: not :no"),
        ];
        for (given, expected) in rows {
            let statement = sql(given).set("a", 1).set("a_1", 1).set("b", "x");
            let statement = statement.set_list("ids", &[7, 8], 3);
            let rows = vec![vec![1.to_sql(), "x".to_sql()], vec![2.to_sql(), "y".to_sql()]];
            assert_eq!(text(statement.set_rows("rows", rows)), expected, "{given}");
        }
    }

    #[test]
    fn every_name_needs_one_value() {
        let rows = [
            ("none", sql("select :a").set("b", 1)),
            ("two", sql("select :a").set("a", 1).set("a", 2)),
        ];
        for (name, statement) in rows {
            assert!(text(statement).contains(":a needs one value"), "{name}");
        }
    }

    #[test]
    fn a_condition_without_a_value_is_not_in_the_text() {
        let of = |state: Option<&str>| {
            let list = sql("select id from deliveries where id < :after").set("after", "z");
            text(list.and("state = :state", state).then("limit :limit").set("limit", 5))
        };
        assert_eq!(of(None), "select id from deliveries where id < $1 limit $2");
        let filtered = "select id from deliveries where id < $1 and state = $2 limit $3";
        assert_eq!(of(Some("held")), filtered);
    }

    #[test]
    fn a_null_keeps_its_type() {
        assert_eq!(None::<&str>.to_sql(), Value::Text(None));
        assert_eq!(None::<Timestamp>.to_sql(), Value::Int(None));
        assert_eq!(Some(&Timestamp::from_ms(5)).to_sql(), Value::Int(Some(5)));
        assert_eq!(true.to_sql(), Value::Int(Some(1)));
    }
}
