//! The values of the file, before any meaning is read into them.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

/// A value as the file, or a variable of the environment, has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Integer(i128),
    /// No setting is a fraction; kept for the message.
    Fraction(f64),
    Text(String),
    List(Vec<Node>),
    /// In order; a key that stands twice is twice here.
    Map(Vec<(String, Node)>),
    /// From the environment: text whose meaning depends on the setting.
    Variable {
        name: String,
        text: String,
    },
}

impl Node {
    /// What it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Integer(_) => "a number",
            Self::Fraction(_) => "a fraction",
            Self::Text(_) | Self::Variable { .. } => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// The value of `key`, when this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Takes the entries of `<<` into the map around it; entries of its own win
    /// (<https://yaml.org/type/merge.html>).
    pub(super) fn merge(self) -> Self {
        match self {
            Self::List(nodes) => Self::List(nodes.into_iter().map(Self::merge).collect()),
            Self::Map(entries) => {
                let (bases, mut own): (Vec<_>, Vec<_>) = entries
                    .into_iter()
                    .map(|(key, value)| (key, value.merge()))
                    .partition(|(key, value)| key == "<<" && value.is_mergeable());
                for base in bases.into_iter().flat_map(|(_, value)| value.maps()) {
                    if own.iter().all(|(key, _)| *key != base.0) {
                        own.push(base);
                    }
                }
                Self::Map(own)
            }
            other => other,
        }
    }

    fn is_mergeable(&self) -> bool {
        match self {
            Self::Map(_) => true,
            Self::List(nodes) => nodes.iter().all(|node| matches!(node, Self::Map(_))),
            _ => false,
        }
    }

    fn maps(self) -> Vec<(String, Self)> {
        match self {
            Self::Map(entries) => entries,
            Self::List(nodes) => nodes.into_iter().flat_map(Self::maps).collect(),
            _ => Vec::new(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
        Node::deserialize(from)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }
    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Integer(value))
    }
    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Fraction(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Node>()? {
            let key = match key {
                Node::Text(text) => text,
                Node::Integer(number) => number.to_string(),
                Node::Bool(truth) => truth.to_string(),
                other => return Err(A::Error::custom(format!("{} as a key", other.kind()))),
            };
            map.push((key, entries.next_value()?));
        }
        Ok(Node::Map(map))
    }
    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom("a tag (`!…`) has no meaning here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_keys_are_taken_in_and_own_keys_win() {
        let text = "base: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}\nmany: {<<: [*b, {z: 4}]}\n";
        let node: Node = serde_yaml::from_str(text).unwrap();
        let node = node.merge();
        let own = node.get("own").unwrap();
        assert_eq!(own.get("x"), Some(&Node::Integer(1)));
        assert_eq!(own.get("y"), Some(&Node::Integer(3)));
        assert_eq!(own.get("<<"), None);
        assert_eq!(node.get("many").unwrap().get("z"), Some(&Node::Integer(4)));
    }

    #[test]
    fn words_that_old_yaml_took_for_truth_are_text() {
        for word in ["NO", "on", "yes", "y"] {
            assert_eq!(serde_yaml::from_str::<Node>(word).unwrap(), Node::Text(word.into()));
        }
    }

    #[test]
    fn nothing_at_all_is_null_and_tags_are_refused() {
        assert_eq!(serde_yaml::from_str::<Node>("").unwrap(), Node::Null);
        assert!(serde_yaml::from_str::<Node>("a: !secret x").is_err());
        assert!(serde_yaml::from_str::<Node>("a: 1\n---\na: 2").is_err());
    }
}
