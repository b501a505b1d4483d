//! `kinlog index`, `query` and `why`: what the index holds, and why things are as they are.

use clap::{Args, Subcommand};
use kinlog_agent::api::{Reply, Request, WhyReason};
use serde_json::Value;

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{clean, count, date};
use crate::target::Context;

/// Characters of one value in a table; `--json` gives all.
const VALUE_CHARACTERS_MAX: usize = 60;

#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Make the index anew from the feeds
    Rebuild,
    /// Look whether the index holds together; a damaged one is made anew
    Check,
    /// Show the hash that is the same for the same entries and keys
    DumpHash,
}

#[derive(Args, Debug)]
pub(crate) struct QueryArguments {
    /// One SELECT over the tables of the index (docs/index.md)
    sql: String,
}

#[derive(Args, Debug)]
pub(crate) struct WhyArguments {
    /// Own path, key or link of a feed; with --room a message
    thing: String,

    /// The room of the message
    #[arg(long)]
    room: Option<String>,
}

pub(crate) async fn run(command: IndexCommand, context: &Context<'_>) -> Result<(), Failure> {
    let request = match command {
        IndexCommand::Rebuild => Request::Index { rebuild: true },
        IndexCommand::Check => Request::IndexCheck,
        IndexCommand::DumpHash => Request::Index { rebuild: false },
    };
    let output = context.output;
    for reply in context.ask(request).await? {
        match &reply {
            Reply::Index { .. } | Reply::IndexChecked { .. } if output.is_json() => {
                output.json(&reply)?;
            }
            Reply::Index {
                dump_hash,
                entries,
                pending,
                behind,
            } => {
                output.data(&clean(dump_hash))?;
                let waiting = match pending {
                    0 => String::new(),
                    some => format!(", {} sealed until their keys come", count(*some, "block")),
                };
                let behind = match behind {
                    0 => String::new(),
                    some => format!(", {} still to be read", count(*some, "block")),
                };
                output.say(format!("{entries} entries{waiting}{behind}"));
            }
            Reply::IndexChecked { problems, rebuilt } => {
                for problem in problems {
                    output.data(&clean(problem))?;
                }
                output.say(if *rebuilt {
                    "the index was damaged and is made anew"
                } else {
                    "the index holds"
                });
            }
            other => return Err(unexpected(other)),
        }
    }
    Ok(())
}

pub(crate) async fn query(arguments: QueryArguments, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let sql = arguments.sql;
    for reply in context.ask(Request::Query { sql }).await? {
        let Reply::Rows {
            columns,
            rows,
            more,
        } = &reply
        else {
            return Err(unexpected(&reply));
        };
        if output.is_json() {
            output.json(&reply)?;
            continue;
        }
        for line in table(columns, rows) {
            output.data(&line)?;
        }
        if *more {
            output.say("there is more: ask for less, or use LIMIT and OFFSET");
        }
    }
    Ok(())
}

pub(crate) async fn why(arguments: WhyArguments, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let request = Request::Why {
        thing: arguments.thing,
        room: arguments.room,
    };
    for reply in context.ask(request).await? {
        let Reply::Why { reasons, .. } = &reply else {
            return Err(unexpected(&reply));
        };
        if output.is_json() {
            output.json(&reply)?;
            continue;
        }
        for WhyReason {
            from,
            text,
            by,
            at_ms,
        } in reasons
        {
            let by = by.as_ref().map(|by| format!("  by {}", clean(by)));
            let at = at_ms.map(|at| format!("  {}", date(at)));
            let end = output.paint().faint(&format!(
                "{}{}",
                by.unwrap_or_default(),
                at.unwrap_or_default()
            ));
            output.data(&format!("{:<10} {}{end}", clean(from), clean(text)))?;
        }
    }
    Ok(())
}

/// Returns the lines of a table, columns under each other.
fn table(columns: &[String], rows: &[Vec<Value>]) -> Vec<String> {
    let shown = |value: &Value| -> String {
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) => clean(text),
            other => other.to_string(),
        };
        if text.chars().count() <= VALUE_CHARACTERS_MAX {
            return text;
        }
        text.chars()
            .take(VALUE_CHARACTERS_MAX - 1)
            .chain(['…'])
            .collect()
    };
    let head = columns.iter().map(|name| clean(name)).collect::<Vec<_>>();
    let body = rows
        .iter()
        .map(|row| row.iter().map(shown).collect::<Vec<_>>());
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    lines
        .iter()
        .map(|line| {
            let cells = line.iter().zip(&widths);
            let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_stand_under_each_other_and_nothing_escapes() {
        let rows = [
            vec![json!("long name"), json!(1)],
            vec![json!("a\u{1b}[2J"), Value::Null],
            vec![json!("x".repeat(100)), json!(2.5)],
        ];
        let lines = table(&["who".into(), "n".into()], &rows);
        assert_eq!(lines[1].find('1'), Some(62), "{lines:#?}");
        assert!(lines[3].ends_with("…  2.5"), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.chars().any(char::is_control)));
    }
}
