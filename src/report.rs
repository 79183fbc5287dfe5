//! Reports about what is stored, as files.

use crate::exit::{self, Failure};
use crate::query::Place;
use crate::query::source::Source;
use crate::role::block_on;
use clap::{Args, Subcommand};
use platform::durable;
use std::path::PathBuf;

/// What `report` takes.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(subcommand)]
    command: ReportCommand,
}

/// The reports.
#[derive(Debug, Subcommand)]
enum ReportCommand {
    /// When each resource is full, with intervals and pictures
    Capacity {
        #[command(flatten)]
        place: Place,
        /// The file to write: .html, .md, .csv or .json
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

pub(crate) fn run(args: ReportArgs) -> Result<(), Failure> {
    telemetry::trace::start("error");
    let ReportCommand::Capacity { place, out } = args.command;
    let kind = out.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
    if !["html", "md", "csv", "json"].contains(&kind) {
        let out = out.display();
        let text = format!("{out}: a report ends in .html, .md, .csv or .json");
        return Err(Failure::text(exit::USAGE, text));
    }
    block_on(async {
        let report = Source::open(place).await?.capacity().await?;
        let text = match kind {
            "html" => report.html(),
            "md" => report.markdown(),
            "csv" => report.csv(),
            _ => report.json(),
        };
        durable::replace(&out, text.as_bytes()).map_err(exit::with(exit::SYSTEM))?;
        let count = report.resources.len();
        let noun = if count == 1 { "resource" } else { "resources" };
        eprintln!("{}: {count} {noun}", out.display());
        Ok(())
    })
}
