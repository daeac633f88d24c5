//! Reads meaning into the values: every reader takes what fits, notes a fault where something does
//! not, and goes on, so that one look shows all that is wrong.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use super::fault::Fault;
use super::keys::Section as Keys;
use super::path::Path;
use super::position::{Place, Positions};
use super::tree::Node;
use super::value;

/// The file that is read, and what was found wrong with it.
pub(super) struct Source<'a> {
    /// Its name, as faults show it.
    pub(super) file: &'a str,
    /// The directory that relative paths start from.
    pub(super) base: &'a FilePath,
    /// Whether this is the embedded configuration of `serve --dev`.
    pub(super) dev: bool,
    /// Whether every user of the machine can read the file.
    pub(super) world_readable: bool,
    pub(super) positions: &'a Positions,
    pub(super) faults: RefCell<Vec<Fault>>,
}

impl Source<'_> {
    fn fault(&self, path: &Path, place: Place, message: String, fix: String) {
        self.faults.borrow_mut().push(Fault {
            file: self.file.to_owned(),
            line: place.line,
            column: place.column,
            path: path.to_string(),
            message,
            fix,
        });
    }

    /// A relative path starts from the directory of the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) path: Path,
    node: &'a Node,
    /// The whole text of the variable, when this is a part of it.
    part: Option<&'a str>,
}

impl<'a> Item<'a> {
    /// The whole file.
    pub(super) fn root(source: &'a Source<'a>, node: &'a Node) -> Self {
        Self { source, path: Path::default(), node, part: None }
    }

    /// Notes a fault at this value.
    pub(super) fn fault(&self, message: impl Into<String>, fix: impl Into<String>) {
        if let Node::Variable { name, .. } = self.node {
            self.source.faults.borrow_mut().push(Fault {
                file: format!("environment {name}"),
                line: 0,
                column: 0,
                path: self.path.to_string(),
                message: message.into(),
                fix: fix.into(),
            });
            return;
        }
        let place = self.source.positions.value(&self.path);
        self.source.fault(&self.path, place, message.into(), fix.into());
    }

    /// Whether it came from the environment instead of the file.
    pub(super) fn is_from_environment(&self) -> bool {
        matches!(self.node, Node::Variable { .. })
    }

