//! The environment file from the command line: `get`, `set`, `unset`, `check`, `repair`, `history`, `rollback`.

use crate::exit::{self, Failure};
use crate::role::block_on;
use clap::{Args, Subcommand};
use gateway::env::{Change, EnvError, EnvFile, Outcome};
use platform::http::{HttpClient, Method};
use runtime::Clock;
use std::path::PathBuf;
use std::time::Duration;

/// How long a gateway may take to read the new content.
const READ: Duration = Duration::from_secs(5);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(200);

/// What can be done with the file.
#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// Print the value of a key, or all keys with their values
    Get {
        #[command(flatten)]
        at: At,
        /// The key
        key: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set keys; everything else in the file stays byte for byte
    Set {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        how: How,
        /// KEY=VALUE
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = pair)]
        pairs: Vec<(String, String)>,
    },
    /// Remove keys
    Unset {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        how: How,
        /// The keys
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Say which lines say nothing and which values cannot be meant; exit code 1 if there are any
    Check {
        #[command(flatten)]
        at: At,
    },
    /// Mend the lines that can be mended
    Repair {
        #[command(flatten)]
        at: At,
    },
    /// List the versions that are known, the newest first
    History {
        #[command(flatten)]
        at: At,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring back the content from before a version
    Rollback {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        how: How,
        /// The version; without it, the newest
        version: Option<u64>,
    },
}

/// Which file.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// The environment file
    #[arg(long, value_name = "FILE", default_value = ".env")]
    file: PathBuf,
}

/// Against what, and who judges.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Refuse unless the content has this hash, as `get --json` and earlier changes print it
    #[arg(long, value_name = "HASH")]
    expected: Option<String>,
    /// Control address of a gateway that uses the file: the change stays only if it reads it and stays ready
    #[arg(long, value_name = "URL")]
    gateway: Option<String>,
    /// For how long the gateway is watched
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = model::time::parse_duration)]
    judge: Duration,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs one command.
pub(crate) fn run(command: EnvCommand) -> Result<(), Failure> {
    telemetry::trace::start("warn");
    let open = |at: &At| EnvFile::new(&at.file, Clock::system());
    match command {
        EnvCommand::Get { at, key, json } => get(&open(&at), key.as_deref(), json),
        EnvCommand::Set { at, how, pairs } => change(&open(&at), &Change::Set(pairs), &how),
        EnvCommand::Unset { at, how, keys } => change(&open(&at), &Change::Unset(keys), &how),
        EnvCommand::Check { at } => check(&open(&at)),
        EnvCommand::Repair { at } => repair(&open(&at)),
        EnvCommand::History { at, json } => history(&open(&at), json),
        EnvCommand::Rollback { at, how, version } => {
            let file = open(&at);
            let newest = || file.history().map(|all| all.first().map_or(0, |it| it.number));
            let version = version.map_or_else(newest, Ok).map_err(failed)?;
            change(&file, &Change::Rollback(version), &how)
        }
    }
}

fn failed(error: EnvError) -> Failure {
    let code = match &error {
        EnvError::Read { .. } => exit::DATA,
        EnvError::Platform(_) | EnvError::Journal(_) => exit::SYSTEM,
        EnvError::Edit(_)
        | EnvError::Unfit(_)
        | EnvError::Moved { .. }
        | EnvError::NoVersion(_) => exit::NO,
    };
    exit::with(code)(error)
}

fn must_exist(file: &EnvFile) -> Result<(), Failure> {
    if file.path().exists() {
        return Ok(());
    }
    let text = format!("there is no file {}; name it with --file", file.path().display());
    Err(Failure::text(exit::DATA, text))
}

fn get(file: &EnvFile, key: Option<&str>, json: bool) -> Result<(), Failure> {
    must_exist(file)?;
    let (document, hash) = file.read().map_err(failed)?;
    if let Some(key) = key {
        let text = format!("{key} is not set in {}", file.path().display());
        let value = document.get(key).ok_or_else(|| Failure::text(exit::NO, text))?;
        match json {
            true => println!("{}", serde_json::json!({ "hash": hash, "values": { key: value } })),
            false => println!("{value}"),
        }
        return Ok(());
    }
    if json {
        println!("{}", serde_json::json!({ "hash": hash, "values": document.values() }));
        return Ok(());
    }
    for (key, value) in document.values() {
        println!("{key}={value}");
    }
    Ok(())
}

