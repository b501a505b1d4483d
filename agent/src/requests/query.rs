//! SQL of people over the index.

use kinlog_feeds::text;
use kinlog_indexer::index::{SqlError, SqlValue, answer_sql};
use serde_json::{Value, json};

use crate::api::{Error, Reply};
use crate::core::Core;

pub(super) fn query(core: &Core, sql: &str) -> Result<Reply, Error> {
    let answer = answer_sql(&core.layout.index(), sql)?;
    let rows = answer.rows.into_iter();
    Ok(Reply::Rows {
        columns: answer.columns,
        rows: rows
            .map(|row| row.into_iter().map(value).collect())
            .collect(),
        more: answer.more,
    })
}

/// Bytes are shown as keys are.
fn value(value: SqlValue) -> Value {
    match value {
        SqlValue::Null => Value::Null,
        SqlValue::Integer(value) => json!(value),
        SqlValue::Real(value) => json!(value),
        SqlValue::Text(text) => Value::String(text),
        SqlValue::Bytes(bytes) => Value::String(text::encode(&bytes)),
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        let message = error.to_string();
        match error {
            SqlError::NotAllowed { .. } | SqlError::Secret { .. } => Error::permission(message),
            SqlError::TooLong { .. } => Error::general(message),
            _ => Error::usage(message)
                .hint("docs/index.md lists the tables and columns that may be asked"),
        }
    }
}
