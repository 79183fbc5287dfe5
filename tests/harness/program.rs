//! The built program: started, asked, signalled, ended.

use super::wait::wait_for;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_forerunner");

/// A running program; killed when dropped.
pub(crate) struct Program {
    child: Child,
    output: PathBuf,
}

impl Program {
    /// Starts the program with its output in a file in `dir`.
    pub(crate) fn start(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_by(&[], dir, args, env)
    }

    /// The same by way of another program and its arguments, which ours follow.
    pub(super) fn start_by(by: &[String], dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let output = dir.join(format!("output-{}", args[0]));
        let file = File::options().create(true).append(true).open(&output).unwrap();
        let words: Vec<&str> = by.iter().map(String::as_str).chain([PROGRAM]).collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, output }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it printed so far, and its predecessors in the same folder.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the program's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A monitor on a folder of its own.
pub(crate) struct Monitor {
    pub(crate) program: Program,
    pub(crate) address: String,
}

impl Monitor {
    /// Starts a monitor on `dir`; `config` is added to a configuration that only sets data and port.
    pub(crate) fn start(dir: &Path, config: &str) -> Self {
        Self::try_start(dir, config, &[])
            .unwrap_or_else(|output| panic!("monitor did not start: {output}"))
    }

    /// The same, with its output as error when it ends before it is ready.
    pub(crate) fn try_start(
        dir: &Path,
        config: &str,
        env: &[(&str, &str)],
    ) -> Result<Self, String> {
        Self::try_start_by(&[], dir, &data(dir), config, env)
    }

    /// A monitor with its data in `data`, started by way of another program.
    pub(crate) fn start_by(by: &[String], dir: &Path, data: &Path, config: &str) -> Self {
        Self::try_start_by(by, dir, data, config, &[])
            .unwrap_or_else(|output| panic!("monitor did not start: {output}"))
    }

    fn try_start_by(
        by: &[String],
        dir: &Path,
        data: &Path,
        config: &str,
        env: &[(&str, &str)],
    ) -> Result<Self, String> {
        let file = dir.join("monitor.toml");
        let text = format!(
            "[api]\nlisten = \"127.0.0.1:0\"\nscrape_self = false\n[store]\ndir = {data:?}\n{config}",
            data = data.to_str().unwrap()
        );
        write(&file, &text);
        let ready = dir.join("ready.json");
        let _ = fs::remove_file(&ready);
        let args = [
            "monitor",
            "--config",
            file.to_str().unwrap(),
            "--ready-file",
            ready.to_str().unwrap(),
        ];
        let mut program = Program::start_by(by, dir, &args, env);
        let told = wait_for("the monitor", || {
            let told = fs::read_to_string(&ready).ok();
            if told.is_none() && program.has_ended() { Some(Err(())) } else { told.map(Ok) }
        });
        let told = told.map_err(|()| program.output())?;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        Ok(Self { program, address: told["api"].as_str().unwrap().to_owned() })
    }

    /// Runs a query through the command line; rows as CSV without header, or what it said.
    pub(crate) fn try_query(&self, sql: &str) -> Result<Vec<String>, String> {
        let url = format!("http://{}", self.address);
        query(&["--url", &url, "--format", "csv", sql])
    }

    pub(crate) fn query(&self, sql: &str) -> Vec<String> {
        self.try_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Waits until a query has rows.
    pub(crate) fn wait_rows(&self, sql: &str) -> Vec<String> {
        wait_for(sql, || self.try_query(sql).ok().filter(|rows| !rows.is_empty()))
    }
}

/// Where the monitor of a test folder keeps its data.
pub(crate) fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

/// `forerunner query` with these arguments: rows of its CSV without header, or what it said.
pub(crate) fn query(args: &[&str]) -> Result<Vec<String>, String> {
    let output = run(&[&["query"], args].concat(), "");
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    Ok(String::from_utf8(output.stdout).unwrap().lines().skip(1).map(str::to_owned).collect())
}

/// Runs the program to its end with `input` on standard input.
pub(crate) fn run(args: &[&str], input: &str) -> std::process::Output {
    let mut child = Command::new(PROGRAM)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Processes whose command line has `text` in it.
pub(crate) fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains(text) && words.contains("forerunner") {
            found.push(words);
        }
    }
    found
}

/// Writes a file of a test.
#[allow(clippy::disallowed_methods, reason = "nothing here must survive a crash")]
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
}

/// A scrape job of one target at 100 ms.
pub(crate) fn job(name: &str, target: impl std::fmt::Display) -> String {
    format!(
        "[[collector.scrape]]\njob = \"{name}\"\ninterval = \"100ms\"\ntargets = [\"{target}\"]\n"
    )
}

/// The host's readings off.
pub(crate) const NO_HOST: &str = "[collector.host]\nenabled = false\n";
