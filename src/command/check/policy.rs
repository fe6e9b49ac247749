//! Evaluates a Content Security Policy. Takes one policy and the page's URL; returns whether a
//! script may run and whether a URL may be requested. Guarantees that it refuses when in doubt, as
//! browsers do. Pure. Follows Content Security Policy Level 3, §6.7.

use url::Url;

use super::page::Element;

pub(super) struct Policy {
    directives: Vec<(String, Vec<String>)>,
    page: Url,
}

impl Policy {
    pub(super) fn read(text: &str, page: &Url) -> Self {
        let mut directives: Vec<(String, Vec<String>)> = Vec::new();
        for directive in text.split(';') {
            let mut words = directive.split_ascii_whitespace();
            let Some(name) = words.next().map(str::to_ascii_lowercase) else { continue };
            // If a directive appears twice, the first one applies.
            if directives.iter().all(|(known, _)| *known != name) {
                directives.push((name, words.map(str::to_owned).collect()));
            }
        }
        Self { directives, page: page.clone() }
    }

    /// The sources of the first of these directives that the policy has; `None`, which allows
    /// everything, if it has none of them.
    fn sources(&self, names: &[&str]) -> Option<&[String]> {
        let find = |name: &&str| self.directives.iter().find(|(known, _)| known == name);
        names.iter().find_map(find).map(|(_, sources)| sources.as_slice())
    }

    /// Whether this script may run.
    pub(super) fn allows_script(&self, address: &Url, script: &Element) -> bool {
        let names = ["script-src-elem", "script-src", "default-src"];
        let Some(sources) = self.sources(&names) else { return true };
        let has = |word: &str| sources.iter().any(|source| source == word);
        let nonce = script.get("nonce").is_some_and(|nonce| has(&format!("'nonce-{nonce}'")));
        let mut hashes = script.get("integrity").unwrap_or_default().split_ascii_whitespace();
        if nonce || hashes.any(|hash| has(&format!("'{hash}'"))) {
            return true;
        }
        // With `strict-dynamic`, scripts in the page need a nonce or a hash.
        !has("'strict-dynamic'") && self.matches(sources, address)
    }

    /// Whether the page may send requests to this URL.
    pub(super) fn allows_connection(&self, address: &Url) -> bool {
        let sources = self.sources(&["connect-src", "default-src"]);
        sources.is_none_or(|sources| self.matches(sources, address))
    }

    fn matches(&self, sources: &[String], address: &Url) -> bool {
        sources.iter().any(|source| self.matches_one(source, address))
    }

    fn matches_one(&self, source: &str, address: &Url) -> bool {
        let source = source.to_ascii_lowercase();
        let scheme = address.scheme();
        if source == "'self'" {
            return is_scheme(self.page.scheme(), scheme)
                && address.host_str() == self.page.host_str()
                && ports_fit(self.page.port_or_known_default(), self.page.scheme(), address);
        }
        if source == "*" {
            return matches!(scheme, "http" | "https");
        }
        if source.starts_with('\'') {
            return false;
        }
        if let Some(wanted) = source.strip_suffix(':') {
            return is_scheme(wanted, scheme);
        }
        let (wanted, rest) = source.split_once("://").unwrap_or((self.page.scheme(), &source));
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        let actual = address.host_str().unwrap_or_default();
        let is_host = match host.strip_prefix("*.") {
            Some(domain) => actual
                .strip_suffix(domain)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => host == "*" || host == actual,
        };
        let is_port = match port {
            "*" => true,
            "" => ports_fit(default_port(wanted), wanted, address),
            port => port.parse().is_ok_and(|port: u16| ports_fit(Some(port), wanted, address)),
        };
        let is_path = match path {
            "" | "/" => true,
            path if path.ends_with('/') => address.path().to_ascii_lowercase().starts_with(path),
            path => address.path().eq_ignore_ascii_case(path),
        };
        is_scheme(wanted, scheme) && is_host && is_port && is_path
    }
}

/// True if the schemes are equal; a policy for http also allows https.
fn is_scheme(wanted: &str, actual: &str) -> bool {
    wanted == actual || (wanted == "http" && actual == "https")
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// True if the ports are equal; port 80 of http also allows 443 of https.
fn ports_fit(wanted: Option<u16>, scheme: &str, address: &Url) -> bool {
    let actual = address.port_or_known_default();
    wanted == actual || (scheme == "http" && wanted == Some(80) && actual == Some(443))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_match_as_browsers_match_them() {
        let rows = [
            ("'self'", "https://www.shop.com/k/t/main.js", true),
            ("'self'", "https://go.shop.com/t/main.js", false),
            ("https:", "https://go.shop.com/t/main.js", true),
            ("*", "https://go.shop.com/t/main.js", true),
            ("'none'", "https://go.shop.com/t/main.js", false),
            ("", "https://go.shop.com/t/main.js", false),
            ("go.shop.com", "https://go.shop.com/t/main.js", true),
            ("GO.shop.com", "https://go.shop.com/t/main.js", true),
            ("go.shop.com", "http://go.shop.com/t/main.js", false),
            ("http://go.shop.com", "https://go.shop.com/t/main.js", true),
            ("*.shop.com", "https://go.shop.com/t/main.js", true),
            ("*.shop.com", "https://shop.com/t/main.js", false),
            ("*.shop.com", "https://evilshop.com/t/main.js", false),
            ("go.shop.com", "https://go.shop.com:8443/t/main.js", false),
            ("go.shop.com:8443", "https://go.shop.com:8443/t/main.js", true),
            ("go.shop.com:*", "https://go.shop.com:8443/t/main.js", true),
            ("go.shop.com/t/", "https://go.shop.com/t/main.js", true),
            ("go.shop.com/x/", "https://go.shop.com/t/main.js", false),
            ("go.shop.com/t/main.js", "https://go.shop.com/t/main.js", true),
            ("'strict-dynamic' go.shop.com", "https://go.shop.com/t/main.js", false),
            ("'strict-dynamic' 'nonce-r4nd0m'", "https://go.shop.com/t/main.js", true),
            ("'sha384-abc='", "https://go.shop.com/t/main.js", true),
        ];
        let page = Url::parse("https://www.shop.com/").unwrap();
        let attributes = [("nonce", "r4nd0m"), ("integrity", "sha384-abc=")];
        let script = Element {
            name: "script".to_owned(),
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        for (sources, address, expected) in rows {
            let policy = Policy::read(&format!("; script-src {sources}; script-src *"), &page);
            let address = Url::parse(address).unwrap();
            assert_eq!(policy.allows_script(&address, &script), expected, "{sources} {address}");
        }
    }
}
