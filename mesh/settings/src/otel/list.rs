//! Lists as OpenTelemetry's variables hold them: `name=value,name=value`, values escaped as in a
//! URL where they have to be (W3C Baggage, without properties).

/// The pairs of a list. A sentence about a fault never holds a value, which may be a secret.
///
/// # Errors
/// What is wrong with it.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let parts = text.split(',').map(str::trim);
    let parts = parts.filter(|part| !part.is_empty());
    parts
        .enumerate()
        .map(|(at, part)| {
            let (name, value) = part.split_once('=').ok_or_else(|| {
                format!(
                    "has no \"=\" in entry {}; write name=value,name=value",
                    at + 1
                )
            })?;
            let (name, value) = (name.trim(), value.trim());
            if name.is_empty() {
                return Err(format!(
                    "has no name in entry {}; write name=value,name=value",
                    at + 1
                ));
            }
            let value = unescaped(value).ok_or_else(|| {
                format!("has a broken escape in the value of {name}; write % as %25")
            })?;
            Ok((name.to_owned(), value))
        })
        .collect()
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_pairs_with_escapes() {
        for (text, expected) in [
            ("", vec![]),
            ("a=b", vec![("a", "b")]),
            (" a = b , c=d,", vec![("a", "b"), ("c", "d")]),
            (
                "authorization=Bearer%20x%3D",
                vec![("authorization", "Bearer x=")],
            ),
            ("a=b=c", vec![("a", "b=c")]),
            ("a=", vec![("a", "")]),
            ("a=%C3%A9", vec![("a", "é")]),
        ] {
            let found = pairs(text).unwrap();
            let found: Vec<(&str, &str)> = found
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_broken_list_is_told_without_its_values() {
        for text in [
            "secret",
            "a=b,secret",
            "=secret",
            "a=secret%",
            "a=secret%4",
            "a=secret%zz",
            "a=secret%+1",
            "a=secret%ff",
        ] {
            let said = pairs(text).unwrap_err();
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
