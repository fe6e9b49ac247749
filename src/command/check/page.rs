//! Parses the elements of a page. Takes HTML as served; returns its elements, the policies in
//! `meta` elements and the base URL. Guarantees that no text makes it panic, and that comments and
//! the content of `noscript` are not elements. Pure.

use html5gum::{DefaultEmitter, Token, Tokenizer};
use url::Url;

/// Attributes that may contain a payment link or a click ID: those in which the tag replaces the
/// placeholder.
const PLACES: [&str; 10] = [
    "href", "action", "formaction", "data-href", "data-url", "data-link", "data-at-value",
    "client-reference-id", "src", "value",
];

/// A start tag.
#[derive(Debug)]
pub(super) struct Element {
    /// In lower case.
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
}

impl Element {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A parsed page.
pub(super) struct Page {
    /// The URL to which relative URLs refer.
    pub(super) base: Url,
    pub(super) elements: Vec<Element>,
    /// Content Security Policies in `meta` elements.
    pub(super) policies: Vec<String>,
}

impl Page {
    pub(super) fn read(html: &str, address: &Url) -> Self {
        let mut page = Self { base: address.clone(), elements: Vec::new(), policies: Vec::new() };
        let (mut is_hidden, mut has_base) = (false, false);
        // The content of a script or a style is text, not elements.
        let mut emitter = DefaultEmitter::default();
        emitter.naively_switch_states(true);
        for token in Tokenizer::new_with_emitter(html, emitter) {
            let Ok(token) = token;
            match token {
                Token::StartTag(tag) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let attributes = tag.attributes.iter();
                    let attributes = attributes.map(|(name, value)| (text(name), text(value)));
                    let element =
                        Element { name: text(&tag.name), attributes: attributes.collect() };
                    is_hidden |= element.name == "noscript";
                    if is_hidden {
                        continue;
                    }
                    if element.name == "base"
                        && let Some(base) = element.get("href").filter(|_| !has_base)
                        && let Ok(base) = address.join(base)
                    {
                        (page.base, has_base) = (base, true);
                    }
                    if element.name == "meta"
                        && let Some(kind) = element.get("http-equiv")
                        && kind.eq_ignore_ascii_case("content-security-policy")
                    {
                        page.policies.extend(element.get("content").map(str::to_owned));
                    }
                    page.elements.push(element);
                }
                Token::EndTag(tag) if tag.name.as_slice() == b"noscript" => is_hidden = false,
                Token::EndTag(_)
                | Token::String(_)
                | Token::Comment(_)
                | Token::Doctype(_)
                | Token::Error(_) => {}
            }
        }
        page
    }

    /// Values of the attributes in [`PLACES`], each with its element; without those of scripts,
    /// images and `base`.
    pub(super) fn values(&self) -> impl Iterator<Item = (&str, &Element)> {
        let has_links =
            |element: &&Element| !["script", "base", "img"].contains(&element.name.as_str());
        self.elements.iter().filter(has_links).flat_map(|element| {
            let attributes = element.attributes.iter();
            let places = attributes.filter(|(name, _)| PLACES.contains(&name.as_str()));
            places.map(move |(_, value)| (value.as_str(), element))
        })
    }
}
