//! A text as a QR code, in characters that are half as wide as high.

use std::fmt::Write as _;

use fast_qr::qr::QRBuilder;
use fast_qr::{ECL, Module};

use crate::error::Failure;
use crate::output::{Output, count};

/// Modules of white around the code, which readers need.
const MARGIN: usize = 2;

/// The same in a picture: as many as the standard asks for (ISO/IEC 18004).
const PICTURE_MARGIN: usize = 4;

/// Returns the code as lines of half blocks, dark on light in any colour scheme; `None` when the text is
/// too long for one.
pub(crate) fn qr(text: &str) -> Option<String> {
    let code = QRBuilder::new(text).ecl(ECL::L).build().ok()?;
    let size = code.size;
    let is_light = |row: usize, column: usize| {
        let inside = |at: usize| at.checked_sub(MARGIN).filter(|at| *at < size);
        match (inside(row), inside(column)) {
            (Some(row), Some(column)) => code.data[row * size + column].value() == Module::LIGHT,
            _ => true,
        }
    };
    let whole = size + 2 * MARGIN;
    let mut lines = String::new();
    for row in (0..whole).step_by(2) {
        // White on black, whatever the terminal's own colours are.
        lines.push_str("\u{1b}[97;40m");
        for column in 0..whole {
            lines.push(match (is_light(row, column), is_light(row + 1, column)) {
                (true, true) => '\u{2588}',
                (true, false) => '\u{2580}',
                (false, true) => '\u{2584}',
                (false, false) => ' ',
            });
        }
        lines.push_str("\u{1b}[0m\n");
    }
    Some(lines)
}

/// Returns the code as a picture in SVG, which prints in any size; `None` when the text is too long for one.
pub(crate) fn qr_svg(text: &str) -> Option<String> {
    let code = QRBuilder::new(text).ecl(ECL::M).build().ok()?;
    let (size, margin) = (code.size, PICTURE_MARGIN);
    let whole = size + 2 * margin;
    let mut path = String::new();
    for row in 0..size {
        // Dark modules beside each other are one stroke.
        let mut column = 0;
        while column < size {
            let is_dark = |at: &usize| code.data[row * size + at].value() == Module::DARK;
            let length = (column..size).take_while(is_dark).count();
            if length > 0 {
                let (x, y) = (column + margin, row + margin);
                let _ = write!(path, "M{x} {y}h{length}v1h-{length}z");
            }
            column += length + 1;
        }
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {whole} {whole}\" \
         shape-rendering=\"crispEdges\"><rect width=\"{whole}\" height=\"{whole}\" fill=\"#fff\"/>\
         <path d=\"{path}\"/></svg>\n"
    ))
}

/// Shows a text as a QR code below it, or says that it is too long for one; nothing in JSON.
pub(crate) fn show_qr(text: &str, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(());
    }
    match qr(text) {
        Some(code) => output.data(&code),
        None => {
            output.say(format!(
                "{} are too long for a QR code",
                count(text.len() as u64, "byte")
            ));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_as_many_dark_modules_as_the_code() {
        let text = format!("kinlog://pair/#{}", "A".repeat(250));
        let picture = qr_svg(&text).expect("it fits");
        // Each stroke is `M x y h length v1 ...`; what goes back begins with a minus.
        let (_, path) = picture.split_once(" d=").expect("there is a path");
        let strokes = path.split('h').filter_map(|rest| {
            let number = rest.split(|one: char| !one.is_ascii_digit()).next()?;
            number.parse::<usize>().ok()
        });
        let code = QRBuilder::new(text.as_str())
            .ecl(ECL::M)
            .build()
            .expect("it fits");
        let modules = code.data[..code.size * code.size].iter();
        let dark = modules.filter(|one| one.value() == Module::DARK).count();
        assert_eq!(strokes.sum::<usize>(), dark);
        assert_eq!(qr_svg(&"x".repeat(10_000)), None);
    }

    #[test]
    fn a_link_with_its_server_fits_and_has_its_margin() {
        let text = format!("kinlog://link/#{}", "A".repeat(220));
        let code = qr(&text).expect("it fits");
        let lines: Vec<&str> = code.lines().collect();
        assert!(lines.len() > 20 && lines.len() < 50, "{}", lines.len());
        assert!(lines[0].contains("\u{2588}\u{2588}\u{2588}"));
        assert_eq!(qr(&"x".repeat(10_000)), None);
    }
}
