//! Questions that people ask in SQL: reading only, bounded in time, rows and bytes, and without the
//! columns that hold secrets.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::limits::{
    SQL_BYTES_MAX, SQL_COLUMNS_MAX, SQL_MEMORY_BYTES_MAX, SQL_ROWS_MAX, SQL_SECONDS_MAX,
    SQL_STEPS_BETWEEN_LOOKS,
};

/// Columns that hold keys or what is sealed elsewhere: a copied answer must not open anything.
const SECRETS: [(&str, &str); 2] = [("facts", "body"), ("pending", "block")];

/// What an SQL question got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SqlAnswer {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows.
    pub rows: Vec<Vec<SqlValue>>,
    /// There were more rows, or more bytes, than are given.
    pub more: bool,
}

/// A value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum SqlValue {
    /// Nothing.
    Null,
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes, such as a feed's key.
    Bytes(Vec<u8>),
}

/// A question that is not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// Something other than one question that only reads.
    #[error("{what} is not allowed here: the index is only read, one SELECT at a time")]
    NotAllowed { what: String },
    /// A column that holds secrets.
    #[error("column {table}.{column} holds secrets and is not shown")]
    Secret {
        table: &'static str,
        column: &'static str,
    },
    /// It took too long.
    #[error("not answered within {seconds} s: ask for less")]
    TooLong { seconds: u64 },
    /// SQLite does not understand it, or could not do it.
    #[error("{reason}")]
    Refused { reason: String },
}

/// Answers a question about the index at `path`, over a connection of its own that cannot write.
pub fn answer(path: &Path, sql: &str) -> Result<SqlAnswer, SqlError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(refused)?;
    connection
        .execute_batch(
            "PRAGMA query_only = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;",
        )
        .map_err(refused)?;
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, SQL_BYTES_MAX),
        (Limit::SQLITE_LIMIT_COLUMN, SQL_COLUMNS_MAX),
        (Limit::SQLITE_LIMIT_LENGTH, SQL_MEMORY_BYTES_MAX),
    ] {
        connection.set_limit(limit, value).map_err(refused)?;
    }
    connection.authorizer(Some(allow)).map_err(refused)?;
    let until = Instant::now() + Duration::from_secs(SQL_SECONDS_MAX);
    connection
        .progress_handler(
            SQL_STEPS_BETWEEN_LOOKS,
            Some(move || Instant::now() >= until),
        )
        .map_err(refused)?;
    read(&connection, sql)
}

fn read(connection: &Connection, sql: &str) -> Result<SqlAnswer, SqlError> {
    let failed = |error: rusqlite::Error| explain(&error, sql);
    let mut statement = connection.prepare(sql).map_err(failed)?;
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(SqlError::NotAllowed {
            what: "a statement that changes something".to_owned(),
        });
    }
    let columns: Vec<String> = statement.column_names().map(Into::into).collect();
    let mut answer = SqlAnswer {
        columns,
        ..SqlAnswer::default()
    };
    let mut bytes = 0;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let mut values = Vec::with_capacity(answer.columns.len());
        for column in 0..answer.columns.len() {
            let value = match row.get_ref(column).map_err(failed)? {
                ValueRef::Null => SqlValue::Null,
                ValueRef::Integer(value) => SqlValue::Integer(value),
                ValueRef::Real(value) => SqlValue::Real(value),
                ValueRef::Text(text) => SqlValue::Text(String::from_utf8_lossy(text).into_owned()),
                ValueRef::Blob(value) => SqlValue::Bytes(value.to_vec()),
            };
            bytes += match &value {
                SqlValue::Text(text) => text.len(),
                SqlValue::Bytes(value) => value.len(),
                SqlValue::Null | SqlValue::Integer(_) | SqlValue::Real(_) => 8,
            };
            values.push(value);
        }
        if answer.rows.len() >= SQL_ROWS_MAX || bytes > SQL_MEMORY_BYTES_MAX as usize {
            answer.more = true;
            break;
        }
        answer.rows.push(values);
    }
    Ok(answer)
}

/// Allows reading, and nothing that could write, open files, load code or read secrets.
fn allow(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Read {
            table_name,
            column_name,
        } if secret(table_name, column_name).is_none() => Authorization::Allow,
        AuthAction::Function { function_name } if is_harmless(function_name) => {
            Authorization::Allow
        }
        // What a full-text table asks of itself.
        AuthAction::Pragma {
            pragma_name: "data_version",
            ..
        } => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

fn secret(table: &str, column: &str) -> Option<(&'static str, &'static str)> {
    let is_meant = |(of, name): &&(&str, &str)| {
        of.eq_ignore_ascii_case(table) && name.eq_ignore_ascii_case(column)
    };
    SECRETS.iter().find(is_meant).copied()
}

fn is_harmless(function: &str) -> bool {
    ![
        "load_extension",
        "writefile",
        "readfile",
        "edit",
        "fts3_tokenizer",
    ]
    .iter()
    .any(|other| other.eq_ignore_ascii_case(function))
}

fn explain(error: &rusqlite::Error, sql: &str) -> SqlError {
    use rusqlite::ErrorCode;

    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => SqlError::TooLong {
            seconds: SQL_SECONDS_MAX,
        },
        Some(ErrorCode::AuthorizationForStatementDenied) => {
            let named = SECRETS
                .iter()
                .find(|(table, column)| reason.contains(&format!("{table}.{column}")));
            match named {
                Some((table, column)) => SqlError::Secret { table, column },
                None => SqlError::NotAllowed {
                    what: sql
                        .split_whitespace()
                        .next()
                        .unwrap_or("this")
                        .to_uppercase(),
                },
            }
        }
        Some(ErrorCode::ReadOnly) => SqlError::NotAllowed {
            what: "writing".to_owned(),
        },
        _ => match error {
            rusqlite::Error::MultipleStatement => SqlError::NotAllowed {
                what: "a second statement".to_owned(),
            },
            _ => SqlError::Refused { reason },
        },
    }
}

fn refused(error: rusqlite::Error) -> SqlError {
    SqlError::Refused {
        reason: error.to_string(),
    }
}
