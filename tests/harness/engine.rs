//! A container engine of the test's own: Podman with runc, serving the Docker API on a private socket, with an image of our program.

use super::program::PROGRAM;
use super::wait::wait_for;
use std::fs;
use std::os::unix::net::UnixStream;
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
        super::program::write(&dir.join("containers.conf"), LIMITS);
        let socket = dir.join("engine.sock");
        let address = format!("unix://{}", socket.display());
        let mut command = podman(&dir);
        command.args(["system", "service", "-t", "0", &address]);
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

    pub(crate) fn call(&self, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = podman(&self.dir).args(args).output().unwrap();
        assert!(status.success(), "podman {args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stdout).into_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = podman(&self.dir).args(["rm", "-af", "-t", "0"]).output();
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
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
