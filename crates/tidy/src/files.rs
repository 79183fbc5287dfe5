//! Every source file: not too long, a `//!` first, a name that says what it holds.

use crate::{find, read};
use std::path::Path;

const LONGEST: usize = 600;
const NAMELESS: [&str; 7] = ["utils", "util", "helpers", "common", "misc", "core", "manager"];

pub(crate) fn check(root: &Path, faults: &mut Vec<String>) {
    for path in find(root, ".rs") {
        let text = read(&path);
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let lines = text.lines().count();
        if lines > LONGEST {
            faults.push(format!("{shown} has {lines} lines, over {LONGEST}: is it one thing?"));
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if NAMELESS.contains(&stem.as_str()) {
            faults.push(format!("{shown}: name the file by what it holds"));
        }
        let first = text.lines().find(|line| !line.is_empty() && !line.starts_with("#!["));
        if stem != "tests" && !first.is_some_and(|line| line.starts_with("//!")) {
            faults.push(format!("{shown} does not begin with what it is for, in //!"));
        }
        for (number, line) in text.lines().enumerate() {
            let ignored =
                ["#[ign", "#[should_"].iter().any(|start| line.trim_start().starts_with(start));
            if ignored {
                faults
                    .push(format!("{shown}:{}: a test that is skipped or must panic", number + 1));
            }
        }
    }
    for name in
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", ".ci/run"]
    {
        if !root.join(name).exists() {
            faults.push(format!("{name} is missing"));
        }
    }
}
