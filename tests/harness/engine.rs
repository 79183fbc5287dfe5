//! A container engine of the test's own, serving the Docker API on a private socket, with an image of our program: Podman with runc, or
//! Docker itself with `FORERUNNER_TEST_ENGINE=docker`, which root alone may start.

use super::program::PROGRAM;
use super::wait::wait_for;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Limits that an engine without rights over ours may set.
const LIMITS: &str =
    "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=10000:10000\"]\n";
const IMAGE: &str = "forerunner:test";

pub(crate) struct Engine {
    dir: PathBuf,
    service: Child,
    /// As a configuration takes it.
    pub(crate) address: String,
}

impl Engine {
    pub(crate) fn start(dir: &Path) -> Self {
        let dir = dir.join("engine");
        fs::create_dir(&dir).unwrap();
        let socket = dir.join("engine.sock");
        let address = format!("unix://{}", socket.display());
        let mut command = service(&dir, &address);
        let service = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let engine = Self { dir, service, address };
        wait_for("the container engine", || UnixStream::connect(&socket).ok());
        engine.import();
        engine
    }

    /// An image of the program and the libraries that it is linked to.
    fn import(&self) {
        let root = self.dir.join("image");
        let libraries = Command::new("ldd").arg(PROGRAM).output().unwrap();
        let libraries = String::from_utf8(libraries.stdout).unwrap();
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for path in paths {
            let to = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path, to).unwrap();
        }
        for folder in ["tmp", "data"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        // Its symbols are of no use there, and would take most of the time.
        let mut strip = Command::new("strip");
        let _ = strip.arg("-o").arg(root.join("forerunner")).arg(PROGRAM).status();
        if !root.join("forerunner").exists() {
            fs::copy(PROGRAM, root.join("forerunner")).unwrap();
        }
        let tar = self.dir.join("image.tar");
        let status = Command::new("tar").arg("cf").arg(&tar).arg("-C").arg(&root).arg(".").status();
        assert!(status.unwrap().success());
        self.call(&["import", tar.to_str().unwrap(), IMAGE]);
    }

    /// Runs a container of our program with the host's network and `data` as its folder `/data`.
    pub(crate) fn run(&self, name: &str, data: &Path, args: &[&str]) {
        let volume = format!("{}:/data", data.display());
        let fixed =
            ["run", "-d", "--network", "host", "-v", &volume, "--name", name, IMAGE, "/forerunner"];
        self.call(&[&fixed[..], args].concat());
    }

    /// The same engine by TCP, for as long as the test lasts.
    pub(crate) fn by_tcp(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let socket = self.dir.join("engine.sock");
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, engine) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
                let back = (engine.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || forward(client, engine, UnixStream::shutdown));
                std::thread::spawn(move || forward(back.0, back.1, TcpStream::shutdown));
            }
        });
        address
    }

    fn client(&self) -> Command {
        if !is_docker() {
            return podman(&self.dir);
        }
        let mut command = Command::new("docker");
        command.args(["--host", &self.address]).stdin(Stdio::null());
        command
    }

    pub(crate) fn call(&self, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.client().args(args).output().unwrap();
        assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stdout).into_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let all = self.client().args(["ps", "-aq"]).output();
        let all = all.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
        for container in all.unwrap_or_default().split_whitespace() {
            let _ = self.client().args(["rm", "-f", container]).output();
        }
        // Docker has a child that it ends itself when it is asked to end.
        let pid = rustix::process::Pid::from_child(&self.service);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let ended = || wait_for("the engine's end", || self.service.try_wait().unwrap());
        if std::panic::catch_unwind(AssertUnwindSafe(ended)).is_err() {
            let _ = self.service.kill();
            let _ = self.service.wait();
        }
    }
}

/// All that comes, and then the end of it.
fn forward<W: Write>(mut from: impl Read, mut to: W, end: fn(&W, Shutdown) -> std::io::Result<()>) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = end(&to, Shutdown::Write);
}

fn is_docker() -> bool {
    std::env::var("FORERUNNER_TEST_ENGINE").is_ok_and(|it| it == "docker")
}

fn service(dir: &Path, address: &str) -> Command {
    if !is_docker() {
        super::program::write(&dir.join("containers.conf"), LIMITS);
        let mut command = podman(dir);
        command.args(["system", "service", "-t", "0", address]);
        return command;
    }
    let mut command = Command::new("dockerd");
    for (option, name) in [("--data-root", "root"), ("--exec-root", "run"), ("--pidfile", "pid")] {
        command.arg(option).arg(dir.join(name));
    }
    command.args(["--host", address, "--bridge", "none", "--storage-driver", "vfs"]);
    command.args(["--iptables=false", "--ip6tables=false"]);
    command
}

fn podman(dir: &Path) -> Command {
    let mut command = Command::new("podman");
    command.env("CONTAINERS_CONF", dir.join("containers.conf")).stdin(Stdio::null());
    for (option, folder) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
        command.arg(option).arg(dir.join(folder));
    }
    command.args(["--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]);
    command.args(["--events-backend", "file"]);
    command
}
