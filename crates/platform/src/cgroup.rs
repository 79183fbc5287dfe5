//! The control group that a process lives in: how much memory it may take, and takes. Linux only; elsewhere there is none.

use std::fs;
use std::path::{Path, PathBuf};

/// Memory of a control group, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMemory {
    /// In use, without what the system can drop at once.
    pub used: u64,
    /// The least limit on the way to the root.
    pub limit: u64,
}

/// The memory of our own group; none where nothing limits it.
pub fn memory() -> Option<GroupMemory> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    memory_in(Path::new("/sys/fs/cgroup"), &own)
}

fn memory_in(root: &Path, own: &str) -> Option<GroupMemory> {
    let path =
        |line: &str| line.splitn(3, ':').nth(2).map(|path| path.trim_start_matches('/').to_owned());
    let second = own.lines().find(|line| line.starts_with("0::")).and_then(path);
    let first = own.lines().find(|line| line.contains(":memory:")).and_then(path);
    second
        .and_then(|path| least(root, &path, ["memory.max", "memory.current"], "inactive_file"))
        .or_else(|| {
            let files = ["memory.limit_in_bytes", "memory.usage_in_bytes"];
            least(&root.join("memory"), &first?, files, "total_inactive_file")
        })
}

/// The group with the least limit, from `path` up to the root.
fn least(root: &Path, path: &str, [limit, used]: [&str; 2], idle: &str) -> Option<GroupMemory> {
    let number = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let mut found: Option<GroupMemory> = None;
    for folder in Path::new(path).ancestors() {
        let folder = root.join(folder);
        // The first version says a limit of almost 2^63 where there is none.
        let Some(limit) = number(folder.join(limit)).filter(|limit| *limit < 1 << 60) else {
            continue;
        };
        if found.is_some_and(|found| found.limit <= limit) {
            continue;
        }
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let dropped = stat.lines().find_map(|line| line.strip_prefix(idle)?.trim().parse().ok());
        let used = number(folder.join(used)).unwrap_or(0).saturating_sub(dropped.unwrap_or(0));
        found = Some(GroupMemory { used, limit });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::replace;

    #[test]
    fn the_least_limit_on_the_way_to_the_root_counts_in_both_versions() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            replace(&path, text.as_bytes()).unwrap();
        };
        file("a/memory.max", "1000\n");
        file("a/memory.current", "700\n");
        file("a/memory.stat", "anon 500\ninactive_file 200\n");
        file("a/b/memory.max", "max\n");
        let own = "0::/a/b\n";
        assert_eq!(memory_in(root.path(), own), Some(GroupMemory { used: 500, limit: 1_000 }));
        assert_eq!(memory_in(root.path(), "0::/c\n"), None);
        file("memory/d/memory.limit_in_bytes", "2000\n");
        file("memory/d/memory.usage_in_bytes", "900\n");
        let own = "4:memory:/d\n0::/c\n";
        assert_eq!(memory_in(root.path(), own), Some(GroupMemory { used: 900, limit: 2_000 }));
        file("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(memory_in(root.path(), "4:memory:/\n"), None);
    }
}
