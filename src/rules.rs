//! Rule files from the command line: checked before they are used, and tested.

use crate::exit::{self, Failure};
use crate::query::Place;
use crate::query::source::Source;
use crate::role::block_on;
use alerts::{Checked, Fault};
use analyzer::Format;
use clap::Subcommand;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What can be done with rule files.
#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Say what is wrong with rule files, with line, column and remedy; asks the monitor which metrics there are
    Check {
        #[command(flatten)]
        place: Place,
        /// Take rules on metrics that no target has ever exposed; needs no monitor
        #[arg(long)]
        allow_unknown_metrics: bool,
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run tests of rules: series in, alerts out, in promtool's form
    Test {
        /// The files with the tests
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

pub(crate) fn run(command: RulesCommand) -> Result<(), Failure> {
    telemetry::trace::start("error");
    match command {
        RulesCommand::Check { place, allow_unknown_metrics, files } => {
            let checked = if allow_unknown_metrics {
                alerts::check(&files, None)
            } else {
                block_on_value(check_with(place, &files))?
            };
            let Checked { rules, faults, .. } = checked;
            faults.iter().for_each(|fault| println!("{fault}"));
            if !faults.is_empty() {
                let text = format!(
                    "{} in {}",
                    counted(faults.len(), "fault"),
                    counted(files.len(), "file")
                );
                return Err(Failure::text(exit::NO, text));
            }
            eprintln!("{}: fit for use", counted(rules, "rule"));
            Ok(())
        }
        RulesCommand::Test { files } => {
            let (mut checked, mut failed, mut unfit) = (0, 0, 0);
            for file in &files {
                match alerts::test(file) {
                    Ok((count, differences)) => {
                        (checked, failed) = (checked + count, failed + differences.len());
                        differences.iter().for_each(|it| println!("{it}"));
                    }
                    Err(faults) => {
                        unfit += 1;
                        faults.iter().for_each(|fault| println!("{fault}"));
                    }
                }
            }
            let unfit = (unfit > 0).then(|| format!("{} not fit for use", counted(unfit, "file")));
            let failed =
                (failed > 0).then(|| format!("{failed} of {} failed", counted(checked, "test")));
            let wrong: Vec<String> = unfit.into_iter().chain(failed).collect();
            if !wrong.is_empty() {
                return Err(Failure::text(exit::NO, wrong.join(", ")));
            }
            eprintln!("{} passed", counted(checked, "test"));
            Ok(())
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Checks with what a monitor knows: which metrics there are, and whether it can answer the queries.
async fn check_with(place: Place, files: &[PathBuf]) -> Result<Checked, Failure> {
    let unreachable = |failure: Failure| {
        let text = format!(
            "{}; to check without asking which metrics there are, add --allow-unknown-metrics",
            failure.error
        );
        Failure::text(exit::UNAVAILABLE, text)
    };
    let source = Source::open(place).await.map_err(unreachable)?;
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'";
    let answer = source.run(sql, Format::Csv).await.map_err(unreachable)?;
    let known: BTreeSet<String> =
        String::from_utf8_lossy(&answer).lines().skip(1).map(str::to_owned).collect();
    let mut checked = alerts::check(files, Some(&known));
    for (at, sql) in std::mem::take(&mut checked.queries) {
        if let Err(failure) = source.run(&sql, Format::Csv).await {
            let why = format!("the query has no answer: {}", failure.error);
            checked.faults.push(Fault { why, ..at });
        }
    }
    Ok(checked)
}

fn block_on_value<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut value = None;
    block_on(async {
        value = Some(work.await?);
        Ok(())
    })?;
    value.ok_or_else(|| Failure::text(exit::SOFTWARE, "no answer"))
}
