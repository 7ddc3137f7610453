//! A small tree of an XML answer.
//!
//! Text is kept to the byte: a key may begin or end with a space. Answers are bounded in length by the
//! transport and in depth here.

use quick_xml::Reader;
use quick_xml::events::attributes::Attribute;
use quick_xml::events::{BytesRef, BytesStart, Event};

/// No answer of a store nests deeper.
const DEPTH_MAX: usize = 32;

/// An element.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Parses a document and returns its outermost element; `None` if it is not well-formed.
    pub(crate) fn parse(document: &str) -> Option<Self> {
        let mut reader = Reader::from_str(document.trim_start_matches('\u{feff}'));
        let mut open = vec![Self::default()];
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) if open.len() < DEPTH_MAX => open.push(Self::begun(&start)?),
                Event::Start(_) => return None,
                Event::Empty(start) => {
                    let element = Self::begun(&start)?;
                    open.last_mut()?.children.push(element);
                }
                Event::End(_) => {
                    let closed = open.pop()?;
                    open.last_mut()?.children.push(closed);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::CData(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::GeneralRef(reference) => open.last_mut()?.text.push(resolve(&reference)?),
                Event::Eof => break,
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
        let [root] = &mut open[..] else { return None };
        root.children.pop()
    }

    fn begun(start: &BytesStart<'_>) -> Option<Self> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let pair = |attribute: Attribute<'_>| Some((text(attribute.key.as_ref())?, text(&attribute.value)?));
        let attributes = start.attributes().map(|attribute| pair(attribute.ok()?)).collect::<Option<_>>()?;
        Some(Self { name: text(start.local_name().as_ref())?, attributes, ..Self::default() })
    }

    /// The value of an attribute, as it is written.
    #[cfg_attr(
        not(feature = "azure"),
        allow(dead_code, reason = "only Azure's answers have attributes that count")
    )]
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// The element's own name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The children of this name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child of this name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of this name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| &*child.text)
    }
}

/// The character that `&...;` stands for. XML has five by name; others come by number.
fn resolve(reference: &BytesRef<'_>) -> Option<char> {
    if let Some(character) = reference.resolve_char_ref().ok()? {
        return Some(character);
    }
    match &*reference.decode().ok()? {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => None,
    }
}

/// Text as it may stand in an element.
#[cfg(any(feature = "s3", feature = "gcs"))]
pub(crate) fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_kept_to_the_byte() {
        let document =
            "<?xml version=\"1.0\"?>\n<R xmlns=\"u\"><K> a &amp;&#x26; b </K><K/><E><C>x</C></E></R>";
        let root = Element::parse(document).unwrap();
        assert_eq!(root.name(), "R");
        assert_eq!(root.text("K"), Some(" a && b "));
        assert_eq!(root.all("K").count(), 2);
        assert_eq!(root.child("E").and_then(|e| e.text("C")), Some("x"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(garbage in "(<[a-z/ ]{0,4}>?|&#?[a-z0-9]{0,4};?|.){0,40}") {
            let _ = Element::parse(&garbage);
        }

        #[cfg(any(feature = "s3", feature = "gcs"))]
        #[test]
        fn escaped_text_reads_back(text in "[^\r]*") {
            let root = Element::parse(&format!("<a><b>{}</b></a>", escape(&text))).unwrap();
            prop_assert_eq!(root.text("b"), Some(&*text));
        }
    }
}
