//! Turns a byte offset of a TOML text into what a person looks for: the line and the dotted key.

use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// The line that holds the byte at `offset`, counted from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    1 + before.iter().filter(|b| **b == b'\n').count()
}

/// The dotted path of the innermost key whose name or value covers `offset`.
///
/// `None` if the text is no TOML, or the offset lies outside every key.
pub(super) fn key_at(text: &str, offset: usize) -> Option<String> {
    let table = DeTable::parse(text).ok()?;
    let mut path = Vec::new();
    in_table(table.get_ref(), offset, &mut path).then(|| path.join("."))
}

fn covers(span: Range<usize>, offset: usize) -> bool {
    span.contains(&offset) || span.start == offset
}

/// A table's own span covers only its header, so children are searched whatever it says.
fn in_table(table: &DeTable<'_>, offset: usize, path: &mut Vec<String>) -> bool {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        let within = in_value(value.get_ref(), offset, path);
        if within || covers(key.span(), offset) || covers(value.span(), offset) {
            return true;
        }
        path.pop();
    }
    false
}

fn in_value(value: &DeValue<'_>, offset: usize, path: &mut Vec<String>) -> bool {
    if let Some(table) = value.as_table() {
        return in_table(table, offset, path);
    }
    let items = value.as_array().into_iter().flatten();
    items.enumerate().any(|(index, item)| {
        path.push(index.to_string());
        let found = in_value(item.get_ref(), offset, path);
        if !found {
            path.pop();
        }
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[cache]\nsize = \"1GiB\"\n\n[[mounts]]\nufs = \"/a\"\n[[mounts]]\nufs = \"/b\"\noptions = { region = \"x\" }\n";

    fn at(needle: &str) -> (usize, Option<String>) {
        let offset = TEXT.find(needle).unwrap();
        (line_of(TEXT, offset), key_at(TEXT, offset))
    }

    #[test]
    fn offsets_become_lines_and_keys() {
        assert_eq!(at("\"1GiB\""), (2, Some("cache.size".into())));
        assert_eq!(at("\"/b\""), (7, Some("mounts.1.ufs".into())));
        assert_eq!(at("\"x\""), (8, Some("mounts.1.options.region".into())));
        assert_eq!(key_at("a = ", 2), None);
        assert_eq!(line_of("", 10), 1);
    }
}
