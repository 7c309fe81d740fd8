//! The state of a simulated disk: files, current and durable names, and armed faults. `mod.rs` has
//! the traits, `file.rs` the bytes of a file.

use super::content::LEN_MAX;
use super::fault::{Fault, Injection, Operation};
use super::file::{FileNode, Survival};
use crate::LockKind;
use random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

pub(super) type NodeId = u64;
const ROOT: NodeId = 0;

#[derive(Clone)]
pub(super) enum Node {
    File(FileNode),
    Dir(Dir),
}

#[derive(Clone, Default)]
pub(super) struct Dir {
    current: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
}

/// An unsynced change of names. It survives a crash as a whole or not at all, so a renamed file
/// always has one name. Changes survive independently, but the changes of one name reach the disk
/// in order.
#[derive(Clone)]
struct NameChange {
    edits: Vec<NameEdit>,
}

#[derive(Clone)]
struct NameEdit {
    dir: NodeId,
    name: String,
    node: Option<NodeId>,
}

/// Which changes reach the disk: the wanted ones, and older changes of the same names.
fn with_dependencies(
    changes: &[NameChange],
    mut wanted: impl FnMut(&NameChange) -> bool,
) -> Vec<bool> {
    let mut names = BTreeSet::new();
    let mut chosen: Vec<bool> = changes
        .iter()
        .rev()
        .map(|change| {
            let keys = || change.edits.iter().map(|edit| (edit.dir, &edit.name));
            let chosen = wanted(change) || keys().any(|key| names.contains(&key));
            if chosen {
                names.extend(keys());
            }
            chosen
        })
        .collect();
    chosen.reverse();
    chosen
}

/// The resolution of a path: the directory, the last name, and its node if there is one.
pub(super) struct Place {
    dir: NodeId,
    name: String,
    pub(super) node: Option<NodeId>,
}

/// A copy of the disk at a point.
pub(super) struct Record {
    pub(super) point: u64,
    pub(super) operation: Operation,
    pub(super) path: PathBuf,
    pub(super) tag: u64,
    pub(super) state: DiskState,
}

#[derive(Default)]
pub(super) struct Control {
    pub(super) stopped: bool,
    pub(super) injections: Vec<Injection>,
    pub(super) record_every: u64,
    pub(super) recorded: Vec<Record>,
    pub(super) cached_reads_miss_every: u64,
    pub(super) cached_reads: u64,
}

pub(super) struct DiskState {
    nodes: BTreeMap<NodeId, Node>,
    next_node: NodeId,
    changes: Vec<NameChange>,
    locks: BTreeMap<(NodeId, bool), u64>,
    handles: BTreeMap<NodeId, u64>,
    next_handle: u64,
    pub(super) points: u64,
    pub(super) tag: u64,
    pub(super) rng: Random,
    pub(super) control: Control,
}

fn error(kind: io::ErrorKind, what: &str) -> io::Error {
    io::Error::new(kind, what)
}

impl DiskState {
    pub(super) fn new(seed: u64) -> DiskState {
        DiskState {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            next_node: ROOT + 1,
            changes: Vec::new(),
            locks: BTreeMap::new(),
            handles: BTreeMap::new(),
            next_handle: 0,
            points: 0,
            tag: 0,
            rng: Random::new(seed),
            control: Control::default(),
        }
    }

    /// A copy with the same durable and unsynced state, without handles, locks and armed faults.
    pub(super) fn fork(&self) -> DiskState {
        DiskState {
            nodes: self.nodes.clone(),
            next_node: self.next_node,
            changes: self.changes.clone(),
            locks: BTreeMap::new(),
            handles: BTreeMap::new(),
            next_handle: 0,
            points: self.points,
            tag: self.tag,
            rng: self.rng.clone(),
            control: Control::default(),
        }
    }

    /// Whether a crash may lose something.
    pub(super) fn has_unsynced(&self) -> bool {
        let is_unsynced = |node: &Node| matches!(node, Node::File(file) if file.is_unsynced());
        !self.changes.is_empty() || self.nodes.values().any(is_unsynced)
    }

