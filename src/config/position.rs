//! Where everything stands in the file: a walk over its parse events before any value is built.
//! It also bounds the work that a hostile file can cause.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::path::Path;

/// Nesting beyond this is refused: the parsers are quadratic on it.
const MAX_DEPTH: usize = 64;
/// Values in the file once aliases are expanded (a "billion laughs" has many more).
const MAX_VALUES: usize = 100_000;

/// A line and a column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    /// The first character.
    pub(super) const START: Self = Self { line: 1, column: 1 };

    fn of(mark: &Marker) -> Self {
        Self { line: mark.line(), column: mark.col() + 1 }
    }
}

/// The file cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) fix: String,
}

#[derive(Debug, Clone)]
struct Entry {
    key: Option<Place>,
    value: Place,
    /// The text of a plain scalar, which tells `8` from `0o10`.
    plain: Option<String>,
}

/// Places by path.
#[derive(Debug, Default)]
pub(super) struct Positions {
    entries: HashMap<Path, Entry>,
    duplicates: Vec<(Path, Place)>,
}

impl Positions {
    /// Reads the events of `text`.
    pub(super) fn read(text: &str) -> Result<Self, Unreadable> {
        let mut walk = Walk::default();
        let mut parser = Parser::new_from_str(text);
        while let Some(next) = parser.next_event() {
            let (event, span) = next.map_err(|error| Unreadable {
                place: Place::of(error.marker()),
                message: format!("this is not YAML: {}", error.info()),
                fix: "mind indentation, quotes and brackets just before this place".into(),
            })?;
            walk.event(event, Place::of(&span.start))?;
        }
        Ok(walk.found)
    }

    /// Where the value at `path` begins, or the nearest thing around it that stands in the file.
    pub(super) fn value(&self, path: &Path) -> Place {
        self.nearest(path).map_or(Place::START, |entry| entry.value)
    }

    /// Where the key of `path` stands, or the nearest thing around it.
    pub(super) fn key(&self, path: &Path) -> Place {
        self.nearest(path).map_or(Place::START, |entry| entry.key.unwrap_or(entry.value))
    }

    /// The text of the plain scalar at `path`, as written.
    pub(super) fn plain(&self, path: &Path) -> Option<&str> {
        self.entries.get(path)?.plain.as_deref()
    }

    /// Keys that stand twice in one map, at their second place.
    pub(super) fn duplicates(&self) -> &[(Path, Place)] {
        &self.duplicates
    }

    fn nearest(&self, path: &Path) -> Option<&Entry> {
        let mut path = path.clone();
        loop {
            if let Some(entry) = self.entries.get(&path) {
                return Some(entry);
            }
            path = path.parent()?;
        }
    }
}

/// A map or list that is open.
struct Open {
    path: Path,
    anchor: usize,
    values_before: usize,
    kind: OpenKind,
}

enum OpenKind {
    List { next: usize },
    Map { seen: HashSet<String>, pending: Option<(String, Place)> },
}

#[derive(Default)]
struct Walk {
    found: Positions,
    open: Vec<Open>,
    /// How many values an anchored value has, by anchor id.
    sizes: HashMap<usize, usize>,
    values: usize,
}