    /// The text itself, when it is text; no fault otherwise.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        match self.node {
            Node::Text(text) | Node::Variable { text, .. } => Some(self.part.unwrap_or(text)),
            _ => None,
        }
    }

    /// Text that is not empty.
    pub(super) fn text(&self) -> Option<&'a str> {
        match (self.as_text(), self.node) {
            (Some(""), _) => self.fault("this is empty", "write a value, or leave the key out"),
            (Some(text), _) => return Some(text),
            (None, Node::Integer(_) | Node::Fraction(_) | Node::Bool(_)) => self
                .fault(format!("{} where text is expected", self.node.kind()), "put it in quotes"),
            (None, node) => {
                self.fault(format!("{} where text is expected", node.kind()), "write one value");
            }
        }
        None
    }

    /// Text of `range` characters without control characters.
    pub(super) fn words(&self, range: RangeInclusive<usize>) -> Option<String> {
        let text = self.text()?;
        if text.chars().any(|c| c.is_control() || is_invisible(c)) || text.trim() != text {
            self.fault("an invisible character, or space at an end", "write plain text");
            return None;
        }
        if !range.contains(&text.chars().count()) {
            let (min, max) = range.into_inner();
            self.fault("the length does not fit", format!("write {min} to {max} characters"));
            return None;
        }
        Some(text.to_owned())
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        match self.node {
            Node::Bool(truth) => return Some(*truth),
            Node::Variable { text, .. } if text == "true" || text == "false" => {
                return Some(text == "true");
            }
            Node::Text(text) | Node::Variable { text, .. } => {
                self.fault(format!("`{text}` is not true or false"), "write true or false");
            }
            node => self.fault(
                format!("{} where true or false is expected", node.kind()),
                "write true or false",
            ),
        }
        None
    }

    /// A whole number, written in decimal.
    pub(super) fn number(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let fix = format!("write a number from {} to {}", range.start(), range.end());
        let number = match self.node {
            Node::Integer(number) => {
                let written = self.source.positions.plain(&self.path);
                if written.is_some_and(|text| text != number.to_string()) {
                    self.fault("the number is not written in plain decimal", fix);
                    return None;
                }
                u32::try_from(*number).ok()
            }
            Node::Variable { text, .. } => text.parse().ok(),
            node => {
                self.fault(format!("{} where a number is expected", node.kind()), fix);
                return None;
            }
        };
        if let Some(number) = number
            && range.contains(&number)
        {
            return Some(number);
        }
        self.fault("the number is out of range", fix);
        None
    }

    /// A duration with its unit.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (min, max) = (value::spell(*range.start()), value::spell(*range.end()));
        let fix = format!("write {min} to {max}, such as 60s, 10m, 12h or 30d");
        let text = match self.node {
            Node::Integer(number) => number.to_string(),
            Node::Text(text) | Node::Variable { text, .. } => text.clone(),
            node => {
                self.fault(format!("{} where a duration is expected", node.kind()), fix);
                return None;
            }
        };
        match value::duration(&text) {
            Ok(duration) if range.contains(&duration) => Some(duration),
            Ok(_) => {
                self.fault(format!("`{text}` is out of range"), fix);
                None
            }
            Err(message) => {
                self.fault(message, fix);
                None
            }
        }
    }

    /// A size in bytes, with its unit.
    pub(super) fn size(&self, range: RangeInclusive<u64>, fix: &str) -> Option<u64> {
        match value::size(self.text()?) {
            Ok(size) if range.contains(&size) => return Some(size),
            Ok(_) => self.fault("the size is out of range", fix),
            Err(message) => self.fault(message, fix),
        }
        None
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let near = names.iter().find(|name| {
            strsim::damerau_levenshtein(&text.to_lowercase(), &name.to_lowercase()) <= 2
        });
        let near = near.map_or(String::new(), |name| format!("; did you mean `{name}`?"));
        self.fault(format!("`{text}` is not known here{near}"), format!("write {}", list(&names)));
        None
    }

    /// The entries of a list. A variable's text is a list separated by commas.
    pub(super) fn list(&self) -> Vec<Item<'a>> {
        let entry =
            |i, node, part| Item { source: self.source, path: self.path.index(i), node, part };
        match self.node {
            Node::List(nodes) => {
                nodes.iter().enumerate().map(|(i, node)| entry(i, node, None)).collect()
            }
            Node::Variable { text, .. } => text
                .split(',')
                .enumerate()
                .map(|(i, part)| entry(i, self.node, Some(part.trim())))
                .collect(),
            node => {
                self.fault(
                    format!("{} where a list is expected", node.kind()),
                    "write [one, two], or a line with `- ` for each",
                );
                Vec::new()
            }
        }
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.node, Node::List(_))
    }

    /// Whether it is a map.
    pub(super) fn is_map(&self) -> bool {
        matches!(self.node, Node::Map(_))
    }

    /// The entries of a map with free names: name and value, in order.
    pub(super) fn entries(&self) -> Vec<(&'a str, Item<'a>)> {
        match self.node {
            Node::Map(entries) => {
                entries.iter().map(|(key, node)| (key.as_str(), self.child(key, node))).collect()
            }
            Node::Null => Vec::new(),
            node => {
                self.fault(
                    format!("{} where a map is expected", node.kind()),
                    "write `name:` and its settings below, indented",
                );
                Vec::new()
            }
        }
    }

    fn child(&self, key: &str, node: &'a Node) -> Item<'a> {
        Item { source: self.source, path: self.path.key(key), node, part: None }
    }

    /// The settings of a section; notes the keys that it does not have.
    pub(super) fn section(self, keys: &'static Keys) -> Section<'a> {
        for (name, item) in self.entries() {
            let anchors = keys.path.is_empty() && name.starts_with("x-");
            if !keys.has(name) && !anchors {
                item.unknown(name, keys);
            }
        }
        Section { item: self, keys }
    }

    fn unknown(&self, name: &str, keys: &Keys) {
        let (message, fix) = match keys.meant_by(name) {
            _ if keys.path == "server" && name == "dev" => (
                "`dev` cannot be set here".to_owned(),
                "start `pmp-auth serve --dev`, which needs no file".to_owned(),
            ),
            Some(meant) => (
                format!("unknown key `{name}`; did you mean `{meant}`?"),
                format!("write `{meant}`, or remove the line"),
            ),
            None => {
                let known: Vec<&str> = keys.keys.iter().map(|key| key.name).collect();
                (format!("unknown key `{name}`"), format!("the keys here are {}", list(&known)))
            }
        };
        if self.is_from_environment() {
            self.fault(message, fix);
        } else {
            let place = self.source.positions.key(&self.path);
            self.source.fault(&self.path, place, message, fix);
        }
    }
}

/// Zero-width characters and those that turn the direction of writing: a name with them is not the
/// name that people see (UTS #39).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `a, b or c`
fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [many @ .., last] => {
            let many: Vec<String> = many.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", many.join(", "))
        }
    }
}

/// A map with known keys.
#[derive(Clone)]
pub(super) struct Section<'a> {
    pub(super) item: Item<'a>,
    keys: &'static Keys,
}

impl<'a> Section<'a> {
    /// The value of `key`, when it is there and not empty.
    pub(super) fn get(&self, key: &str) -> Option<Item<'a>> {
        debug_assert!(self.keys.has(key), "`{key}` is not described in keys.rs");
        let node = self.item.node.get(key).filter(|node| **node != Node::Null)?;
        Some(self.item.child(key, node))
    }

    /// The value of `key`, which must be there.
    pub(super) fn require(&self, key: &str, fix: &str) -> Option<Item<'a>> {
        let item = self.get(key);
        if item.is_none() {
            self.fault(format!("`{key}` is missing"), fix);
        }
        item
    }

    /// A section within this one; all defaults when it is absent.
    pub(super) fn section(&self, key: &str, keys: &'static Keys) -> Section<'a> {
        const NOTHING: &Node = &Node::Null;
        let node = self.item.node.get(key).unwrap_or(NOTHING);
        self.item.child(key, node).section(keys)
    }

    /// Notes a fault of the section as a whole, at its beginning.
    pub(super) fn fault(&self, message: impl Into<String>, fix: impl Into<String>) {
        self.item.fault(message, fix);
    }

    /// `true` or `false`, or what it is when absent.
    pub(super) fn boolean(&self, key: &str, default: bool) -> bool {
        self.get(key).and_then(|item| item.boolean()).unwrap_or(default)
    }

    /// Text of `range` characters.
    pub(super) fn words(&self, key: &str, range: RangeInclusive<usize>) -> Option<String> {
        self.get(key)?.words(range)
    }

    /// A duration, or what it is when absent or wrong.
    pub(super) fn duration(
        &self,
        key: &str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        self.get(key).and_then(|item| item.duration(range)).unwrap_or(default)
    }

    /// One of a few words, or what it is when absent or wrong.
    pub(super) fn one_of<T: Copy>(&self, key: &str, words: &[(&str, T)], default: T) -> T {
        self.get(key).and_then(|item| item.one_of(words)).unwrap_or(default)
    }
}
