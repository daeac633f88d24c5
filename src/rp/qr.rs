//! QR codes: as SVG for pages and as half blocks for terminals.

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode};

/// The margin that scanners need, in modules.
const QUIET: usize = 4;

/// A QR code, with its margin.
pub struct Qr {
    dark: Vec<bool>,
    width: usize,
}

/// How a terminal shows dark and light.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Black on white by colour codes: right on every background.
    Colours,
    /// Without colours: the letters' colour is taken for the lighter, as on dark terminals.
    Plain,
}

impl Qr {
    /// The code that says `text`; none where it is too long for one (about 2,900 bytes).
    pub fn of(text: &str) -> Option<Self> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
        let inner = code.width();
        let width = inner + 2 * QUIET;
        let mut dark = vec![false; width * width];
        for (at, colour) in code.to_colors().into_iter().enumerate() {
            dark[(at / inner + QUIET) * width + at % inner + QUIET] = colour == Color::Dark;
        }
        Some(Self { dark, width })
    }

    fn is_dark(&self, x: usize, y: usize) -> bool {
        self.dark.get(y * self.width + x).copied().unwrap_or_default()
    }

    /// An SVG element without style or script, as large as what it stands in. `label` is what is
    /// read aloud; it must not have characters that HTML escapes.
    pub fn svg(&self, label: &str) -> String {
        let mut path = String::new();
        for y in 0..self.width {
            let mut x = 0;
            while x < self.width {
                let run = (x..self.width).take_while(|x| self.is_dark(*x, y)).count();
                if run > 0 {
                    let _ = write!(path, "M{x} {y}h{run}v1h-{run}z");
                }
                x += run.max(1);
            }
        }
        format!(
            "<svg class=\"qr\" role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {0} {0}\" \
             shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{0}v{0}h-{0}z\"/>\
             <path fill=\"#000\" d=\"{path}\"/></svg>",
            self.width
        )
    }

    /// Lines of half blocks: two rows of modules to a line.
    pub fn lines(&self, ink: Ink) -> Vec<String> {
        let rows = (0..self.width).step_by(2);
        let line = |y: usize| {
            let block = |x: usize| {
                let (mut upper, mut lower) = (self.is_dark(x, y), self.is_dark(x, y + 1));
                if ink == Ink::Plain {
                    (upper, lower) = (!upper, !lower && y + 1 < self.width);
                }
                match (upper, lower) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                }
            };
            let blocks: String = (0..self.width).map(block).collect();
            match ink {
                // Black and white of the fixed palette: themes do not change those.
                Ink::Colours => format!("\u{1b}[38;5;16;48;5;231m{blocks}\u{1b}[0m"),
                Ink::Plain => blocks,
            }
        };
        rows.map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_eyes_stand_within_the_margin() {
        let qr = Qr::of("https://id.example/device?user_code=WDJB-MJHT").unwrap();
        let last = qr.width - QUIET - 1;
        for (x, y) in [(QUIET, QUIET), (last, QUIET), (QUIET, last)] {
            assert!(qr.is_dark(x, y));
        }
        assert!((0..qr.width).all(|i| !qr.is_dark(i, QUIET - 1) && !qr.is_dark(last + 1, i)));
    }

    #[test]
    fn a_line_is_as_wide_as_the_code_in_either_ink() {
        let qr = Qr::of("x").unwrap();
        let lines = qr.lines(Ink::Plain);
        assert_eq!(lines.len(), qr.width.div_ceil(2));
        assert!(lines.iter().all(|line| line.chars().count() == qr.width));
        assert!(lines[0].chars().all(|c| c == '█'), "the margin is light");
        assert!(qr.lines(Ink::Colours)[0].contains(&" ".repeat(qr.width)));
    }

    #[test]
    fn the_svg_has_nothing_that_a_strict_page_refuses() {
        let svg = Qr::of("x").unwrap().svg("QR code");
        assert!(!svg.contains("style") && !svg.contains("xmlns") && !svg.contains("http"), "{svg}");
    }

    #[test]
    fn too_much_text_is_no_code() {
        assert!(Qr::of(&"x".repeat(5000)).is_none());
    }
}
