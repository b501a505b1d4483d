//! Text of other people, made harmless for a terminal.
//!
//! A name or message that carries escape sequences could move the cursor, rename the window or
//! pretend to be output of ours. Control characters and the marks that reverse the direction of
//! writing are shown as a visible sign instead.

/// Stands for a character that is not shown.
const REPLACEMENT: char = '\u{fffd}';

/// Returns `text` as one line: no control characters, no line breaks.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|character| {
            if harmless(character) {
                character
            } else {
                REPLACEMENT
            }
        })
        .collect()
}

/// Returns `text` with its line breaks and tabs kept, all other control characters replaced.
pub(crate) fn clean_lines(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' | '\t' => character,
            other if harmless(other) => other,
            _ => REPLACEMENT,
        })
        .collect()
}

fn harmless(character: char) -> bool {
    let reorders = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}'
    );
    let breaks_line = matches!(character, '\u{2028}' | '\u{2029}');
    !character.is_control() && !reorders && !breaks_line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_lose_their_power() {
        let hostile = "Ada\u{1b}]0;owned\u{7}\u{9b}31m\r\nroot@host";
        let shown = clean(hostile);
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(shown.contains("Ada") && shown.contains("root@host"));
    }

    #[test]
    fn direction_overrides_are_replaced() {
        assert_eq!(clean("a\u{202e}b"), "a\u{fffd}b");
    }

    #[test]
    fn lines_survive_where_lines_are_wanted() {
        assert_eq!(clean_lines("a\n\tb\u{1b}[2J"), "a\n\tb\u{fffd}[2J");
    }

    #[test]
    fn letters_of_all_scripts_survive() {
        let text = "Grüße, 你好, שלום, 👩‍👩‍👧";
        assert_eq!(clean(text), text);
    }
}