fn check(file: &EnvFile) -> Result<(), Failure> {
    must_exist(file)?;
    let (document, _) = file.read().map_err(failed)?;
    let name = file.path().display();
    let values = gateway::env::faults_of_values(&document);
    for fault in document.faults() {
        println!("{name}: {fault}");
    }
    for fault in &values {
        println!("{name}: {fault}");
    }
    for (key, lines) in document.repeated() {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        eprintln!("{name}: {key} is set in lines {}; the last counts", lines.join(", "));
    }
    if document.faults().is_empty() && values.is_empty() {
        eprintln!("{name}: fit for use");
        return Ok(());
    }
    let remedy = match document.faults().iter().any(|fault| fault.is_repairable()) {
        true => "`forerunner env repair` mends what can be mended",
        false => "mend it by hand, or with `forerunner env set`",
    };
    Err(Failure::text(exit::NO, format!("the file has faults; {remedy}")))
}

fn repair(file: &EnvFile) -> Result<(), Failure> {
    must_exist(file)?;
    let (before, _) = file.read().map_err(failed)?;
    let outcome = file.commit(&Change::Repair, "command line", None, false).map_err(failed)?;
    tell(&outcome);
    let (after, _) = file.read().map_err(failed)?;
    let mended = before.faults().len().saturating_sub(after.faults().len());
    eprintln!("{mended} of {} faults mended", before.faults().len());
    if after.faults().is_empty() {
        return Ok(());
    }
    let left: Vec<String> = after.faults().iter().map(ToString::to_string).collect();
    Err(Failure::text(exit::NO, format!("to be mended by hand: {}", left.join("; "))))
}

fn history(file: &EnvFile, json: bool) -> Result<(), Failure> {
    must_exist(file)?;
    let versions = file.history().map_err(failed)?;
    for it in &versions {
        match json {
            true => println!(
                "{}",
                serde_json::json!({
                    "version": it.number, "time": it.time, "author": it.author,
                    "change": it.change, "state": it.state,
                })
            ),
            false => {
                println!(
                    "{:>4}  {}  {:<13} {} ({})",
                    it.number, it.time, it.author, it.change, it.state
                );
            }
        }
    }
    if versions.is_empty() {
        eprintln!("no change has been made by `forerunner env` or by a gateway");
    }
    Ok(())
}

fn tell(outcome: &Outcome) {
    match outcome {
        Outcome::Unchanged => eprintln!("the file says so already"),
        Outcome::Published { version, hash } => {
            eprintln!("version {version} published, hash {hash}")
        }
    }
}

fn change(file: &EnvFile, change: &Change, how: &How) -> Result<(), Failure> {
    let judged = how.gateway.is_some();
    let expected = how.expected.as_deref();
    let outcome = file.commit(change, "command line", expected, judged).map_err(failed)?;
    tell(&outcome);
    match (&how.gateway, outcome) {
        (Some(url), Outcome::Published { version, hash }) => {
            block_on(async { judge(file, version, &hash, url, how.judge).await })
        }
        _ => Ok(()),
    }
}

/// Keeps the version if the gateway reads it and stays ready for `time`; takes it back otherwise.
async fn judge(
    file: &EnvFile,
    version: u64,
    hash: &str,
    url: &str,
    time: Duration,
) -> Result<(), Failure> {
    let clock = Clock::system();
    let client = HttpClient::new();
    let url = format!("{}/health", url.trim_end_matches('/'));
    let start = clock.monotonic();
    let mut read_at = None;
    let verdict = loop {
        let soon = clock.monotonic() + Duration::from_secs(2);
        let answer = match client.send(Method::GET, &url, &[], "", soon).await {
            Ok(answer) => {
                let status = answer.status;
                answer.body(1 << 20).await.map(|body| (status, body))
            }
            Err(error) => Err(error),
        };
        match answer {
            Err(error) => break Err(format!("the gateway does not answer: {error}")),
            Ok((200, body)) => {
                let body = String::from_utf8_lossy(&body);
                if read_at.is_none() && body.contains(hash) {
                    read_at = Some(clock.monotonic());
                }
            }
            Ok((status, _)) => {
                break Err(format!("the gateway is not healthy: {url} answers {status}"));
            }
        }
        match read_at {
            Some(at) if at.elapsed() >= time => break Ok(()),
            None if start.elapsed() > READ => {
                break Err(format!(
                    "the gateway did not read the file within {READ:?}; does it use {}?",
                    file.path().display()
                ));
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    };
    match verdict {
        Ok(()) if file.keep(version).map_err(failed)? => {
            eprintln!("version {version} kept: the gateway was healthy with it for {time:?}");
            Ok(())
        }
        Ok(()) => Err(Failure::text(
            exit::NO,
            format!("version {version} was taken back by the gateway at its start"),
        )),
        Err(reason) => {
            file.take_back(version, &reason).map_err(failed)?;
            Err(Failure::text(exit::NO, format!("version {version} taken back: {reason}")))
        }
    }
}
