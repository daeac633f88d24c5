//! `config.yaml` as written becomes typed settings, checked whole before anything starts.
//!
//! Owns the file format, its faults (place, path, what is wrong, how to mend it), environment
//! overrides and the embedded defaults. The only module that reads the environment.
//!
//! The way of a file: `position` walks its events (places, bounds, duplicate keys), `tree` takes
//! its values, `env` overrides them, `check` reads meaning into them section by section with the
//! readers of `read`, and notes every fault.

mod check;
pub mod embedded;
mod env;
mod fault;
pub mod generated;
pub mod keys;
mod path;
mod position;
mod read;
mod reference;
mod secret_file;
pub mod settings;
mod strength;
mod tree;
mod value;
mod warning;

use std::cell::RefCell;
use std::fs;
use std::io::Read as _;
use std::path::Path;

pub use env::{Environment, PREFIX};
pub use fault::{Fault, Faults};
pub use reference::reference;
pub use secret_file::read as read_secret_file;
pub use settings::Settings;
pub use warning::{Warning, warnings};

use position::{Positions, Unreadable};
use read::{Item, Source};
use tree::Node;

/// Larger files are refused unread.
const MAX_BYTES: u64 = 1 << 20;

/// Reads and checks the configuration at `path`, with `environment` laid over it. Relative paths in
/// it start from its directory.
pub fn load(path: &Path, environment: &Environment) -> Result<Settings, Faults> {
    let file = path.display().to_string();
    let fail = |message: String, fix: &str| {
        Faults::from(Fault {
            file: file.clone(),
            line: 0,
            column: 0,
            path: String::new(),
            message,
            fix: fix.to_owned(),
        })
    };
    let cannot_read = |error: std::io::Error| {
        fail(
            format!("cannot read the file: {error}"),
            "name one with --config FILE, or start `pmp-auth serve --dev`, which needs none",
        )
    };
    let mut open = fs::File::open(path).map_err(cannot_read)?;
    let metadata = open.metadata().map_err(cannot_read)?;
    if metadata.len() > MAX_BYTES {
        return Err(fail("the file is larger than 1 MiB".into(), "name the right file"));
    }
    let mut text = String::new();
    open.by_ref().take(MAX_BYTES).read_to_string(&mut text).map_err(cannot_read)?;
    let document = Document {
        file: &file,
        base: path.parent().unwrap_or(Path::new("")),
        text: &text,
        world_readable: secret_file::is_world_readable(&metadata),
        dev: false,
    };
    document.settings(environment)
}

/// Checks `text` as if it were a file of that name in the directory `base`.
pub fn parse(
    file: &str,
    base: &Path,
    text: &str,
    environment: &Environment,
) -> Result<Settings, Faults> {
    Document { file, base, text, world_readable: false, dev: false }.settings(environment)
}

/// A configuration as text, and where it came from.
struct Document<'a> {
    file: &'a str,
    base: &'a Path,
    text: &'a str,
    world_readable: bool,
    dev: bool,
}

impl Document<'_> {
    fn settings(&self, environment: &Environment) -> Result<Settings, Faults> {
        let positions = Positions::read(self.text).map_err(|error| self.unreadable(error))?;
        let values = serde_yaml::from_str::<Node>(self.text);
        let mut root = values.map_err(|error| self.unreadable(syntax(&error)))?.merge();
        let mut faults = Vec::new();
        environment.apply(&mut root, &mut faults);
        for (path, place) in positions.duplicates() {
            faults.push(Fault {
                file: self.file.to_owned(),
                line: place.line,
                column: place.column,
                path: path.to_string(),
                message: "this key stands here for the second time".into(),
                fix: "keep one of them".into(),
            });
        }
        let source = Source {
            file: self.file,
            base: self.base,
            dev: self.dev,
            world_readable: self.world_readable,
            positions: &positions,
            faults: RefCell::new(faults),
        };
        let settings = check::settings(Item::root(&source, &root));
        Faults::collect(source.faults.into_inner()).map_or(Ok(settings), Err)
    }

    fn unreadable(&self, error: Unreadable) -> Faults {
        Fault {
            file: self.file.to_owned(),
            line: error.place.line,
            column: error.place.column,
            path: String::new(),
            message: error.message,
            fix: error.fix,
        }
        .into()
    }
}

fn syntax(error: &serde_yaml::Error) -> Unreadable {
    let place = error.location().map(|at| position::Place { line: at.line(), column: at.column() });
    Unreadable {
        place: place.unwrap_or(position::Place::START),
        message: format!("this is not YAML as we read it: {error}"),
        fix: "mind indentation, quotes and brackets just before this place".into(),
    }
}

#[cfg(test)]
mod tests;
