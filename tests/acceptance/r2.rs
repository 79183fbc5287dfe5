//! R2, configuration management: the environment file, changed by every way there is.

use crate::harness::gateway::{Gateway, ask};
use crate::harness::program::{run, write};
use crate::harness::wait::wait_for;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const FILE: &str = "# burn-in\r\nexport PORT=3000 # inline\r\nserpapi.api_key='abc#1'\r\n\r\nPEM=\"-----BEGIN K-----\r\nMIIB\r\n-----END K-----\"\r\nFF_CHAOS=off\r\n";

fn env(path: &Path, command: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let file = path.to_str().unwrap();
    let output = run(&[&["env", command, "--file", file], more].concat(), "");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn r2_1_chaos_is_enabled_by_command_line_and_admin_api_without_harm_to_the_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(".env");
    write(&path, FILE);
    let gateway = Gateway::start_with(dir.path(), "", &["--env", path.to_str().unwrap()]);
    let flags = || gateway.admin("GET", "/admin/flags", &Value::Null).json();
    let chaos = |on: bool| {
        wait_for("the gateway to see the switch", || {
            (flags()["flags"]["FF_CHAOS"] == on).then_some(())
        });
        let expected =
            if on { FILE.replace("FF_CHAOS=off", "FF_CHAOS=on") } else { FILE.to_owned() };
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    };
    chaos(false);
    let changed = gateway.admin(
        "POST",
        "/admin/flags",
        &json!({ "set": { "FF_CHAOS": "on" }, "judge": 0.5 }),
    );
    assert_eq!(changed.status, 202, "{changed:?}");
    chaos(true);
    wait_for("the verdict", || (flags()["versions"][0]["state"] == "kept").then_some(()));
    let (code, _, words) = env(&path, "set", &["FF_CHAOS=off"]);
    assert_eq!(code, Some(0), "{words}");
    chaos(false);
    let (_, history, _) = env(&path, "history", &[]);
    assert!(history.contains("command line") && history.contains("admin"), "{history}");
    // A switch that is none, a value that cannot be meant, and a hash that is not that of the file.
    for (body, status) in [
        (json!({ "set": { "FF_CAHOS": "on" } }), 400),
        (json!({ "set": { "FF_CHAOS": "perhaps" } }), 400),
        (json!({ "set": { "FF_CHAOS": "on" }, "expected": "0123456789abcdef" }), 409),
        (json!({}), 400),
    ] {
        let refused = gateway.admin("POST", "/admin/flags", &body);
        assert_eq!(refused.status, status, "{refused:?}");
    }
    chaos(false);
}

#[test]
fn r2_3_a_change_that_the_gateway_does_not_do_well_with_goes_back_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(".env");
    write(&path, FILE);
    let gateway = Gateway::start_with(dir.path(), "", &["--env", path.to_str().unwrap()]);
    let url = format!("http://{}", gateway.control);
    let (code, _, words) =
        env(&path, "set", &["FF_CHAOS=on", "--gateway", &url, "--judge", "300ms"]);
    assert!(code == Some(0) && words.contains("version 1 kept"), "{words}");
    // It turns unready while it is being watched.
    let drained = gateway.admin("POST", "/admin/drain", &Value::Null);
    assert_eq!(drained.status, 200);
    let (code, _, words) = env(&path, "set", &["FF_CHAOS=off", "--gateway", &url]);
    assert!(code == Some(1) && words.contains("version 2 taken back"), "{words}");
    assert!(fs::read_to_string(&path).unwrap().contains("FF_CHAOS=on\r\n"));
    // It is killed before it says that a change is good, and takes it back when it starts again.
    gateway.admin("DELETE", "/admin/drain", &Value::Null);
    let change = json!({ "set": { "FF_CACHE": "off" }, "judge": 600 });
    assert_eq!(gateway.admin("POST", "/admin/flags", &change).status, 202);
    gateway.program.kill();
    assert!(fs::read_to_string(&path).unwrap().contains("FF_CACHE=off"));
    let again = Gateway::start_with(dir.path(), "", &["--env", path.to_str().unwrap()]);
    assert!(!fs::read_to_string(&path).unwrap().contains("FF_CACHE"));
    let (_, history, _) = env(&path, "history", &[]);
    assert!(history.contains("taken back: the gateway started before"), "{history}");
    assert_eq!(again.check("configuration").0, "healthy");
    // Nobody there to judge: back it goes too.
    let (code, _, words) = env(&path, "set", &["X=1", "--gateway", "http://127.0.0.1:1"]);
    assert!(code == Some(1) && words.contains("does not answer"), "{words}");
    assert!(!fs::read_to_string(&path).unwrap().contains("X=1"));
}

#[test]
fn r2_5_the_burn_ins_corrupted_line_ends_no_gateway_and_is_repaired_on_request() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(".env");
    write(&path, format!("{FILE}'FF_CACHE=off'  \r\n"));
    let gateway = Gateway::start_with(dir.path(), "", &["--env", path.to_str().unwrap()]);
    let reason = gateway.wait_check("configuration", "degraded");
    assert!(reason.contains("line 9: the whole line is in quotes"), "{reason}");
    assert_eq!(ask(&gateway.control, "GET", "/ready", "", "").unwrap().status, 200);
    let (code, faults, words) = env(&path, "check", &[]);
    assert!(
        code == Some(1) && faults.contains("line 9") && words.contains("env repair"),
        "{words}"
    );
    assert_eq!(env(&path, "repair", &[]).0, Some(0));
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{FILE}FF_CACHE=off  \r\n"));
    gateway.wait_check("configuration", "healthy");
    assert_eq!(env(&path, "check", &[]).0, Some(0));
    let (_, value, _) = env(&path, "get", &["PEM"]);
    assert_eq!(value, "-----BEGIN K-----\r\nMIIB\r\n-----END K-----\n");
    assert_eq!(env(&path, "rollback", &[]).0, Some(0));
    assert!(fs::read_to_string(&path).unwrap().ends_with("'FF_CACHE=off'  \r\n"));
}
