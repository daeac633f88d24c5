use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use axum::response::Response;

use crate::http::extract::Request;
use crate::http::{Edge, reply};

/// Logos are small.
const LOGO_LIMIT: u64 = 256 * 1024;

/// `GET /assets/{name}`: the style sheet, under a name that changes with its content, and the icon.
pub(in crate::http) async fn stylesheet(
    State(edge): State<Edge>,
    axum::extract::Path(name): axum::extract::Path<String>,
) -> Response {
    if name == "icon.svg" {
        let kind = HeaderValue::from_static("image/svg+xml");
        return file(kind, "public, max-age=86400", super::template::ICON.into());
    }
    if edge.templates.stylesheet().strip_prefix("/assets/") != Some(name.as_str()) {
        return reply::problem(StatusCode::NOT_FOUND);
    }
    let sheet = Body::from(super::template::STYLESHEET);
    file(
        HeaderValue::from_static("text/css; charset=utf-8"),
        "public, max-age=31536000, immutable",
        sheet,
    )
}

/// `GET {issuer}/brand.css`: the tenant's accent colour, for light and for dark.
pub(in crate::http) async fn colours(request: Request) -> Response {
    match request.tenant.settings.branding.accent.as_deref().and_then(palette) {
        Some(sheet) => file(
            HeaderValue::from_static("text/css; charset=utf-8"),
            "public, max-age=300",
            sheet.into(),
        ),
        None => reply::problem(StatusCode::NOT_FOUND),
    }
}

/// `GET {issuer}/logo`: the tenant's logo. An SVG may contain scripts: opened by itself it is shut in.
pub(in crate::http) async fn logo(request: Request) -> Response {
    let Some(path) = &request.tenant.settings.branding.logo else {
        return reply::problem(StatusCode::NOT_FOUND);
    };
    let kind = match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        _ => return reply::problem(StatusCode::NOT_FOUND),
    };
    let fits = tokio::fs::metadata(path).await.is_ok_and(|file| file.len() <= LOGO_LIMIT);
    match tokio::fs::read(path).await {
        Ok(bytes) if fits => {
            let kind = HeaderValue::from_static(kind);
            let mut response = file(kind, "public, max-age=300", bytes.into());
            response.headers_mut().insert(
                CONTENT_SECURITY_POLICY,
                HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
            );
            response
        }
        _ => reply::problem(StatusCode::NOT_FOUND),
    }
}

fn file(kind: HeaderValue, cache: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

/// The colours that follow from an accent: as it is on light pages if it can be read there, darker
/// if not; lighter on dark pages (WCAG 2.2 §1.4.3: 4.5 to 1).
fn palette(accent: &str) -> Option<String> {
    let accent = parse(accent)?;
    let light = until_readable(accent, [255; 3], [0; 3]);
    let dark = until_readable(accent, [0x17, 0x1a, 0x22], [255; 3]);
    Some(format!(
        ":root{{--accent:{};--accent-strong:{};--on-accent:#fff}}\n\
         @media (prefers-color-scheme:dark){{:root{{--accent:{};--accent-strong:{};--on-accent:#0c1330}}}}\n",
        hex(light),
        hex(mix(light, [0; 3], 0.2)),
        hex(dark),
        hex(mix(dark, [255; 3], 0.25)),
    ))
}

type Rgb = [u8; 3];

fn parse(text: &str) -> Option<Rgb> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    Some([part(0)?, part(2)?, part(4)?])
}

fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn until_readable(colour: Rgb, on: Rgb, towards: Rgb) -> Rgb {
    let steps = (0..=20).map(|step| mix(colour, towards, f64::from(step) / 20.0));
    steps.into_iter().find(|mixed| contrast(*mixed, on) >= 4.5).unwrap_or(towards)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 255")]
fn mix(from: Rgb, to: Rgb, share: f64) -> Rgb {
    let part = |at: usize| {
        (f64::from(from[at]) + (f64::from(to[at]) - f64::from(from[at])) * share).round() as u8
    };
    [part(0), part(1), part(2)]
}

fn contrast(one: Rgb, other: Rgb) -> f64 {
    let (a, b) = (luminance(one), luminance(other));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

fn luminance(colour: Rgb) -> f64 {
    let part = |at: usize| {
        let value = f64::from(colour[at]) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * part(0) + 0.7152 * part(1) + 0.0722 * part(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_that_cannot_be_read_is_darkened_or_lightened_until_it_can() {
        let yellow = parse("#ffee00").unwrap();
        assert!(contrast(yellow, [255; 3]) < 4.5);
        assert!(contrast(until_readable(yellow, [255; 3], [0; 3]), [255; 3]) >= 4.5);
        let navy = parse("#000040").unwrap();
        let card = [0x17, 0x1a, 0x22];
        assert!(contrast(until_readable(navy, card, [255; 3]), card) >= 4.5);
        assert_eq!(until_readable(navy, [255; 3], [0; 3]), navy);
    }

    #[test]
    fn what_is_no_colour_makes_no_sheet() {
        for bad in ["red", "#fff", "#12345g", "#1234567", "url(x)", "#12345é"] {
            assert_eq!(palette(bad), None, "{bad}");
        }
        assert!(palette("#2747d8").unwrap().starts_with(":root{--accent:#2747d8;"));
    }
}