impl Walk {
    fn event(&mut self, event: Event<'_>, place: Place) -> Result<(), Unreadable> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                if anchor > 0 {
                    self.sizes.insert(anchor, 1);
                }
                if self.is_key(&text, place) {
                    return Ok(());
                }
                let plain = (style == ScalarStyle::Plain).then(|| text.into_owned());
                self.value(place, plain);
                self.count(1, place)
            }
            Event::Alias(anchor) => {
                let size = self.sizes.get(&anchor).copied().unwrap_or(1);
                self.value(place, None);
                self.count(size, place)
            }
            Event::SequenceStart(anchor, _) => {
                self.begin(place, anchor, OpenKind::List { next: 0 })
            }
            Event::MappingStart(anchor, _) => {
                self.begin(place, anchor, OpenKind::Map { seen: HashSet::new(), pending: None })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.end();
                Ok(())
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    /// Takes a scalar that stands where a key is expected.
    fn is_key(&mut self, text: &str, place: Place) -> bool {
        let Some(Open { path, kind: OpenKind::Map { seen, pending }, .. }) = self.open.last_mut()
        else {
            return false;
        };
        if pending.is_some() {
            return false;
        }
        if !seen.insert(text.to_owned()) {
            self.found.duplicates.push((path.key(text), place));
        }
        *pending = Some((text.to_owned(), place));
        true
    }

    /// Notes a value and returns its path.
    fn value(&mut self, place: Place, plain: Option<String>) -> Path {
        let (path, key) = match self.open.last_mut() {
            None => (Path::default(), None),
            Some(Open { path, kind: OpenKind::List { next }, .. }) => {
                *next += 1;
                (path.index(*next - 1), None)
            }
            Some(Open { path, kind: OpenKind::Map { pending, .. }, .. }) => {
                if let Some((key, at)) = pending.take() {
                    (path.key(&key), Some(at))
                } else {
                    // A list or map as a key: no setting has one; its own value follows.
                    *pending = Some(("?".into(), place));
                    (path.key("?"), Some(place))
                }
            }
        };
        self.found.entries.entry(path.clone()).or_insert(Entry { key, value: place, plain });
        path
    }

    fn begin(&mut self, place: Place, anchor: usize, kind: OpenKind) -> Result<(), Unreadable> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Unreadable {
                place,
                message: format!("more than {MAX_DEPTH} levels are nested here"),
                fix: "no setting is nested so deeply; look for a missing bracket".into(),
            });
        }
        let path = self.value(place, None);
        let values_before = self.values;
        self.open.push(Open { path, anchor, values_before, kind });
        self.count(1, place)
    }

    fn end(&mut self) {
        if let Some(open) = self.open.pop()
            && open.anchor > 0
        {
            self.sizes.insert(open.anchor, self.values - open.values_before);
        }
    }

    fn count(&mut self, values: usize, place: Place) -> Result<(), Unreadable> {
        self.values = self.values.saturating_add(values);
        if self.values <= MAX_VALUES {
            return Ok(());
        }
        Err(Unreadable {
            place,
            message: format!("the file has more than {MAX_VALUES} values, aliases expanded"),
            fix: "use fewer aliases".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize) -> Place {
        Place { line, column }
    }

    #[test]
    fn keys_and_values_have_places() {
        let found = Positions::read("a:\n  - b: 1\n    c: [x, y]\n").unwrap();
        let c = Path::default().key("a").index(0).key("c");
        assert_eq!(found.key(&c), at(3, 5));
        assert_eq!(found.value(&c), at(3, 8));
        assert_eq!(found.value(&c.index(1)), at(3, 12));
        assert_eq!(found.value(&c.index(1).key("beyond")), at(3, 12), "the nearest around it");
        assert_eq!(found.plain(&Path::default().key("a").index(0).key("b")), Some("1"));
    }

    #[test]
    fn every_second_key_is_found() {
        let found = Positions::read("a: 1\nb: {c: 1, c: 2}\na: 2\n").unwrap();
        let places: Vec<_> =
            found.duplicates().iter().map(|(p, at)| (p.to_string(), *at)).collect();
        assert_eq!(places, [("b.c".to_owned(), at(2, 11)), ("a".to_owned(), at(3, 1))]);
    }

    #[test]
    fn deep_nesting_is_refused_at_once() {
        let nested = |depth: usize| Positions::read(&("[".repeat(depth) + &"]".repeat(depth)));
        assert!(nested(64).is_ok());
        assert!(nested(65).unwrap_err().message.contains("64 levels"));
        assert!(nested(20_000).is_err());
    }

    #[test]
    fn a_billion_laughs_is_refused_before_it_is_expanded() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
            text = format!("{text}a{i}: &a{i} [{aliases}]\n");
        }
        let error = Positions::read(&text).unwrap_err();
        assert!(error.message.contains("aliases"), "{}", error.message);
    }

    #[test]
    fn broken_yaml_has_a_place() {
        let error = Positions::read("a: [1,\nb: 2\n").unwrap_err();
        assert!(error.place.line >= 2, "{error:?}");
    }
}
