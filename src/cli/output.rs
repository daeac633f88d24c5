//! How we speak: data on stdout, talk on stderr. The only place that prints.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde_json::Value;

/// How lists are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON array.
    Json,
}

/// Writes data to stdout. Whoever reads it may stop early (`| head`): that is no failure.
pub fn data(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes talk to stderr.
pub fn talk(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Shows `text` on stderr in place of what was last shown so; for terminals.
pub fn progress(text: &str) {
    let mut err = io::stderr().lock();
    let _ = write!(err, "\r\u{1b}[2K{text}").and_then(|()| err.flush());
}

/// A list of records with the same members; `columns` are printed, in that order.
pub fn list(format: Format, columns: &[&str], records: &[Value]) {
    match format {
        Format::Json => data(&Value::from(records.to_vec()).to_string()),
        Format::Table => data(&table(columns, records)),
    }
}

fn table(columns: &[&str], records: &[Value]) -> String {
    let cell = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut rows = vec![columns.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>()];
    rows.extend(records.iter().map(|r| columns.iter().map(|name| cell(&r[*name])).collect()));
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A secret from a prompt on a terminal, else the first line of stdin; never from the arguments,
/// which every process of the machine can read.
pub fn secret(prompt: &str) -> io::Result<String> {
    if io::stdin().is_terminal() {
        return rpassword::prompt_password(prompt);
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let records = [json!({"id": "a", "name": null}), json!({"id": "long", "name": "x"})];
        assert_eq!(table(&["id", "name"], &records), "ID    NAME\na     -\nlong  x");
    }
}
