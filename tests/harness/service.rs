//! Real services on private ports, started by the test and ended by it: PostgreSQL and Redis.

use super::wait::wait_for;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The program in the path, or where Debian keeps what is not in it.
fn find(name: &str, elsewhere: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|it| it.exists());
    let versions = fs::read_dir(elsewhere).into_iter().flatten().flatten();
    let apart = || versions.map(|it| it.path().join("bin").join(name)).find(|it| it.exists());
    in_path.or_else(apart).unwrap_or_else(|| panic!("{name} is missing; tests/run installs it"))
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// A PostgreSQL with one user, who needs no password.
pub(crate) struct Postgres {
    dir: PathBuf,
    pub(crate) port: u16,
    server: Option<Child>,
}

impl Postgres {
    pub(crate) fn start(dir: &Path) -> Self {
        let mut postgres = Self { dir: dir.join("postgres"), port: free_port(), server: None };
        fs::create_dir(&postgres.dir).unwrap();
        let data = postgres.dir.join("data");
        if is_root() {
            // The server refuses to run as root.
            open_up(dir);
            assert!(
                Command::new("chown")
                    .arg("postgres")
                    .arg(&postgres.dir)
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let mut initdb = postgres.command("initdb");
        initdb.args(["--auth=trust", "--username=gateway", "--no-sync", "-D"]).arg(&data);
        assert!(quiet(&mut initdb).status().unwrap().success(), "initdb");
        postgres.begin();
        postgres
    }

    fn command(&self, name: &str) -> Command {
        let program = find(name, "/usr/lib/postgresql");
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command.current_dir("/");
        command
    }

    /// Starts the server on its port.
    pub(crate) fn begin(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.dir.join("data"));
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        command.args(["-c", &format!("port={}", self.port)]);
        command.arg("-c").arg(format!("unix_socket_directories={}", self.dir.display()));
        self.server = Some(quiet(&mut command).spawn().unwrap());
        wait_for("PostgreSQL", || {
            let asked = self.query("SELECT 1");
            asked.filter(|answer| answer == "1")
        });
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = self
                .command("pg_ctl")
                .arg("-D")
                .arg(self.dir.join("data"))
                .args(["-m", "immediate", "stop"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            let _ = server.wait();
        }
    }

    /// The words by which the gateway finds it.
    pub(crate) fn config(&self) -> String {
        format!("host=127.0.0.1 port={} user=gateway dbname=postgres", self.port)
    }

    /// The answer to a question, in one line of text.
    pub(crate) fn query(&self, sql: &str) -> Option<String> {
        let output = Command::new(find("psql", "/usr/lib/postgresql"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "gateway"])
            .args(["-d", "postgres", "-At", "-c", sql])
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(answer)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
    }
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Others may pass through the test's folder.
fn open_up(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A Redis that keeps nothing.
pub(crate) struct Redis {
    pub(crate) port: u16,
    server: Option<Child>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let mut redis = Self { port: free_port(), server: None };
        redis.begin();
        redis
    }

    pub(crate) fn begin(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new(find("redis-server", "/usr/lib/redis"));
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        self.server = Some(quiet(&mut command).spawn().unwrap());
        wait_for("Redis", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    pub(crate) fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}
