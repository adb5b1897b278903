//! The audit file as a reader sees it, read on as it grows.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// All whole lines of an audit file.
pub(crate) fn read(path: &Path) -> Vec<Value> {
    let mut ledger = Ledger::new(path.to_path_buf());
    ledger.read_on();
    ledger.records
}

/// What was read so far.
pub(super) struct Ledger {
    path: PathBuf,
    offset: u64,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
    records: Vec<Value>,
    /// The ids of all decisions to allow.
    allowed: HashSet<String>,
}

impl Ledger {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0, rest: Vec::new(), records: Vec::new(), allowed: HashSet::new() }
    }

    /// All records that stand in the file now.
    pub(super) fn records(&mut self) -> &[Value] {
        self.read_on();
        &self.records
    }

    /// Whether an "allow" with this id stands in the file now.
    pub(super) fn allows(&mut self, decision: &str) -> bool {
        self.read_on();
        self.allowed.contains(decision)
    }

    fn read_on(&mut self) {
        let Ok(mut file) = File::open(&self.path) else { return };
        if file.metadata().unwrap().len() < self.offset {
            // A new file in the old one's place.
            self.offset = 0;
        }
        file.seek(SeekFrom::Start(self.offset)).unwrap();
        self.offset += file.read_to_end(&mut self.rest).unwrap() as u64;
        let whole = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let record: Value = serde_json::from_slice(line).unwrap();
            if record["event"] == "decision" && record["outcome"] == "allow" {
                self.allowed.insert(record["decision_id"].as_str().unwrap().to_owned());
            }
            self.records.push(record);
        }
    }
}
