//! A command as an operator writes it in one setting, taken apart without a shell.

/// Takes a command apart: words are separated by spaces; '...' and "..." keep spaces, \ takes the
/// next character as it is. Nothing else has a meaning: no variable, no pipe, no wildcard.
///
/// # Errors
/// A sentence without its subject: an open quote, or a \ at the end.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (char, quote) {
            ('\\', None | Some('"')) => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("it ends with a \\".to_owned()),
            },
            ('\'' | '"', None) => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (_, Some(open)) if char == open => quote = None,
            (_, None) if char.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(char),
        }
    }
    match quote {
        Some(open) => Err(format!("the quote {open} is never closed")),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_words_and_nothing_else() {
        let split_whole = |text| split(text).unwrap();
        assert_eq!(split_whole("  rsync -a  'a b' "), ["rsync", "-a", "a b"]);
        assert_eq!(
            split_whole(r#"x "a 'b' \" c" d\ e ''"#),
            ["x", "a 'b' \" c", "d e", ""]
        );
        assert_eq!(split_whole("x $HOME; rm *"), ["x", "$HOME;", "rm", "*"]);
        for bad in ["x 'a", "x \"a", "x \\"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
