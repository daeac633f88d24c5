use std::fmt::Write as _;

use super::PREFIX;
use super::keys::{ALL, Key, Section};

/// The reference of every key, as Markdown: `docs/configuration.md` carries it.
pub fn reference() -> String {
    let mut text = String::new();
    for section in ALL {
        let title = if section.path.is_empty() { "the file" } else { section.path };
        let _ = write!(text, "### `{title}`\n\n");
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
