//! Rule files from the command line: checked before they are used, and tested.

use crate::exit::{self, Failure};
use crate::query::Place;
use crate::query::source::Source;
use crate::role::block_on;
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
            let known = if allow_unknown_metrics { None } else { Some(known(place)?) };
            let (rules, faults) = alerts::check(&files, known.as_ref());
            faults.iter().for_each(|fault| println!("{fault}"));
            if !faults.is_empty() {
                let text = format!("{} faults in {} files", faults.len(), files.len());
                return Err(Failure::text(exit::NO, text));
            }
            eprintln!("{rules} rules: fit for use");
            Ok(())
        }
        RulesCommand::Test { files } => {
            let (mut checked, mut failed) = (0, 0);
            for file in &files {
                match alerts::test(file) {
                    Ok((count, differences)) => {
                        (checked, failed) = (checked + count, failed + differences.len());
                        differences.iter().for_each(|it| println!("{it}"));
                    }
                    Err(faults) => {
                        failed += 1;
                        faults.iter().for_each(|fault| println!("{fault}"));
                    }
                }
            }
            if failed > 0 {
                return Err(Failure::text(exit::NO, format!("{failed} of {checked} tests failed")));
            }
            eprintln!("{checked} tests passed");
            Ok(())
        }
    }
}

/// The metrics that there are.
fn known(place: Place) -> Result<BTreeSet<String>, Failure> {
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'";
    let answer = block_on_value(async { Source::open(place).await?.run(sql, Format::Csv).await });
    let answer = answer.map_err(|failure| {
        let text = format!(
            "{}; to check without asking which metrics there are, add --allow-unknown-metrics",
            failure.error
        );
        Failure::text(exit::UNAVAILABLE, text)
    })?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    Ok(text.lines().skip(1).map(str::to_owned).collect())
}

fn block_on_value<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut value = None;
    block_on(async {
        value = Some(work.await?);
        Ok(())
    })?;
    value.ok_or_else(|| Failure::text(exit::SOFTWARE, "no answer"))
}
