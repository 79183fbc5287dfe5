//! The interactive prompt: statements over several lines up to a semicolon, history between sessions.

use super::print;
use super::source::Source;
use crate::exit::{self, Failure};
use analyzer::Format;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

const HELP: &str = "\
SELECT …;      runs a query; it may span lines and ends with ;
\\d             lists the tables
\\d NAME        lists the columns of a table
\\format NAME   prints as table, csv or json
\\q             leaves (also Ctrl-D)";

const TABLES: &str = "SELECT table_name FROM information_schema.tables \
                      WHERE table_schema = 'public' ORDER BY table_name";

pub(super) async fn run(source: Source, format: Format) -> Result<(), Failure> {
    // Reading lines blocks, so it has a thread; the runtime stays free for the queries.
    let handle = tokio::runtime::Handle::current();
    let source = Arc::new(source);
    tokio::task::spawn_blocking(move || {
        let ask = |sql: &str, format| handle.block_on(source.run(sql, format));
        read_lines(&ask, format)
    })
    .await
    .map_err(exit::with(exit::SOFTWARE))?
}

/// Runs a query and returns its answer as text.
type Ask<'a> = dyn Fn(&str, Format) -> Result<Vec<u8>, Failure> + 'a;

fn read_lines(ask: &Ask<'_>, mut format: Format) -> Result<(), Failure> {
    let interactive = std::io::stdin().is_terminal();
    let mut editor = DefaultEditor::new().map_err(exit::with(exit::SYSTEM))?;
    let history = interactive.then(history_file).flatten();
    if let Some(file) = &history {
        let _ = editor.load_history(file); // there is none the first time
        eprintln!("Forerunner SQL. \\? for help, \\q to leave.");
    }
    let mut statement = String::new();
    let mut failed = None;
    loop {
        let mark = if statement.is_empty() { "forerunner> " } else { "       ...> " };
        let line = match editor.readline(if interactive { mark } else { "" }) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                statement.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Failure::new(exit::SYSTEM, error)),
        };
        if statement.is_empty() && line.trim_start().starts_with('\\') {
            let _ = editor.add_history_entry(line.trim());
            match command(line.trim(), &mut format) {
                Step::Leave => break,
                Step::Say(text) => eprintln!("{text}"),
                Step::Ask(sql) => show(ask(&sql, format), &mut failed),
            }
            continue;
        }
        statement.push_str(&line);
        statement.push('\n');
        if line.trim_end().ends_with(';') {
            let sql = std::mem::take(&mut statement);
            let _ = editor.add_history_entry(sql.trim());
            show(ask(sql.trim().trim_end_matches(';'), format), &mut failed);
        } else if statement.trim().is_empty() {
            statement.clear();
        }
    }
    if !statement.trim().is_empty() && !interactive {
        show(ask(statement.trim(), format), &mut failed);
    }
    if let Some(file) = &history {
        let _ = editor.save_history(file);
    }
    // A script learns of its failures; a person has read them.
    failed.filter(|_| !interactive).map_or(Ok(()), Err)
}

enum Step {
    Leave,
    Say(String),
    Ask(String),
}

fn command(line: &str, format: &mut Format) -> Step {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match (word, rest.trim()) {
        ("\\q" | "\\quit", _) => Step::Leave,
        ("\\d", "") => Step::Ask(TABLES.to_owned()),
        ("\\d", table) => {
            let name = table.trim_matches('"').replace('\'', "''");
            Step::Ask(format!(
                "SELECT column_name, data_type FROM information_schema.columns \
                 WHERE table_schema = 'public' AND table_name = '{name}' ORDER BY ordinal_position"
            ))
        }
        ("\\format", name) => {
            *format = match name {
                "table" => Format::Table,
                "csv" => Format::Csv,
                "json" => Format::Json,
                _ => return Step::Say("\\format takes table, csv or json".to_owned()),
            };
            Step::Say(format!("rows are printed as {name}"))
        }
        ("\\?" | "\\h" | "\\help", _) => Step::Say(HELP.to_owned()),
        _ => Step::Say(format!("no command {word}; \\? lists them")),
    }
}

fn show(answer: Result<Vec<u8>, Failure>, failed: &mut Option<Failure>) {
    let outcome = answer.and_then(|bytes| {
        print(&bytes)?;
        if !bytes.ends_with(b"\n") && std::io::stdout().is_terminal() {
            print(b"\n")?;
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        eprintln!("{:#}", failure.error);
        failed.get_or_insert(failure);
    }
}

fn history_file() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE"))?;
    Some(PathBuf::from(home).join(".forerunner_history"))
}
