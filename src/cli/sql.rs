//! `sockrec query sql` and `sockrec query schema`

use std::io::Write;

use super::Exit;
use super::args::{SchemaArgs, SqlArgs};
use super::message::usage;
use super::output::{options, stdout};
use crate::model::{Column, Kind, Value};
use crate::query::{QueryError, Recording, SCHEMA_COLUMNS, column};
use crate::render::{Format, exporter};

pub(super) fn ask(args: &SqlArgs) -> anyhow::Result<Exit> {
    refuse_columns(&args.output.columns, "name them in the SELECT")?;
    let recording = Recording::open(&args.file)?;
    let format = args.output.format.unwrap_or(Format::Table);
    let mut out = exporter(format, &options(&args.output), stdout());
    let mut has_begun = false;
    let names = recording.sql(&args.sql, |names, row| {
        if !has_begun {
            let columns: Vec<_> = names.iter().zip(row).map(|(n, v)| described(n, v)).collect();
            out.begin(&columns)?;
            has_begun = true;
        }
        Ok::<_, QueryError>(out.row(row)?)
    })?;
    let mut finish = || {
        if !has_begun {
            let columns: Vec<_> = names.iter().map(|name| described(name, &Value::Null)).collect();
            out.begin(&columns)?;
        }
        out.finish()
    };
    finish().map_err(QueryError::Output)?;
    Ok(Exit::Fine)
}

pub(super) fn schema(args: &SchemaArgs) -> anyhow::Result<Exit> {
    refuse_columns(&args.output.columns, "`--format csv` or json gives all to be chosen from")?;
    let recording = Recording::open(&args.file)?;
    if args.create {
        let mut out = stdout();
        for statement in recording.statements()? {
            writeln!(out, "{statement}").map_err(QueryError::Output)?;
        }
        return Ok(Exit::Fine);
    }
    let format = args.output.format.unwrap_or(Format::Table);
    let mut out = exporter(format, &options(&args.output), stdout());
    let columns: Vec<_> = SCHEMA_COLUMNS.iter().filter_map(|name| column(name).copied()).collect();
    let rows = recording.schema()?;
    let mut write = || {
        out.begin(&columns)?;
        for row in &rows {
            out.row(&[
                Value::Text(&row.table),
                Value::Text(&row.name),
                row.sql_type.as_deref().map_or(Value::Null, Value::Text),
                row.about.as_deref().map_or(Value::Null, Value::Text),
            ])?;
        }
        out.finish()
    };
    write().map_err(QueryError::Output)?;
    Ok(Exit::Fine)
}

fn refuse_columns(columns: &[String], hint: &str) -> anyhow::Result<()> {
    if columns.is_empty() {
        return Ok(());
    }
    Err(usage("`--columns` does not go with this question", Some(hint)))
}

/// A column of typed SQL. What answers call by this name is of the same kind; else its first value
/// tells. The few names are kept to the end of the process, as those of all other columns are.
fn described(name: &str, first: &Value<'_>) -> Column {
    let known = column(name).map(|column| column.kind);
    let kind = match first {
        Value::Integer(_) | Value::Null => known.filter(|kind| *kind != Kind::Time),
        _ => None,
    };
    let kind = kind.unwrap_or(match first {
        Value::Integer(_) => Kind::Integer,
        Value::Real(_) => Kind::Real,
        Value::Bytes(_) => Kind::Bytes,
        Value::Null | Value::Text(_) => Kind::Text,
    });
    Column { name: String::leak(name.to_owned()), kind, about: "" }
}
