//! A disk that forgets: it follows every change of one thread below one folder, knows what was made durable,
//! and writes down what could be left after the power went.
//!
//! The model is meaner than real file systems. Of a file, each thing appended or cut after its last sync is
//! lost, there, or there in part; what follows something lost lies behind a hole of zeros. Of a folder, each name made, moved or removed
//! after its last sync is there or not, whatever became of the others; a rename is whole. Syncing a file does
//! not make its name durable. After a failed sync of a file, what it should have covered stays in doubt for
//! good. As in Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014.

use super::Change;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

thread_local! {
    static DISK: RefCell<Option<Disk>> = const { RefCell::new(None) };
}

/// What goes wrong at one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The change fails with this error; an append leaves its first half.
    Fail(ErrorKind),
    /// The power goes: from here on every change fails.
    Dead,
}

/// A folder followed through its changes.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    faults: HashMap<u64, Fault>,
    changes: u64,
    renames: u64,
    dead: bool,
}

#[derive(Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Debug, Default)]
struct FileNode {
    len: u64,
    /// All since it was created, in order.
    edits: Vec<Edit>,
}

#[derive(Clone, Debug)]
struct Edit {
    what: What,
    state: State,
}

#[derive(Clone, Debug)]
enum What {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

/// How sure it is that an edit is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Durable,
    /// A sync that should have covered it failed. No later sync makes it good.
    Doubtful,
    /// Since the last sync.
    Pending,
}

#[derive(Debug, Default)]
struct DirNode {
    durable: BTreeMap<OsString, usize>,
    live: BTreeMap<OsString, usize>,
    pending: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: OsString,
    /// `None` where the name goes.
    node: Option<usize>,
    /// Both halves of a rename have the same number.
    rename: Option<u64>,
}

/// Follows the changes of this thread below `root`, whose content now is taken for durable. `faults` says
/// what goes wrong at which change, counted from zero.
pub fn follow(root: &Path, faults: HashMap<u64, Fault>) {
    let mut disk = Disk {
        root: root.to_owned(),
        nodes: Vec::new(),
        faults,
        changes: 0,
        renames: 0,
        dead: false,
    };
    disk.load(root);
    DISK.with(|held| *held.borrow_mut() = Some(disk));
}

/// Stops following and returns what is known.
pub fn unfollow() -> Option<Disk> {
    DISK.with(|held| held.borrow_mut().take())
}

/// Whether the power is gone.
pub fn is_dead() -> bool {
    DISK.with(|held| held.borrow().as_ref().is_some_and(|disk| disk.dead))
}

pub(super) fn ask(change: Change<'_>) -> io::Result<()> {
    DISK.with(|held| match held.borrow_mut().as_mut() {
        Some(disk) => disk.ask(change),
        None => Ok(()),
    })
}

pub(super) fn note(change: Change<'_>) {
    DISK.with(|held| {
        if let Some(disk) = held.borrow_mut().as_mut() {
            disk.note(change);
        }
    });
}

/// Whether syncs need not be done for real, because a disk follows them.
pub(crate) fn is_followed() -> bool {
    DISK.with(|held| held.borrow().is_some())
}

