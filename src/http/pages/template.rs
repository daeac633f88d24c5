//! The templates, the catalogue of words and the style sheet, put together once at start.

use std::collections::HashMap;

use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind};
use serde::Serialize;

use crate::base::{Digest, hex};

const TEMPLATES: &[(&str, &str)] = &[
    ("layout.html", include_str!("templates/layout.html")),
    ("login.html", include_str!("templates/login.html")),
    ("consent.html", include_str!("templates/consent.html")),
    ("device.html", include_str!("templates/device.html")),
    ("device_asked.html", include_str!("templates/device_asked.html")),
    ("device_card.html", include_str!("templates/device_card.html")),
    ("device_decision.html", include_str!("templates/device_decision.html")),
    ("device_done.html", include_str!("templates/device_done.html")),
    ("logout.html", include_str!("templates/logout.html")),
    ("logged_out.html", include_str!("templates/logged_out.html")),
    ("continue.html", include_str!("templates/continue.html")),
    ("error.html", include_str!("templates/error.html")),
    ("demo.html", include_str!("templates/demo.html")),
    ("demo_signed_in.html", include_str!("templates/demo_signed_in.html")),
    ("demo_tv.html", include_str!("templates/demo_tv.html")),
];
const TEXT: &str = include_str!("text.en.yaml");

/// The style sheet of every page.
pub const STYLESHEET: &str = include_str!("assets/style.css");

/// The style sheet of the demo's television, which looks like nothing else here.
pub const TV_STYLESHEET: &str = include_str!("assets/tv.css");

/// The mark in the browser's tab.
pub const ICON: &str = include_str!("assets/icon.svg");

type Catalogue = HashMap<String, HashMap<String, String>>;

/// Renders pages.
pub struct Templates {
    environment: Environment<'static>,
    catalogue: Catalogue,
    stylesheet: String,
}

impl Templates {
    /// Reads templates and words; a fault in either is found here, at start.
    pub fn new() -> Result<Self, Error> {
        let catalogue: Catalogue = serde_yaml::from_str(TEXT).map_err(|error| {
            Error::new(ErrorKind::InvalidOperation, "the catalogue of words").with_source(error)
        })?;
        let stylesheet = format!("/assets/{}.css", stylesheet_name());
        let mut environment = Environment::new();
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::SemiStrict);
        environment.add_filter("fill", fill);
        environment.add_filter("fill_plain", fill_plain);
        environment.add_filter("monogram", monogram);
        environment.add_global("t", Value::from(Serde(&catalogue)));
        environment.add_global("stylesheet", &stylesheet);
        for (name, source) in TEMPLATES {
            environment.add_template(name, source)?;
        }
        Ok(Self { environment, catalogue, stylesheet })
    }

    /// Renders the template `name` with `context`.
    pub fn render(&self, name: &str, context: impl Serialize) -> Result<String, Error> {
        self.environment.get_template(name)?.render(Value::from(Serde(context)))
    }

    /// A word or sentence of the catalogue; the key itself where there is none.
    pub fn text<'a>(&'a self, page: &'a str, key: &'a str) -> &'a str {
        self.catalogue.get(page).and_then(|page| page.get(key)).map_or(key, String::as_str)
    }

    /// The path of the style sheet; it changes with its content, so that it can be kept for ever.
    pub fn stylesheet(&self) -> &str {
        &self.stylesheet
    }
}

fn stylesheet_name() -> String {
    hex(&Digest::<()>::of(STYLESHEET.as_bytes()).as_bytes()[..8])
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of a filter")]
/// Fills `{name}` in a text, as HTML: both are escaped, and what is filled in is isolated, so that a
/// name written right to left cannot reorder the sentence around it.
fn fill(text: &str, values: Kwargs) -> Result<Value, Error> {
    let filled = place(text, &values, |value| format!("<bdi>{}</bdi>", escape(value)), escape)?;
    Ok(Value::from_safe_string(filled))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of a filter")]
/// The same as text, for titles.
fn fill_plain(text: &str, values: Kwargs) -> Result<String, Error> {
    place(text, &values, str::to_owned, str::to_owned)
}

fn place(
    text: &str,
    values: &Kwargs,
    value: impl Fn(&str) -> String,
    around: impl Fn(&str) -> String,
) -> Result<String, Error> {
    let mut filled = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('{') {
        let (name, after) = tail
            .split_once('}')
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "`{` without `}`"))?;
        filled.push_str(&around(before));
        filled.push_str(&value(&values.get::<Value>(name)?.to_string()));
        rest = after;
    }
    filled.push_str(&around(rest));
    values.assert_all_used()?;
    Ok(filled)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The first letter of a name, for the round or square mark beside it.
fn monogram(name: &str) -> String {
    let first = name.chars().find(|c| c.is_alphanumeric()).unwrap_or('·');
    first.to_uppercase().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    #[test]
    fn names_are_escaped_and_isolated() {
        let templates = Templates::new().unwrap();
        let page = templates
            .render(
                "continue.html",
                context! { url => "https://app.example/?a=1&b=2", client => "<b>\u{202e}evil</b>", tenant => (), host => () },
            )
            .unwrap();
        assert!(
            page.contains("<bdi>&lt;b&gt;\u{202e}evil&lt;&#x2f;b&gt;</bdi>")
                || page.contains("<bdi>&lt;b&gt;\u{202e}evil&lt;/b&gt;</bdi>"),
            "{page}"
        );
        assert!(!page.contains("<b>"));
    }

    #[test]
    fn a_word_that_is_missing_is_a_fault_and_not_a_blank() {
        let templates = Templates::new().unwrap();
        assert!(templates.environment.render_str("{{ t.login.nothing_like_it }}", ()).is_err());
        assert!(
            templates.environment.render_str("{{ t.login.lead | fill(other=1) }}", ()).is_err()
        );
    }

    #[test]
    fn the_style_sheet_is_named_by_its_content() {
        let templates = Templates::new().unwrap();
        assert_eq!(templates.stylesheet(), format!("/assets/{}.css", stylesheet_name()));
        assert!(STYLESHEET.len() < 16 * 1024, "pages stay below 30 KB");
    }
}
