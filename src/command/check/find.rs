//! Finds the tag among the scripts of a page.
//! Takes a page and the server's public URL; returns the scripts that are the tag, and those that
//! may contain a copy of it.
//! Pure.

use url::Url;

use super::page::{Element, Page};

/// The page's scripts with a URL, including those that an optimizer delays.
pub(super) fn scripts(page: &Page) -> impl Iterator<Item = (&Element, Url)> {
    page.elements.iter().filter(|element| element.name == "script").filter_map(|script| {
        let src =
            ["src", "data-rocket-src", "data-src"].iter().find_map(|name| script.get(name))?;
        Some((script, page.base.join(src.trim()).ok()?))
    })
}

/// The page's scripts whose URL is that of the tag.
pub(super) fn tags<'a>(page: &'a Page, ours: Option<&Url>) -> Vec<(&'a Element, Url)> {
    scripts(page).filter(|(_, address)| is_tag(address) && is_below(address, ours)).collect()
}

/// The scripts that may contain a copy of the tag; none if the tag itself is on the page.
pub(super) fn to_look_into(page: &Page, ours: Option<&Url>) -> Vec<Url> {
    if !tags(page, ours).is_empty() {
        return Vec::new();
    }
    // A script with the tag's path that is not below our URL is the tag of another server, not a
    // copy.
    let others = scripts(page).map(|(_, address)| address).filter(|address| !is_tag(address));
    others.filter(|address| matches!(address.scheme(), "http" | "https")).collect()
}

/// True for a URL like the tag's: `…/t/{site}.js`.
fn is_tag(address: &Url) -> bool {
    let path = address.path().rsplit_once('/');
    path.is_some_and(|(before, file)| before.ends_with("/t") && file.ends_with(".js"))
}

/// True for a script directly below `/t` of the server's public URL, or if that is not set.
fn is_below(address: &Url, ours: Option<&Url>) -> bool {
    ours.is_none_or(|ours| {
        let prefix = ours.path().trim_end_matches('/');
        let before = address.path().rsplit_once('/').map(|(before, _)| before);
        ours.host_str() == address.host_str() && before == Some(&format!("{prefix}/t"))
    })
}
