//! Overrides from the environment: `PMP_AUTH__SERVER__LISTEN` is `server.listen`.

use std::path::PathBuf;

use super::fault::Fault;
use super::path::Path;
use super::tree::Node;
use crate::base::Secret;

/// What every variable begins with.
pub const PREFIX: &str = "PMP_AUTH__";

/// Settings that come from outside the file: variables of the environment, and options of the
/// command line that are spelt like them.
#[derive(Debug, Clone, Default)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// No overrides.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The variables of this process that begin with [`PREFIX`].
    pub fn of_process() -> Self {
        let mut variables: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| {
                let name = name.into_string().ok()?;
                is_ours(&name).then(|| (name, value.to_string_lossy().into_owned()))
            })
            .collect();
        variables.sort();
        Self(variables)
    }

    /// What to log (`PMP_AUTH_LOG`), in the syntax of `RUST_LOG`: `info`, `warn,pmp_auth=debug`, …
    pub fn log_filter() -> Option<String> {
        std::env::var_os("PMP_AUTH_LOG").and_then(|text| text.into_string().ok())
    }

    /// Where programs keep data of their user: `$XDG_DATA_HOME`, else `~/.local/share`. The
    /// specification has relative paths ignored.
    pub fn data_home() -> Option<PathBuf> {
        let absolute = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))
    }

    /// The secret of the client that a command is to be (`PMP_AUTH_CLIENT_SECRET`).
    pub fn client_secret() -> Option<Secret<String>> {
        let text = std::env::var_os("PMP_AUTH_CLIENT_SECRET")?.into_string().ok()?;
        (!text.is_empty()).then(|| Secret::new(text))
    }

    /// Whether the user wants no colours (`NO_COLOR`, <https://no-color.org>).
    pub fn no_color() -> bool {
        std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
    }

    /// Adds one; a later one wins.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts the overrides into `root`. An empty value counts as unset, never as an empty secret.
    pub(super) fn apply(&self, root: &mut Node, faults: &mut Vec<Fault>) {
        for (name, text) in self.0.iter().filter(|(_, text)| !text.is_empty()) {
            let keys: Vec<&str> = name.get(PREFIX.len()..).unwrap_or("").split("__").collect();
            let value = Node::Variable { name: name.clone(), text: text.clone() };
            if let Err((path, message)) = put(root, &Path::default(), &keys, value) {
                faults.push(Fault {
                    file: format!("environment {name}"),
                    line: 0,
                    column: 0,
                    path: path.to_string(),
                    message,
                    fix: "name a single setting, as in PMP_AUTH__SERVER__LISTEN; lists of maps \
                          are set in the file"
                        .into(),
                });
            }
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Whether the part of a variable's name means `key`: case does not count, and `-` is spelt `_`.
fn means(part: &str, key: &str) -> bool {
    part.len() == key.len()
        && part.bytes().zip(key.bytes()).all(|(a, b)| {
            let b = if b == b'-' { b'_' } else { b };
            a.eq_ignore_ascii_case(&b) || (a == b'-' && b == b'_')
        })
}

fn put(into: &mut Node, path: &Path, keys: &[&str], value: Node) -> Result<(), (Path, String)> {
    let Some((first, rest)) = keys.split_first() else {
        if matches!(into, Node::Map(_)) {
            return Err((path.clone(), "this is a section, not a setting".into()));
        }
        *into = value;
        return Ok(());
    };
    if first.is_empty() {
        return Err((path.clone(), "the name of the variable has an empty part".into()));
    }
    if matches!(into, Node::Null) {
        *into = Node::Map(Vec::new());
    }
    let Node::Map(entries) = into else {
        return Err((path.clone(), format!("this is {}, which has no keys", into.kind())));
    };
    let at = entries.iter().position(|(key, _)| means(first, key)).unwrap_or_else(|| {
        entries.push((first.to_ascii_lowercase(), Node::Null));
        entries.len() - 1
    });
    let (key, node) = &mut entries[at];
    put(node, &path.key(key), rest, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(yaml: &str, variables: &[(&str, &str)]) -> (Node, Vec<Fault>) {
        let mut root = serde_yaml::from_str(yaml).unwrap();
        let mut faults = Vec::new();
        let environment =
            variables.iter().fold(Environment::empty(), |all, (name, value)| all.with(name, value));
        environment.apply(&mut root, &mut faults);
        (root, faults)
    }

    #[test]
    fn a_variable_overrides_and_adds_whatever_its_case() {
        let (root, faults) = applied(
            "tenants: {my-app: {name: X}}",
            &[("PMP_AUTH__Tenants__MY_APP__NAME", "Y"), ("PMP_AUTH__SERVER__DEMO", "true")],
        );
        assert_eq!(faults, []);
        let name = root.get("tenants").unwrap().get("my-app").unwrap().get("name").unwrap();
        assert!(matches!(name, Node::Variable { text, .. } if text == "Y"));
        assert!(root.get("server").unwrap().get("demo").is_some());
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let (root, _) = applied("a: {b: x}", &[("PMP_AUTH__A__B", "")]);
        assert_eq!(root.get("a").unwrap().get("b"), Some(&Node::Text("x".into())));
    }

    #[test]
    fn a_list_cannot_be_entered_and_a_section_not_replaced() {
        let variables = [("PMP_AUTH__A__0__B", "x"), ("PMP_AUTH__S", "x"), ("PMP_AUTH____A", "x")];
        let (_, faults) = applied("a: [{b: 1}]\ns: {t: 1}\n", &variables);
        assert_eq!(faults.len(), 3);
        assert_eq!(faults[0].file, "environment PMP_AUTH__A__0__B");
        assert_eq!(faults[0].path, "a");
    }
}