    /// A state after a crash.
    pub(super) fn after_crash(&self, seed: u64) -> DiskState {
        let mut rng = Random::new(seed);
        let survival = Survival::draw(&mut rng);
        let mut left = DiskState::new(seed);
        left.next_node = self.next_node;
        left.tag = self.tag;
        let mut dirs: BTreeMap<NodeId, BTreeMap<String, NodeId>> = BTreeMap::new();
        for (id, node) in &self.nodes {
            if let Node::Dir(dir) = node {
                dirs.insert(*id, dir.durable.clone());
            }
        }
        let kept = with_dependencies(&self.changes, |_| survival.keeps(&mut rng));
        for (change, _) in self.changes.iter().zip(kept).filter(|(_, kept)| *kept) {
            for edit in &change.edits {
                dirs.entry(edit.dir).and_modify(|names| edit.apply_to(names));
            }
        }
        for (id, node) in &self.nodes {
            let node = match node {
                Node::File(file) => Node::File(file.after_crash(survival, &mut rng.part(*id))),
                Node::Dir(_) => {
                    let names = dirs.remove(id).unwrap_or_default();
                    Node::Dir(Dir { current: names.clone(), durable: names })
                }
            };
            left.nodes.insert(*id, node);
        }
        left.forget_unreachable();
        left
    }

    /// Counts an operation, and returns the fault that is armed for it.
    pub(super) fn enter(&mut self, operation: Operation, path: &Path) -> io::Result<Option<Fault>> {
        if self.control.stopped {
            return Err(error(io::ErrorKind::Other, "the simulated machine has stopped"));
        }
        if operation != Operation::Read {
            self.points += 1;
        }
        let points = self.points;
        let mut fault = None;
        self.control.injections.retain_mut(|injection| {
            if fault.is_some() || !injection.hits(operation, path, points) {
                return true;
            }
            fault = Some(injection.fault);
            injection.lasting
        });
        Ok(fault)
    }

