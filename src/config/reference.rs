use std::fmt::Write as _;

use super::PREFIX;
use super::keys::{ALL, Key, Section};

/// The reference of every key, as Markdown: `docs/configuration.md` carries it.
pub fn reference() -> String {
    let mut text = String::new();
    for section in ALL {
        match section.path {
            "" => text.push_str("### The file\n\n"),
            path => {
                let _ = write!(text, "### `{path}`\n\n");
            }
        }
        text.push_str("| key | what it does | value | default | example | environment |\n");
        text.push_str("|---|---|---|---|---|---|\n");
        for key in section.keys {
            let _ = writeln!(text, "{}", row(section, key));
        }
        text.push('\n');
    }
    text
}

fn row(section: &Section, key: &Key) -> String {
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    format!(
        "| `{}` | {} | {} | {} | {} | {} |",
        key.name,
        key.about,
        key.kind,
        key.default,
        code(key.example),
        code(&variable(section, key)),
    )
}

/// The variable that overrides the key; none for what stands in a list, and for sections.
fn variable(section: &Section, key: &Key) -> String {
    if section.path.contains("[]") || key.kind.contains("section") {
        return String::new();
    }
    let path = section.path.split('.').chain([key.name]).filter(|part| !part.is_empty());
    let parts: Vec<String> = path.map(str::to_ascii_uppercase).collect();
    format!("{PREFIX}{}", parts.join("__"))
}

#[cfg(test)]
mod tests {
    use super::super::keys::{CLIENT, LIFETIMES, SERVER};
    use super::*;

    #[test]
    fn the_document_has_every_key() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        let document = std::fs::read_to_string(&path).unwrap();
        let (head, _) = document.split_once("-->\n\n").expect("the mark above the reference");
        let expected = format!("{head}-->\n\n{}\n", reference().trim_end());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
            return;
        }
        assert!(
            document == expected,
            "docs/configuration.md is behind: UPDATE_DOCS=1 cargo test --lib config::reference"
        );
    }

    #[test]
    fn variables_are_named_after_paths() {
        let variable = |section: &Section, name: &str| {
            variable(section, section.keys.iter().find(|key| key.name == name).unwrap())
        };
        assert_eq!(variable(&SERVER, "public_url"), "PMP_AUTH__SERVER__PUBLIC_URL");
        assert_eq!(variable(&LIFETIMES, "code"), "PMP_AUTH__TENANTS__<NAME>__LIFETIMES__CODE");
        assert_eq!(variable(&CLIENT, "client_id"), "");
    }
}
