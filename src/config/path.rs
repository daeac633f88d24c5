use std::fmt;

/// Where a value stands: `tenants.acme.clients[1].redirect_uris[0]`; empty for the whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Path(String);

impl Path {
    /// The value of `key` in the map at this path.
    pub(super) fn key(&self, key: &str) -> Self {
        let plain = !key.is_empty()
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        let key = if plain { key.to_owned() } else { format!("{key:?}") };
        if self.0.is_empty() { Self(key) } else { Self(format!("{}.{key}", self.0)) }
    }

    /// The entry at `index` of the list at this path.
    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path of what this stands in; none for the whole file.
    pub(super) fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = if let Some(list) = self.0.strip_suffix(']') {
            list.rfind('[')
        } else if self.0.ends_with('"') {
            // A quoted key: its quotes inside are escaped, so the last bare one opens it.
            self.0.rfind(".\"").or(Some(0))
        } else {
            self.0.rfind('.')
        };
        Some(Self(self.0[..end.unwrap_or(0)].to_owned()))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
