//! The audit file as a reader sees it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// All whole lines of an audit file.
pub(crate) fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read(path).unwrap_or_default();
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    text[..whole].split_inclusive(|&byte| byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// The ids of all decisions to allow, read on as the file grows.
pub(super) struct Ledger {
    path: PathBuf,
    offset: u64,
    rest: Vec<u8>,
    allowed: HashSet<String>,
}

impl Ledger {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0, rest: Vec::new(), allowed: HashSet::new() }
    }

    /// Whether an "allow" with this id stands in the file now.
    pub(super) fn allows(&mut self, decision: &str) -> bool {
        if let Ok(mut file) = File::open(&self.path) {
            file.seek(SeekFrom::Start(self.offset)).unwrap();
            self.offset += file.read_to_end(&mut self.rest).unwrap() as u64;
        }
        let whole = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let record: Value = serde_json::from_slice(line).unwrap();
            if record["event"] == "decision" && record["outcome"] == "allow" {
                self.allowed.insert(record["decision_id"].as_str().unwrap().to_owned());
            }
        }
        self.allowed.contains(decision)
    }
}
