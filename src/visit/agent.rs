//! Parses the `User-Agent` header. Takes its text; returns a device class and a browser family.
//! Returns nothing finer on purpose, so that it cannot serve as a fingerprint. Pure.

use crate::domain::Device;

/// Device and browser of a user agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    /// `phone`, `tablet`, `computer`, `bot` or `unknown`.
    pub(crate) device: Device,
    /// `Chrome`, `Safari`, `Firefox`, `Edge`, `Opera`, `Samsung Internet`, `in-app browser` or
    /// empty.
    pub(crate) browser: &'static str,
}

/// Words in the user agents of crawlers that run scripts. Programs that run no scripts never send a
/// visit. The tag flags automated browsers instead, since site owners use them to test their own
/// pages.
const BOT_WORDS: [&str; 10] = [
    "bot", "crawl", "spider", "slurp", "preview", "lighthouse", "facebookexternalhit", "monitor",
    "whatsapp/", "embedly",
];

/// True for a lower-case user agent of a crawler. Cubot makes phones.
fn is_bot(text: &str) -> bool {
    let text = text.replace("cubot", "");
    BOT_WORDS.iter().any(|word| text.contains(word))
}

/// Words in the user agents of services that save a page with its scripts run, to show the copy to
/// crawlers.
const SNAPSHOT_WORDS: [&str; 3] = ["prerender", "rendertron", "phantomjs"];

/// True for crawlers, and for programs that may save the page and show it to others.
pub(crate) fn is_robot(user_agent: &str) -> bool {
    let text = user_agent.to_ascii_lowercase();
    is_bot(&text) || SNAPSHOT_WORDS.iter().any(|word| text.contains(word))
}

/// Parses a `User-Agent`.
pub(crate) fn read(user_agent: &str) -> Agent {
    let text = user_agent.to_ascii_lowercase();
    let has = |word: &str| text.contains(word);
    let device = if text.is_empty() {
        Device::Unknown
    } else if is_bot(&text) {
        Device::Bot
    } else if has("ipad") || has("tablet") || (has("android") && !has("mobile")) {
        Device::Tablet
    } else if has("mobi") || has("iphone") || has("android") {
        Device::Phone
    } else if has("windows") || has("macintosh") || has("linux") || has("cros") {
        Device::Computer
    } else {
        Device::Unknown
    };
    let browser =
        if has("fban/") || has("fbav/") || has("instagram") || has("tiktok") || has("bytedance") {
            "in-app browser"
        } else if has("edg/") || has("edga/") || has("edgios/") {
            "Edge"
        } else if has("opr/") || has("opera") {
            "Opera"
        } else if has("samsungbrowser/") {
            "Samsung Internet"
        } else if has("firefox/") || has("fxios/") {
            "Firefox"
        } else if has("chrome/") || has("crios/") {
            "Chrome"
        } else if has("safari/") {
            "Safari"
        } else {
            ""
        };
    Agent { device, browser }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_user_agents_are_recognized() {
        let iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1";
        let rows = [
            (iphone, Device::Phone, "Safari"),
            (
                "Mozilla/5.0 (Linux; Android 13; CUBOT NOTE 30) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
                Device::Phone,
                "Chrome",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
                Device::Computer,
                "Chrome",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
                Device::Computer,
                "Edge",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
                Device::Computer,
                "Firefox",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 Chrome/131.0.0.0 Mobile Safari/537.36",
                Device::Phone,
                "Chrome",
            ),
            (
                "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36",
                Device::Tablet,
                "Chrome",
            ),
            (
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
                Device::Bot,
                "",
            ),
            ("facebookexternalhit/1.1", Device::Bot, ""),
            ("WhatsApp/2.23.20.0 A", Device::Bot, ""),
            ("python-requests/2.32", Device::Unknown, ""),
            ("", Device::Unknown, ""),
            ("\u{0}ümlaut", Device::Unknown, ""),
        ];
        for (text, device, browser) in rows {
            assert_eq!(read(text), Agent { device, browser }, "{text}");
        }
    }
}