impl Disk {
    /// Changes asked for so far.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn load(&mut self, path: &Path) -> usize {
        let node = if path.is_dir() {
            let mut dir = DirNode::default();
            let at = self.nodes.len();
            self.nodes.push(Node::Dir(DirNode::default()));
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                let child = self.load(&entry.path());
                dir.durable.insert(entry.file_name(), child);
            }
            dir.live = dir.durable.clone();
            if let Some(place) = self.nodes.get_mut(at) {
                *place = Node::Dir(dir);
            }
            return at;
        } else {
            let mut file = FileNode::default();
            file.append(&fs::read(path).unwrap_or_default());
            file.settle(State::Durable);
            Node::File(file)
        };
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn ask(&mut self, change: Change<'_>) -> io::Result<()> {
        let number = self.changes;
        self.changes += 1;
        if self.dead {
            return Err(io::Error::other("the power is gone"));
        }
        match self.faults.get(&number).copied() {
            None => Ok(()),
            Some(Fault::Dead) => {
                self.dead = true;
                Err(io::Error::other("the power is gone"))
            }
            Some(Fault::Fail(kind)) => {
                match change {
                    Change::Append(path, bytes) => {
                        let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                        let file = fs::OpenOptions::new().append(true).open(path);
                        if let Ok(mut file) = file
                            && io::Write::write_all(&mut file, half).is_ok()
                        {
                            self.note(Change::Append(path, half));
                        }
                    }
                    Change::Sync(path) => {
                        if let Some(file) = self.file(path) {
                            file.settle(State::Doubtful);
                        }
                    }
                    _ => {}
                }
                Err(io::Error::new(kind, "a fault that a test asked for"))
            }
        }
    }

    fn note(&mut self, change: Change<'_>) {
        match change {
            Change::Create(path) => {
                let node = self.add(Node::File(FileNode::default()));
                self.enter(path, Some(node), None);
            }
            Change::MakeDir(path) => {
                let node = self.add(Node::Dir(DirNode::default()));
                self.enter(path, Some(node), None);
            }
            Change::Append(path, bytes) => {
                if let Some(file) = self.file(path) {
                    file.append(bytes);
                }
            }
            Change::Truncate(path, len) => {
                if let Some(file) = self.file(path) {
                    file.edits.push(Edit { what: What::Truncate(len), state: State::Pending });
                    file.len = len;
                }
            }
            Change::Sync(path) => {
                if let Some(file) = self.file(path) {
                    file.settle(State::Durable);
                }
            }
            Change::SyncDir(path) => self.sync_dir(path),
            Change::Rename(from, to) => {
                let Some(node) = self.find(from) else { return };
                self.renames += 1;
                let rename = Some(self.renames);
                self.enter(from, None, rename);
                self.enter(to, Some(node), rename);
            }
            Change::RemoveFile(path) | Change::RemoveDir(path) => self.enter(path, None, None),
        }
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let below = path.strip_prefix(&self.root).ok()?;
        let mut at = 0;
        for part in below.components() {
            let (Component::Normal(name), Some(Node::Dir(dir))) = (part, self.nodes.get(at)) else {
                return None;
            };
            at = *dir.live.get(name)?;
        }
        Some(at)
    }

    fn file(&mut self, path: &Path) -> Option<&mut FileNode> {
        let at = self.find(path)?;
        match self.nodes.get_mut(at)? {
            Node::File(file) => Some(file),
            Node::Dir(_) => None,
        }
    }

    fn dir(&mut self, path: &Path) -> Option<&mut DirNode> {
        let at = self.find(path)?;
        match self.nodes.get_mut(at)? {
            Node::Dir(dir) => Some(dir),
            Node::File(_) => None,
        }
    }

    fn enter(&mut self, path: &Path, node: Option<usize>, rename: Option<u64>) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        let Some(dir) = self.dir(parent) else { return };
        match node {
            Some(node) => drop(dir.live.insert(name.to_owned(), node)),
            None => drop(dir.live.remove(name)),
        }
        dir.pending.push(Entry { name: name.to_owned(), node, rename });
    }

    fn sync_dir(&mut self, path: &Path) {
        let Some(dir) = self.dir(path) else { return };
        let pending = std::mem::take(&mut dir.pending);
        pending.iter().for_each(|entry| entry.apply(&mut dir.durable));
        // A rename is whole: its other half, in another folder, is durable with it.
        let renames: Vec<u64> = pending.iter().filter_map(|entry| entry.rename).collect();
        for node in &mut self.nodes {
            let Node::Dir(other) = node else { continue };
            let DirNode { durable, pending, .. } = other;
            pending.retain(|entry| {
                let settled = entry.rename.is_some_and(|rename| renames.contains(&rename));
                if settled {
                    entry.apply(durable);
                }
                !settled
            });
        }
    }

    /// Writes into the empty folder `target` what could be left of everything now. `choose(n)` picks a number
    /// below n.
    ///
    /// # Errors
    /// A file could not be written.
    pub fn after_power_loss(
        &self,
        target: &Path,
        choose: &mut dyn FnMut(usize) -> usize,
    ) -> io::Result<()> {
        let mut renames = HashMap::new();
        self.leave(0, target, choose, &mut renames)
    }

    fn leave(
        &self,
        at: usize,
        target: &Path,
        choose: &mut dyn FnMut(usize) -> usize,
        renames: &mut HashMap<u64, bool>,
    ) -> io::Result<()> {
        match self.nodes.get(at) {
            Some(Node::File(file)) =>
            {
                #[expect(clippy::disallowed_methods, reason = "what a dead machine left")]
                fs::write(target, file.left(choose))
            }
            Some(Node::Dir(dir)) => {
                fs::create_dir_all(target)?;
                for (name, node) in dir.left(choose, renames) {
                    self.leave(node, &target.join(name), choose, renames)?;
                }
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl What {
    fn apply(&self, content: &mut Vec<u8>) {
        let place = |at: &u64| usize::try_from(*at).unwrap_or(usize::MAX);
        match self {
            Self::Write(at, bytes) => {
                let (from, to) = (place(at), place(at) + bytes.len());
                if content.len() < to {
                    content.resize(to, 0); // what lies before and was lost reads as zeros
                }
                if let Some(there) = content.get_mut(from..to) {
                    there.copy_from_slice(bytes);
                }
            }
            Self::Truncate(len) => content.truncate(place(len)),
        }
    }

    /// The first `len` bytes of it.
    fn torn(&self, len: usize) -> Option<Self> {
        match self {
            Self::Write(at, bytes) => Some(Self::Write(*at, bytes.get(..len)?.to_vec())),
            Self::Truncate(_) => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Write(_, bytes) => bytes.len(),
            Self::Truncate(_) => 0,
        }
    }
}

impl Entry {
    fn apply(&self, names: &mut BTreeMap<OsString, usize>) {
        match self.node {
            Some(node) => drop(names.insert(self.name.clone(), node)),
            None => drop(names.remove(&self.name)),
        }
    }
}

impl FileNode {
    fn append(&mut self, bytes: &[u8]) {
        self.edits
            .push(Edit { what: What::Write(self.len, bytes.to_vec()), state: State::Pending });
        self.len += bytes.len() as u64;
    }

    /// Gives what is pending another state.
    fn settle(&mut self, state: State) {
        for edit in self.edits.iter_mut().filter(|edit| edit.state == State::Pending) {
            edit.state = state;
        }
    }

    fn left(&self, choose: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
        let mut content = Vec::new();
        // None, all, those up to one, or each as it comes.
        let way = choose(4);
        let open = self.edits.iter().filter(|edit| edit.state != State::Durable).count();
        let mut left = if way == 2 { choose(open + 1) } else { open };
        for edit in &self.edits {
            let kept = match (edit.state, way) {
                (State::Durable, _) | (_, 1) => true,
                (_, 0) => false,
                (_, 2) => left > 0,
                _ => choose(2) == 1,
            };
            if kept {
                edit.what.apply(&mut content);
                left = left.saturating_sub(usize::from(edit.state != State::Durable));
            } else if way >= 2
                && let Some(torn) = edit.what.torn(choose(edit.what.len() + 1))
            {
                torn.apply(&mut content);
            }
            if !kept && way == 2 && self.edits.iter().all(|edit| edit.state != State::Doubtful) {
                break; // nothing after the torn one
            }
        }
        content
    }
}

impl DirNode {
    fn left(
        &self,
        choose: &mut dyn FnMut(usize) -> usize,
        renames: &mut HashMap<u64, bool>,
    ) -> BTreeMap<OsString, usize> {
        let mut names = self.durable.clone();
        let way = choose(3);
        for entry in &self.pending {
            let mut kept = || match way {
                0 => false,
                1 => true,
                _ => choose(2) == 1,
            };
            let kept = match entry.rename {
                Some(rename) => *renames.entry(rename).or_insert_with(kept),
                None => kept(),
            };
            if kept {
                entry.apply(&mut names);
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::{self, AppendFile};

    /// Every content of the followed folder that `tries` power losses leave, as sorted lists of `name=content`.
    fn left(disk: &Disk, tries: u64) -> std::collections::BTreeSet<String> {
        let mut seed = 1_u64;
        let mut choose = |n: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % n.max(1)
        };
        let one = |_| {
            let dir = tempfile::tempdir().unwrap();
            disk.after_power_loss(dir.path(), &mut choose).unwrap();
            let files = durable::list(dir.path()).unwrap();
            let text = |path: &PathBuf| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                format!("{name}={}", String::from_utf8_lossy(&fs::read(path).unwrap()))
            };
            files.iter().map(text).collect::<Vec<_>>().join(" ")
        };
        (0..tries).map(one).collect()
    }

    #[test]
    fn what_was_not_synced_may_be_lost_and_what_was_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        follow(dir.path(), HashMap::new());
        let mut file = AppendFile::create(&dir.path().join("a")).unwrap();
        file.append(b"1").unwrap();
        file.sync().unwrap();
        file.append(b"2").unwrap();
        let disk = unfollow().unwrap();
        assert_eq!(left(&disk, 50).into_iter().collect::<Vec<_>>(), ["a=1", "a=12"]);
    }

    #[test]
    fn a_failed_sync_is_never_made_good_and_a_replaced_file_is_old_or_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        durable::replace(&path, b"old").unwrap();
        // create, its folder, append, sync: the fourth fails, the next is asked to make it good.
        follow(dir.path(), HashMap::from([(3, Fault::Fail(ErrorKind::Other))]));
        let mut file = AppendFile::create(&dir.path().join("b")).unwrap();
        file.append(b"1").unwrap();
        file.sync().unwrap_err();
        file.sync().unwrap();
        durable::replace(&path, b"new").unwrap();
        let found = left(&unfollow().unwrap(), 100);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a=new b=", "a=new b=1"]);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn after_the_power_is_gone_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        follow(dir.path(), HashMap::from([(2, Fault::Dead)]));
        let path = dir.path().join("a");
        let mut file = AppendFile::create(&path).unwrap();
        file.append(b"1").unwrap_err();
        durable::replace(&path, b"new").unwrap_err();
        assert!(is_dead());
        let disk = unfollow().unwrap();
        assert_eq!(left(&disk, 10).into_iter().collect::<Vec<_>>(), ["a="]);
        assert_eq!(disk.changes(), 4, "each is asked for");
    }
}