    /// Records a copy of the disk during the operation, if recording is on.
    pub(super) fn record(&mut self, operation: Operation, path: &Path) {
        let every = self.control.record_every;
        if every != 0 && operation != Operation::Read && self.points.is_multiple_of(every) {
            let record = Record {
                point: self.points,
                operation,
                path: path.to_path_buf(),
                tag: self.tag,
                state: self.fork(),
            };
            self.control.recorded.push(record);
        }
    }

    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let mut place = Place { dir: ROOT, name: String::new(), node: Some(ROOT) };
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name.to_string_lossy().into_owned(),
                Component::RootDir | Component::CurDir => continue,
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(error(io::ErrorKind::InvalidInput, "no .. on a simulated disk"));
                }
            };
            let Some(dir) = place.node else {
                return Err(error(io::ErrorKind::NotFound, "no such directory"));
            };
            let node = self.dir(dir)?.current.get(&name).copied();
            place = Place { dir, name, node };
        }
        Ok(place)
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        let missing = || error(io::ErrorKind::NotFound, "no such file or directory");
        self.place(path)?.node.ok_or_else(missing)
    }

    fn dir(&self, id: NodeId) -> io::Result<&Dir> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(error(io::ErrorKind::NotADirectory, "not a directory")),
            None => Err(error(io::ErrorKind::NotFound, "no such directory")),
        }
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(error(io::ErrorKind::IsADirectory, "is a directory")),
            None => Err(error(io::ErrorKind::NotFound, "no such file")),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(error(io::ErrorKind::IsADirectory, "is a directory")),
            None => Err(error(io::ErrorKind::NotFound, "no such file")),
        }
    }

    /// Fails a sync of the file; see [`FileNode::sync_fails`].
    pub(super) fn sync_fails(&mut self, id: NodeId) -> io::Result<()> {
        let points = self.points;
        let mut rng = self.rng.part(points);
        self.file_mut(id)?.sync_fails(&mut rng);
        Ok(())
    }

    pub(super) fn check_end(offset: u64, len: u64) -> io::Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= LEN_MAX => Ok(()),
            Some(_) | None => Err(error(io::ErrorKind::FileTooLarge, "beyond a simulated file")),
        }
    }

    pub(super) fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.dir(self.find(path)?)?.current.keys().cloned().collect())
    }

    fn change(&mut self, edits: Vec<NameEdit>) {
        for edit in &edits {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(&edit.dir) {
                edit.apply_to(&mut dir.current);
            }
        }
        self.changes.push(NameChange { edits });
    }

    pub(super) fn create(&mut self, place: Place, node: Node) -> io::Result<NodeId> {
        self.dir(place.dir)?;
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, node);
        self.change(vec![NameEdit { dir: place.dir, name: place.name, node: Some(id) }]);
        Ok(id)
    }

    /// Creates the directory and its missing parents.
    pub(super) fn create_dirs(&mut self, path: &Path) -> io::Result<()> {
        let mut above = PathBuf::new();
        for component in path.components() {
            above.push(component);
            let place = self.place(&above)?;
            match place.node {
                Some(id) => {
                    self.dir(id)?;
                }
                None => {
                    self.create(place, Node::Dir(Dir::default()))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        let (from, to) = (self.place(from)?, self.place(to)?);
        if let Some(replaced) = to.node {
            match (self.nodes.get(&node), self.nodes.get(&replaced)) {
                (Some(Node::File(_)), Some(Node::File(_))) => {}
                (Some(Node::Dir(_)), Some(Node::Dir(dir))) if dir.current.is_empty() => {}
                _ => return Err(error(io::ErrorKind::AlreadyExists, "cannot be replaced")),
            }
        }
        if (from.dir, &from.name) == (to.dir, &to.name) {
            return Ok(());
        }
        self.change(vec![
            NameEdit { dir: from.dir, name: from.name, node: None },
            NameEdit { dir: to.dir, name: to.name, node: Some(node) },
        ]);
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.file(self.find(path)?)?;
        let place = self.place(path)?;
        self.change(vec![NameEdit { dir: place.dir, name: place.name, node: None }]);
        Ok(())
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        self.remove_below(id)?;
        let place = self.place(path)?;
        self.change(vec![NameEdit { dir: place.dir, name: place.name, node: None }]);
        Ok(())
    }

    fn remove_below(&mut self, id: NodeId) -> io::Result<()> {
        for (name, child) in self.dir(id)?.current.clone() {
            if matches!(self.nodes.get(&child), Some(Node::Dir(_))) {
                self.remove_below(child)?;
            }
            self.change(vec![NameEdit { dir: id, name, node: None }]);
        }
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        self.dir(id)?;
        let touches = |change: &NameChange| change.edits.iter().any(|edit| edit.dir == id);
        let synced = with_dependencies(&self.changes, touches);
        for (change, synced) in std::mem::take(&mut self.changes).into_iter().zip(synced) {
            if !synced {
                self.changes.push(change);
                continue;
            }
            for edit in &change.edits {
                if let Some(Node::Dir(dir)) = self.nodes.get_mut(&edit.dir) {
                    edit.apply_to(&mut dir.durable);
                }
            }
        }
        self.forget_unreachable();
        Ok(())
    }

    fn forget_unreachable(&mut self) {
        let mut reachable: BTreeSet<NodeId> = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        let named = self.changes.iter().flat_map(|change| &change.edits);
        todo.extend(named.filter_map(|edit| edit.node));
        todo.extend(self.handles.keys());
        while let Some(id) = todo.pop() {
            reachable.insert(id);
            if let Some(Node::Dir(dir)) = self.nodes.get(&id) {
                let below = dir.current.values().chain(dir.durable.values());
                todo.extend(below.filter(|child| !reachable.contains(child)));
            }
        }
        self.nodes.retain(|id, _| reachable.contains(id));
    }

    /// Makes everything durable.
    pub(super) fn settle(&mut self) {
        self.changes.clear();
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.sync(),
                Node::Dir(dir) => dir.durable = dir.current.clone(),
            }
        }
        self.forget_unreachable();
    }

    #[cfg(test)]
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn open_handle(&mut self, node: NodeId) -> u64 {
        *self.handles.entry(node).or_default() += 1;
        self.next_handle += 1;
        self.next_handle
    }

    pub(super) fn close_handle(&mut self, node: NodeId, handle: u64) {
        self.locks.retain(|_, holder| *holder != handle);
        if let Some(count) = self.handles.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.handles.remove(&node);
            }
        }
    }

    pub(super) fn try_lock(&mut self, node: NodeId, kind: LockKind, handle: u64) -> bool {
        *self.locks.entry((node, kind == LockKind::Flock)).or_insert(handle) == handle
    }

    pub(super) fn unlock(&mut self, node: NodeId, kind: LockKind, handle: u64) {
        let key = (node, kind == LockKind::Flock);
        if self.locks.get(&key) == Some(&handle) {
            self.locks.remove(&key);
        }
    }
}

impl NameEdit {
    fn apply_to(&self, names: &mut BTreeMap<String, NodeId>) {
        match self.node {
            Some(node) => names.insert(self.name.clone(), node),
            None => names.remove(&self.name),
        };
    }
}
