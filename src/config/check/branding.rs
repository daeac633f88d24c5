use std::path::PathBuf;

use super::super::read::{Item, Section};
use super::super::settings::Branding;

const MAX_LOGO_BYTES: u64 = 256 * 1024;

/// Reads `branding`.
pub(super) fn read(section: &Section<'_>) -> Branding {
    Branding {
        accent: section.get("accent").and_then(|item| accent(&item)),
        logo: section.get("logo").and_then(|item| logo(&item)),
    }
}

fn accent(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let hex = text.strip_prefix('#').unwrap_or("");
    if hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(text.to_ascii_lowercase());
    }
    item.fault(format!("`{text}` is no colour"), "write it like \"#0f766e\", in quotes");
    None
}

fn logo(item: &Item<'_>) -> Option<PathBuf> {
    let text = item.text()?;
    let path = item.source.resolve(text);
    let known = path.extension().and_then(|end| end.to_str());
    if !known.is_some_and(|end| matches!(end, "svg" | "png" | "webp" | "jpg" | "jpeg")) {
        item.fault(format!("`{text}` is no picture"), "name a .svg, .png, .webp or .jpg file");
        return None;
    }
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() && found.len() <= MAX_LOGO_BYTES => return Some(path),
        Ok(_) => item.fault(format!("`{text}` is larger than 256 KiB"), "make it smaller"),
        Err(error) => {
            item.fault(format!("cannot read `{text}`: {error}"), "name a file that is there");
        }
    }
    None
}
