//! How a child process tells its parent what it asks the store for and what the store acknowledged: a line for each, written
//! before anybody else can build on it.

use std::io::{BufRead, Write};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::state::Change;

/// In front of a line, to tell it from what the test harness writes.
const MARK: &str = "@rmail ";

/// What a client says; clients are numbered.
#[derive(Serialize, Deserialize)]
pub(super) enum Line {
    Begun(usize, Vec<Change>),
    Done(usize, Vec<Change>),
}

/// Standard output.
#[derive(Default)]
pub(super) struct Writer(Mutex<()>);

impl Writer {
    pub(super) fn write(&self, line: &Line) {
        let line = serde_json::to_string(line).unwrap();
        let _whole = self.0.lock().unwrap();
        let mut out = std::io::stdout().lock();
        out.write_all(format!("\n{MARK}{line}\n").as_bytes())
            .and_then(|()| out.flush())
            .unwrap();
    }
}

/// The next line, `None` at the end. One that was cut off by the writer's end does not count.
pub(super) fn read(from: &mut impl BufRead) -> Option<Line> {
    let mut text = String::new();
    loop {
        text.clear();
        if from.read_line(&mut text).unwrap() == 0 {
            return None;
        }
        if let Some(line) = text
            .strip_suffix('\n')
            .and_then(|text| text.strip_prefix(MARK))
        {
            return Some(serde_json::from_str(line).unwrap());
        }
    }
}
