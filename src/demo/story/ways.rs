//! Tables of the sample story: traffic sources, visitors by hour and weekday, browsers.
//! Hosts and names are invented. The shares are plausible, not measured.

/// Number of days, including today: twice the dashboard's default period, so that it can compare
/// with the previous one.
pub(super) const DAYS: i64 = 58;

/// A traffic source: an ad, a link, a search engine, or direct visits.
pub(super) struct Way {
    /// Weight among all sources; about per mille of all visitors.
    pub(super) weight: usize,
    /// Buyers per thousand visitors.
    pub(super) buys: usize,
    /// Phones per thousand visitors.
    pub(super) phones: usize,
    /// The landing page's query, without the ad click ID.
    pub(super) query: &'static str,
    /// Name of the ad click ID's parameter; empty if there is none.
    pub(super) ad_click_id: &'static str,
    pub(super) referrer: Option<&'static str>,
    /// First and last day on which it brings visits.
    pub(super) days: (i64, i64),
    pub(super) paths: &'static [&'static str],
}

const ALWAYS: (i64, i64) = (0, DAYS);
pub(super) static WAYS: [Way; 12] = [
    Way {
        weight: 210,
        buys: 30,
        phones: 550,
        query: "utm_source=google&utm_medium=cpc&utm_campaign=daylight-search",
        ad_click_id: "gclid",
        referrer: Some("https://www.google.com/"),
        days: ALWAYS,
        paths: &["/lamp", "/lamp", "/"],
    },
    Way {
        weight: 64,
        buys: 66,
        phones: 480,
        query: "utm_source=google&utm_medium=cpc&utm_campaign=brand",
        ad_click_id: "gclid",
        referrer: Some("https://www.google.com/"),
        days: ALWAYS,
        paths: &["/", "/lamp"],
    },
    Way {
        weight: 130,
        buys: 13,
        phones: 870,
        query: "utm_source=facebook&utm_medium=paid_social&utm_campaign=winter-desk",
        ad_click_id: "fbclid",
        referrer: Some("https://l.facebook.com/"),
        days: (0, 41),
        paths: &["/lamp"],
    },
    Way {
        weight: 190,
        buys: 19,
        phones: 870,
        query: "utm_source=facebook&utm_medium=paid_social&utm_campaign=studio-video",
        ad_click_id: "fbclid",
        referrer: Some("https://l.facebook.com/"),
        days: (40, DAYS),
        paths: &["/studio", "/studio", "/lamp"],
    },
    Way {
        weight: 85,
        buys: 12,
        phones: 940,
        query: "utm_source=instagram&utm_medium=paid_social&utm_campaign=studio-video",
        ad_click_id: "fbclid",
        referrer: Some("https://l.instagram.com/"),
        days: (40, DAYS),
        paths: &["/studio"],
    },
    Way {
        weight: 42,
        buys: 36,
        phones: 120,
        query: "utm_source=bing&utm_medium=cpc&utm_campaign=daylight-search",
        ad_click_id: "msclkid",
        referrer: Some("https://www.bing.com/"),
        days: ALWAYS,
        paths: &["/lamp"],
    },
    Way {
        weight: 110,
        buys: 4,
        phones: 980,
        query: "utm_source=tiktok&utm_medium=paid_social&utm_campaign=desk-tour",
        ad_click_id: "ttclid",
        referrer: Some("https://www.tiktok.com/"),
        days: (44, 52),
        paths: &["/studio"],
    },
    Way {
        weight: 135,
        buys: 24,
        phones: 520,
        query: "",
        ad_click_id: "",
        referrer: Some("https://www.google.com/"),
        days: ALWAYS,
        paths: &["/", "/lamp", "/journal/north-light", "/journal/desk-by-a-window"],
    },
    Way {
        weight: 34,
        buys: 9,
        phones: 610,
        query: "",
        ad_click_id: "",
        referrer: Some("https://www.reddit.com/"),
        days: ALWAYS,
        paths: &["/journal/north-light", "/lamp"],
    },
    Way {
        weight: 46,
        buys: 43,
        phones: 390,
        query: "utm_source=desk-notes&utm_medium=affiliate&utm_campaign=best-desk-lamps",
        ad_click_id: "",
        referrer: Some("https://desk-notes.example/best-desk-lamps"),
        days: ALWAYS,
        paths: &["/lamp"],
    },
    NEWSLETTER,
    Way {
        weight: 96,
        buys: 27,
        phones: 500,
        query: "",
        ad_click_id: "",
        referrer: None,
        days: ALWAYS,
        paths: &["/", "/", "/lamp"],
    },
];
pub(super) const NEWSLETTER: Way = Way {
    weight: 18,
    buys: 48,
    phones: 590,
    query: "utm_source=newsletter&utm_medium=email&utm_campaign=letter-14",
    ad_click_id: "",
    referrer: None,
    days: ALWAYS,
    paths: &["/lamp", "/journal/desk-by-a-window"],
};
/// Days on which the newsletter is sent.
pub(super) const LETTER_DAYS: [i64; 4] = [6, 20, 35, 49];

/// Visitors in each hour of a day, per thousand.
pub(super) const HOURS: [usize; 24] =
    [12, 7, 4, 3, 4, 9, 20, 34, 46, 54, 57, 56, 58, 55, 52, 50, 51, 55, 62, 72, 82, 76, 54, 27];
/// Visitors of each weekday in percent of the average, from Monday.
pub(super) const WEEKDAYS: [i64; 7] = [103, 106, 109, 104, 95, 82, 91];

pub(super) const PHONES: [&str; 4] = [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/500.0]",
    "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
];
pub(super) const COMPUTERS: [&str; 5] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    "Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
];
pub(super) const BOTS: [&str; 3] = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
];
