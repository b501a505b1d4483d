//! A text as a QR code, in characters that are half as wide as high.

use fast_qr::qr::QRBuilder;
use fast_qr::{ECL, Module};

use crate::error::Failure;
use crate::output::{Output, count};

/// Modules of white around the code, which readers need.
const MARGIN: usize = 2;

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
    fn a_link_with_its_server_fits_and_has_its_margin() {
        let text = format!("kinlog://link/#{}", "A".repeat(220));
        let code = qr(&text).expect("it fits");
        let lines: Vec<&str> = code.lines().collect();
        assert!(lines.len() > 20 && lines.len() < 50, "{}", lines.len());
        assert!(lines[0].contains("\u{2588}\u{2588}\u{2588}"));
        assert_eq!(qr(&"x".repeat(10_000)), None);
    }
}
