//! One printer for every answer. An answer is JSON with the contract's field names; a [`Shape`] says which
//! fields a table shows and what they mean.

use crate::exit::Failed;
use clap::ValueEnum;
use serde_json::Value;
use std::io::Write;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns, the telling ones
    #[default]
    Table,
    /// Columns, all of them
    Wide,
    /// One JSON value
    Json,
    /// One JSON value per line
    Jsonl,
    /// YAML
    Yaml,
    /// Comma-separated, with a header, all columns
    Csv,
    /// The shape of the answer instead of the answer
    Help,
}

/// What an answer's items look like.
#[derive(Debug)]
pub struct Shape {
    /// What one item is, with its article.
    pub what: &'static str,
    /// Its fields, in the order of columns.
    pub columns: &'static [Column],
}

/// A field.
#[derive(Debug)]
pub struct Column {
    /// Its path, dotted where nested.
    pub field: &'static str,
    /// What it means.
    pub about: &'static str,
    /// Only in the wide table.
    pub wide: bool,
}

impl Column {
    /// In every table.
    pub const fn new(field: &'static str, about: &'static str) -> Self {
        Self { field, about, wide: false }
    }

    /// In the wide table only.
    pub const fn wide(field: &'static str, about: &'static str) -> Self {
        Self { field, about, wide: true }
    }
}

/// Whether `-o help` was asked for; prints the shape if so. Ask before talking to a cluster.
pub fn helped(output: Output, shape: &Shape) -> Result<bool, Failed> {
    if output != Output::Help {
        return Ok(false);
    }
    std::io::stdout().lock().write_all(render(output, shape, &[], true)?.as_bytes())?;
    Ok(true)
}

/// Prints a list.
pub fn print(output: Output, shape: &Shape, items: Vec<Value>) -> Result<(), Failed> {
    std::io::stdout().lock().write_all(render(output, shape, &items, true)?.as_bytes())?;
    Ok(())
}

/// Prints one item.
pub fn print_one(output: Output, shape: &Shape, item: Value) -> Result<(), Failed> {
    std::io::stdout().lock().write_all(render(output, shape, &[item], false)?.as_bytes())?;
    Ok(())
}

fn render(output: Output, shape: &Shape, items: &[Value], list: bool) -> Result<String, Failed> {
    let other = |error: &dyn std::fmt::Display| Failed::Other(error.to_string());
    let whole = || match items {
        [item] if !list => item.clone(),
        items => Value::Array(items.to_vec()),
    };
    Ok(match output {
        Output::Table => table(shape.columns.iter().filter(|column| !column.wide), items),
        Output::Wide => table(shape.columns.iter(), items),
        Output::Json => serde_json::to_string_pretty(&whole()).map_err(|e| other(&e))? + "\n",
        Output::Jsonl => items.iter().fold(String::new(), |text, item| text + &item.to_string() + "\n"),
        Output::Yaml => serde_yaml_ng::to_string(&whole()).map_err(|e| other(&e))?,
        Output::Csv => csv(shape, items),
        Output::Help => help(shape),
    })
}

fn help(shape: &Shape) -> String {
    let width = shape.columns.iter().map(|column| column.field.len()).max().unwrap_or(0);
    let mut text = format!("Each item is {}:\n", shape.what);
    for Column { field, about, wide } in shape.columns {
        let note = if *wide { " (not in the narrow table)" } else { "" };
        text.push_str(&format!("  {field:width$}  {about}{note}\n"));
    }
    text
}

fn field<'a>(item: &'a Value, path: &str) -> &'a Value {
    path.split('.').try_fold(item, |value, name| value.get(name)).unwrap_or(&Value::Null)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name}={}", cell(value))).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

fn table<'a>(columns: impl Iterator<Item = &'a Column>, items: &[Value]) -> String {
    let columns: Vec<&Column> = columns.collect();
    let header: Vec<String> = columns.iter().map(|c| c.field.replace('.', "_").to_uppercase()).collect();
    let mut rows = vec![header];
    rows.extend(
        items.iter().map(|item| columns.iter().map(|c| printable(&cell(field(item, c.field)))).collect()),
    );
    let widths: Vec<usize> = (0..columns.len())
        .map(|place| rows.iter().map(|row| row[place].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Labels and names come from others: nothing of them may steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn csv(shape: &Shape, items: &[Value]) -> String {
    let quote = |text: String| {
        if text.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text
        }
    };
    let header: Vec<String> = shape.columns.iter().map(|c| c.field.to_owned()).collect();
    let mut text = header.join(",") + "\n";
    for item in items {
        let plain = |value: &Value| if value.is_null() { String::new() } else { cell(value) };
        let row: Vec<String> = shape.columns.iter().map(|c| quote(plain(field(item, c.field)))).collect();
        text.push_str(&(row.join(",") + "\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SHAPE: Shape = Shape {
        what: "a thing",
        columns: &[
            Column::new("name", "its name"),
            Column::new("config.size", "how large"),
            Column::wide("labels", "more"),
        ],
    };

    fn items() -> Vec<Value> {
        vec![
            json!({ "name": "a,b", "config": { "size": 7 }, "labels": { "x": "y" } }),
            json!({ "name": "long \"name\"", "config": {}, "labels": {} }),
        ]
    }

    #[test]
    fn an_empty_list_is_a_list() {
        assert_eq!(render(Output::Json, &SHAPE, &[], true).unwrap(), "[]\n");
        assert_eq!(render(Output::Yaml, &SHAPE, &[], true).unwrap(), "[]\n");
        assert_eq!(render(Output::Jsonl, &SHAPE, &[], true).unwrap(), "");
        assert_eq!(render(Output::Table, &SHAPE, &[], true).unwrap(), "NAME  CONFIG_SIZE\n");
    }

    #[test]
    fn one_item_is_not_a_list_unless_it_is_one_of_many() {
        let one = [json!({ "name": "a" })];
        assert!(render(Output::Json, &SHAPE, &one, false).unwrap().starts_with('{'));
        assert!(render(Output::Json, &SHAPE, &one, true).unwrap().starts_with('['));
    }

    #[test]
    fn columns_line_up_and_csv_quotes() {
        assert_eq!(
            render(Output::Wide, &SHAPE, &items(), true).unwrap(),
            "NAME         CONFIG_SIZE  LABELS\na,b          7            x=y\nlong \"name\"  -\n"
        );
        assert_eq!(
            render(Output::Csv, &SHAPE, &items(), true).unwrap(),
            "name,config.size,labels\n\"a,b\",7,x=y\n\"long \"\"name\"\"\",,\n"
        );
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        let item = [json!({ "name": "a\u{1b}[2Jb", "config": { "size": 1 } })];
        assert!(!render(Output::Table, &SHAPE, &item, true).unwrap().contains('\u{1b}'));
    }

    #[test]
    fn help_prints_the_shape() {
        let text = render(Output::Help, &SHAPE, &[], true).unwrap();
        assert!(text.contains("a thing") && text.contains("config.size  how large"), "{text}");
    }
}
