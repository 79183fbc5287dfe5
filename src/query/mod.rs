//! SQL from the command line, answered by a running monitor or from the files alone.

mod prompt;
pub(crate) mod source;

use crate::exit::{self, Failure};
use crate::role::block_on;
use analyzer::Format;
use clap::{Args, ValueEnum};
use source::Source;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

/// Which store is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The monitor to ask [default: http://127.0.0.1:9490]
    #[arg(long, conflicts_with = "data_dir")]
    pub(crate) url: Option<String>,
    /// The data directory; to read it, a monitor that runs on it is asked, to write, none may run
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// A file with the token to send
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// What `query` takes.
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    place: Place,
    /// How to print rows [default: table on a terminal, else csv]
    #[arg(long, value_enum)]
    format: Option<Output>,
    /// The query; without it, a prompt
    sql: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Csv,
    Json,
    Arrow,
    Parquet,
}

impl Output {
    fn format(self) -> Format {
        match self {
            Self::Table => Format::Table,
            Self::Csv => Format::Csv,
            Self::Json => Format::Json,
            Self::Arrow => Format::Arrow,
            Self::Parquet => Format::Parquet,
        }
    }
}

pub(crate) fn run(args: QueryArgs) -> Result<(), Failure> {
    telemetry::trace::start("warn");
    let default = if std::io::stdout().is_terminal() { Format::Table } else { Format::Csv };
    let format = args.format.map_or(default, Output::format);
    block_on(async {
        let source = Source::open(args.place).await?;
        match args.sql {
            Some(sql) => print(&source.run(&sql, format).await?),
            None => prompt::run(source, format).await,
        }
    })
}

/// Writes an answer to standard output. A reader that has gone, as `head` does, is no failure.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(exit::SYSTEM, error))
        }
        _ => Ok(()),
    }
}
