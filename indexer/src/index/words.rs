//! Words as the full-text tables know them.

use std::borrow::Cow;

use crate::limits::{SEARCH_BYTES_MAX, SEARCH_WORDS_MAX};

/// Sets apart the characters of scripts that write without spaces, so that each is a word and a
/// word of such a script is found as a phrase.
pub(super) fn segment(text: &str) -> Cow<'_, str> {
    // Everything below U+0E00 starts with a byte below 0xe0, or is a three-byte 0xe0.
    if text.bytes().all(|byte| byte < 0xe0) || !text.chars().any(without_spaces) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        if without_spaces(character) {
            out.push(' ');
            out.push(character);
            out.push(' ');
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// Makes a legal FTS5 query out of anything: every word must occur. `None` when there is no word.
pub(super) fn query(text: &str) -> Option<String> {
    let mut end = text.len().min(SEARCH_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let words: Vec<String> = text[..end]
        .split(|character: char| character.is_whitespace() || character.is_control())
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .take(SEARCH_WORDS_MAX)
        .map(|word| format!("\"{}\"", segment(word).replace('"', "\"\"")))
        .collect();
    if words.is_empty() {
        None
    } else {
        Some(words.join(" "))
    }
}

/// Scripts without spaces between words: Thai, Lao, Myanmar, Khmer, kana, Han.
fn without_spaces(character: char) -> bool {
    matches!(u32::from(character),
        0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x31f0..=0x31ff
        | 0x3400..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scripts_without_spaces_are_set_apart() {
        assert!(matches!(segment("Grüße, мир, שלום"), Cow::Borrowed(_)));
        assert_eq!(segment("a学习b"), "a 学  习 b");
    }

    #[test]
    fn any_text_becomes_quoted_words_or_nothing() {
        assert_eq!(
            query("hello  NOT \"wor\"ld*"),
            Some(r#""hello" "NOT" """wor""ld*""#.into())
        );
        assert_eq!(query(" \"\" * ( \0 "), None);
        assert_eq!(
            query(&"é".repeat(SEARCH_BYTES_MAX)).unwrap().len(),
            SEARCH_BYTES_MAX + 2
        );
    }
}
