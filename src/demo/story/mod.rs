//! The sample story: eight weeks of a small shop that buys ads. Takes the time at which it ends and
//! the shop's time zone; returns visits, sales and the steps in which they happen. Guarantees the
//! same story for the same input, with an example of every way in which a payment can end. Pure.

mod dice;
mod ways;

use std::time::Duration;

use jiff::tz::TimeZone;

use self::dice::Dice;
use self::ways::{BOTS, COMPUTERS, HOURS, LETTER_DAYS, NEWSLETTER, PHONES, WAYS, WEEKDAYS, Way};
use super::checkout::{Buyer, Item, Sale, Times};
use crate::clock::Timestamp;
use crate::report;

/// Number of days, including today: twice the dashboard's default period, so that it can compare
/// with the previous one.
const DAYS: i64 = 58;
/// The day at which the last month begins. Most special cases are in it.
const MONTH: u32 = 28;
/// Seed of the pseudo-random numbers.
const SEED: u64 = 0x636c_6963_6b73_7461;
/// Visitors on an average day.
const VISITORS_A_DAY: usize = 76;
/// Host of the shop; `.example` names cannot be registered.
pub(super) const SHOP: &str = "www.northlight.example";

/// The whole story.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Story {
    /// The first instant of the first day.
    pub(super) begins: Timestamp,
    pub(super) visits: Vec<Visit>,
    pub(super) sales: Vec<Sale<Reference>>,
    /// In the order of time.
    pub(super) steps: Vec<Step>,
}

/// One visit, as the tag would send it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Visit {
    pub(super) at: Timestamp,
    pub(super) url: String,
    pub(super) referrer: Option<&'static str>,
    pub(super) agent: &'static str,
    pub(super) language: &'static str,
    pub(super) address: [u8; 4],
    /// Index of the visitor's previous visit.
    pub(super) previous: Option<usize>,
    /// True if the visitor came back directly and keeps the click ID.
    pub(super) keeps_click_id: bool,
    pub(super) is_automated: bool,
    pub(super) wants_privacy: bool,
    pub(super) ad_cookies: Option<String>,
    /// True for a click on the redirect link: no page, no tag.
    pub(super) is_by_link: bool,
    /// AnyTrack's click ID, if its tag is on the page too.
    pub(super) anytrack_click_id: Option<String>,
}

/// The value of a payment's `client_reference_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// The link has no such parameter.
    None,
    /// The tag did not run.
    Placeholder,
    /// Any other text.
    Text(String),
    /// The click ID of a visit.
    ClickIdOf(usize),
    /// The click ID of a visit with its last character changed.
    ForgedFrom(usize),
}

/// A step of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at: Timestamp,
    pub(super) what: What,
}

/// What happens in a step. Numbers are indexes into the story's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A tag reports a visit.
    VisitArrives(usize),
    /// Stripe sends an event about a sale.
    Webhook(usize, &'static str),
    /// Nothing new; the workers run once.
    Quiet,
}

/// The destination is down for a few minutes, then accepts the conversion.
const OUTAGE: &[(u16, &str)] =
    &[(503, "upstream unavailable"), (503, "upstream unavailable"), (502, "bad gateway")];
/// The destination rejects the conversion for good.
const REFUSAL: &[(u16, &str)] =
    &[(422, r#"{"error":"currency EUR is not enabled for this property"}"#)];

/// Builds the story that ends at `now`.
pub(super) fn tell(now: Timestamp, zone: &TimeZone) -> Story {
    let today = zone.to_datetime(timestamp(now)).date();
    let begins = first_instant(today, zone, DAYS - 1).unwrap_or(now);
    let mut teller = Teller {
        dice: Dice(SEED),
        ends: now,
        story: Story { begins, visits: Vec::new(), sales: Vec::new(), steps: Vec::new() },
    };
    for day in 0..DAYS {
        let date = first_instant(today, zone, DAYS - 1 - day);
        let weekday = zone.to_datetime(timestamp(date.unwrap_or(now))).date().weekday();
        let weekday = usize::try_from(weekday.to_monday_zero_offset()).unwrap_or(0);
        teller.tell_day(day, date.unwrap_or(now), WEEKDAYS[weekday % 7]);
    }
    teller.tell_special_cases();
    teller.tell_last_minutes();
    teller.tell_scanned_cards();
    teller.story.steps.sort_by_key(|step| step.at);
    teller.story
}

fn timestamp(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(at.as_ms()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

fn first_instant(today: jiff::civil::Date, zone: &TimeZone, days_ago: i64) -> Option<Timestamp> {
    let date = today.checked_sub(jiff::Span::new().try_days(days_ago).ok()?).ok()?;
    report::first_instant(date, zone)
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

struct Teller {
    dice: Dice,
    ends: Timestamp,
    story: Story,
}

impl Teller {
    fn tell_day(&mut self, day: i64, begins: Timestamp, weekday_per_cent: i64) {
        // The shop's traffic grows by about half within the eight weeks.
        let growth_per_cent = 80 + day * 2 / 3;
        let noise_per_cent = 93 + i64::try_from(self.dice.below(15)).unwrap_or(0);
        let per_million = weekday_per_cent * growth_per_cent * noise_per_cent;
        let visitors = VISITORS_A_DAY * usize::try_from(per_million).unwrap_or(0) / 1_000_000;
        for _ in 0..visitors {
            let at = begins.plus(self.hour_of_day());
            let way = self.way(day);
            self.tell_visitor(way, at);
        }
        if LETTER_DAYS.contains(&day) {
            for _ in 0..55 {
                // The newsletter is sent at nine. Most open it soon, some in the evening.
                let after = self.dice.below(240) * (1 + self.dice.below(3));
                let after = Duration::from_secs(u64::try_from(after).unwrap_or(0) * 60);
                self.tell_visitor(&NEWSLETTER, begins.plus(HOUR * 9 + after));
            }
        }
        for _ in 0..(4 + self.dice.below(5)) {
            let at = begins.plus(self.hour_of_day());
            let agent = self.dice.pick(&BOTS);
            let visit = Visit { agent, is_automated: true, ..self.visit(at, "/", "", None) };
            self.arrives(visit);
        }
    }

    fn hour_of_day(&mut self) -> Duration {
        let mut left = self.dice.below(HOURS.iter().sum());
        let hour = HOURS.iter().position(|share| {
            let is_here = left < *share;
            left = left.saturating_sub(*share);
            is_here
        });
        let ms = self.dice.below(3_600_000);
        HOUR * u32::try_from(hour.unwrap_or(12)).unwrap_or(12)
            + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    fn way(&mut self, day: i64) -> &'static Way {
        let runs = |way: &&Way| (way.days.0..=way.days.1).contains(&day);
        let mut left = self.dice.below(WAYS.iter().filter(runs).map(|way| way.weight).sum());
        let chosen = WAYS.iter().filter(runs).find(|way| {
            let is_here = left < way.weight;
            left = left.saturating_sub(way.weight);
            is_here
        });
        chosen.unwrap_or(&WAYS[0])
    }

    /// Adds a visitor, who may come back and may buy.
    fn tell_visitor(&mut self, way: &Way, at: Timestamp) {
        let first = self.landing(way, at);
        let Some(mut last) = self.arrives(first) else { return };
        let mut buys = way.buys;
        for _ in 0..2 {
            if !self.dice.chance(130) {
                break;
            }
            let pause = HOUR * 2 + Duration::from_secs(self.dice.up_to(4 * 86_400));
            let again = self.story.visits[last].at.plus(pause);
            // Returning visitors search for the name or enter the address.
            let back = [&WAYS[1], &WAYS[7], &WAYS[11], &WAYS[11]][self.dice.below(4)];
            let Some(next) = self.comes_back(last, back, again) else { break };
            last = next;
            buys = 45;
        }
        if self.dice.chance(buys) {
            let after = MINUTE * 3 + Duration::from_secs(self.dice.up_to(2400));
            let sale =
                self.sale(self.story.visits[last].at.plus(after), Reference::ClickIdOf(last));
            self.is_completed(sale);
        }
    }

    fn landing(&mut self, way: &Way, at: Timestamp) -> Visit {
        let path = self.dice.pick(way.paths);
        let mut query = way.query.to_owned();
        let mut ad_cookies = None;
        if !way.ad_click_id.is_empty() {
            let prefix = match way.ad_click_id {
                "gclid" => "Cj0KCQjw",
                "fbclid" => "IwZXh0bgNhZW0B",
                "ttclid" => "E.C.P.",
                _ => "",
            };
            let id = format!("{prefix}{}", self.dice.text(38));
            query.push_str(&format!("&{}={id}", way.ad_click_id));
            ad_cookies = match way.ad_click_id {
                "gclid" => Some(format!("_gcl_aw=GCL.{}.{id}", at.as_seconds())),
                "fbclid" => Some(format!("_fbp=fb.1.{}.{}", at.as_ms(), self.dice.below(1 << 30))),
                _ => None,
            };
        }
        let is_phone = self.dice.chance(way.phones);
        let agent = if is_phone { self.dice.pick(&PHONES) } else { self.dice.pick(&COMPUTERS) };
        Visit { agent, ad_cookies, ..self.visit(at, path, &query, way.referrer) }
    }

    fn visit(
        &mut self,
        at: Timestamp,
        path: &str,
        query: &str,
        referrer: Option<&'static str>,
    ) -> Visit {
        let mark = if query.is_empty() { "" } else { "?" };
        let network = self.dice.pick(&[[192, 0, 2], [198, 51, 100], [203, 0, 113]]);
        let last = u8::try_from(1 + self.dice.below(250)).unwrap_or(1);
        Visit {
            at,
            url: format!("https://{SHOP}{path}{mark}{query}"),
            referrer,
            language: self.dice.pick(&["en-US", "en-US", "en-GB", "en", "de-DE", "nl-NL"]),
            address: [network[0], network[1], network[2], last],
            wants_privacy: self.dice.chance(18),
            ..Visit::default()
        }
    }

    /// Adds a visit that the tag sends at once. `None` if that would be after the end of the story.
    fn arrives(&mut self, visit: Visit) -> Option<usize> {
        let at = visit.at;
        self.arrives_at(at, visit)
    }

    fn arrives_at(&mut self, at: Timestamp, visit: Visit) -> Option<usize> {
        let position = self.is_minted(visit);
        if at >= self.ends {
            self.story.visits.pop();
            return None;
        }
        self.story.steps.push(Step { at, what: What::VisitArrives(position) });
        Some(position)
    }

    /// Adds a visit with a click ID that is not sent (yet).
    fn is_minted(&mut self, visit: Visit) -> usize {
        self.story.visits.push(visit);
        self.story.visits.len() - 1
    }

    fn comes_back(&mut self, last: usize, way: &Way, at: Timestamp) -> Option<usize> {
        let mut visit = self.landing(way, at);
        let before = &self.story.visits[last];
        visit.agent = before.agent;
        visit.language = before.language;
        visit.address = before.address;
        visit.previous = Some(last);
        visit.keeps_click_id = way.query.is_empty() && way.referrer.is_none();
        self.arrives(visit)
    }

    /// Adds a sale without an event.
    fn sale(&mut self, at: Timestamp, reference: Reference) -> usize {
        let is_european = self.dice.chance(240);
        let item = self.dice.pick(&[0, 0, 0, 0, 1, 1, 2, 3, 3]);
        let item = &ITEMS[item];
        let number = self.story.sales.len();
        let buyer = Buyer::number(number, is_european);
        self.story.sales.push(Sale {
            session: format!("cs_live_{}", self.dice.text(58)),
            reference,
            metadata_click_id: None,
            customer: None,
            item,
            currency: if is_european { "eur" } else { "usd" },
            minor: if is_european { item.eur_minor } else { item.usd_minor },
            buyer,
            livemode: true,
            method: "card",
            is_paid: true,
            times: Times { created: at.minus(MINUTE * 2), completed: at },
            answers: &[],
        });
        number
    }

    /// Adds the event `checkout.session.completed`.
    fn is_completed(&mut self, sale: usize) {
        let at = self.story.sales[sale].times.completed;
        self.event(at, sale, "checkout.session.completed");
    }

    /// Adds an event about a sale.
    fn event(&mut self, at: Timestamp, sale: usize, kind: &'static str) {
        // The last six minutes have only the last sale.
        if at < self.ends.minus(MINUTE * 6) {
            // Stripe sends events after one or two seconds.
            let at = at.plus(Duration::from_millis(900 + self.dice.up_to(1400)));
            self.story.steps.push(Step { at, what: What::Webhook(sale, kind) });
        }
    }

    /// A random time between 10:00 and 19:00 on a day of the last month.
    fn on_day(&mut self, day: u32) -> Timestamp {
        self.in_open_hours(MONTH + day)
    }

    fn in_open_hours(&mut self, day: u32) -> Timestamp {
        let after = HOUR * 10 + Duration::from_secs(self.dice.up_to(9 * 3600));
        self.story.begins.plus(DAY * day + after)
    }

    /// A visit of its own and a sale that follows it.
    fn visit_and_sale(&mut self, day: u32, way: &Way) -> (usize, usize) {
        let at = self.on_day(day);
        let visit = self.landing(way, at);
        let position = self.is_minted(visit);
        self.story.steps.push(Step { at, what: What::VisitArrives(position) });
        let after = MINUTE * 6 + Duration::from_secs(self.dice.up_to(900));
        let sale = self.sale(at.plus(after), Reference::ClickIdOf(position));
        (position, sale)
    }

    fn tell_special_cases(&mut self) {
        // The tag did not run: one day of a broken page, and a content blocker here and there. The
        // month before it was worse.
        for day in [4, 8, 11, 11, 11, 12, 19, 23, 27] {
            let at = self.in_open_hours(day);
            let sale = self.sale(at, Reference::Placeholder);
            self.is_completed(sale);
        }
        for day in [3, 9, 17, 17, 24] {
            let at = self.on_day(day);
            let sale = self.sale(at, Reference::Placeholder);
            self.is_completed(sale);
        }
        // A payment link in an old email has no parameter.
        for day in [5, 14, 22] {
            let at = self.on_day(day);
            let sale = self.sale(at, Reference::None);
            self.is_completed(sale);
        }
        // A partner uses their own order numbers as references.
        for (day, text) in [(8, "order-20931"), (19, "order-21177")] {
            let at = self.on_day(day);
            let sale = self.sale(at, Reference::Text(text.to_owned()));
            self.is_completed(sale);
        }
        // A genuine click ID whose visit never arrived.
        for day in [12, 25] {
            let at = self.on_day(day);
            let lost = self.landing(&WAYS[2], at);
            let lost = self.is_minted(lost);
            let sale = self.sale(at.plus(MINUTE * 9), Reference::ClickIdOf(lost));
            self.is_completed(sale);
            // The first attempt waits two minutes for the visit.
            self.story.steps.push(Step { at: at.plus(MINUTE * 12), what: What::Quiet });
        }
        // A visit that arrives late, from a phone that was offline.
        let at = self.on_day(26);
        let late = self.landing(&WAYS[3], at);
        if let Some(late) = self.arrives_at(at.plus(MINUTE * 14), late) {
            let sale = self.sale(at.plus(MINUTE * 13), Reference::ClickIdOf(late));
            self.is_completed(sale);
        }
        // A visitor changes the click ID in the URL.
        let (visit, sale) = self.visit_and_sale(21, &WAYS[7]);
        self.story.sales[sale].reference = Reference::ForgedFrom(visit);
        self.is_completed(sale);
        self.tell_other_matches();
        self.tell_other_ends();
    }

    fn tell_other_matches(&mut self) {
        // AnyTrack's own tag replaced the placeholder first.
        for day in [10, 18] {
            let (visit, sale) = self.visit_and_sale(day, &WAYS[0]);
            let anytrack_click_id = format!("p8qkMansHXKG{}", self.dice.text(22));
            self.story.visits[visit].anytrack_click_id = Some(anytrack_click_id.clone());
            self.story.sales[sale].reference = Reference::Text(anytrack_click_id);
            self.is_completed(sale);
        }
        // A checkout made by the shop's own server holds the click ID in its metadata.
        let (visit, sale) = self.visit_and_sale(13, &WAYS[9]);
        self.story.sales[sale].reference = Reference::None;
        self.story.sales[sale].metadata_click_id = Some(Reference::ClickIdOf(visit));
        self.is_completed(sale);
        // A customer buys again, from a link without a reference.
        for day in [4, 16] {
            let (_, first) = self.visit_and_sale(day, &WAYS[1]);
            let customer = format!("cus_{}", self.dice.text(14));
            self.story.sales[first].customer = Some(customer.clone());
            self.is_completed(first);
            let at = self.on_day(day + 9);
            let second = self.sale(at, Reference::None);
            let (buyer, currency) =
                (self.story.sales[first].buyer.clone(), self.story.sales[first].currency);
            let sale = &mut self.story.sales[second];
            (sale.customer, sale.buyer, sale.currency) = (Some(customer), buyer, currency);
            sale.item = &ITEMS[3];
            sale.minor = if currency == "eur" { ITEMS[3].eur_minor } else { ITEMS[3].usd_minor };
            self.is_completed(second);
        }
    }

    fn tell_other_ends(&mut self) {
        // A bank debit: paid days later, refused by the bank, and one that is still open.
        for (day, end) in [
            (7, "checkout.session.async_payment_succeeded"),
            (11, "checkout.session.async_payment_failed"),
            (27, ""),
        ] {
            let (_, number) = self.visit_and_sale(day, &WAYS[7]);
            let sale = &mut self.story.sales[number];
            (sale.is_paid, sale.method, sale.currency) = (false, "sepa_debit", "eur");
            (sale.minor, sale.buyer) = (sale.item.eur_minor, Buyer::number(number, true));
            let settled = sale.times.completed.plus(DAY * 3 + HOUR);
            self.is_completed(number);
            if !end.is_empty() {
                self.event(settled, number, end);
            }
        }
        // AnyTrack is down for some minutes, and it rejects one conversion.
        let (_, number) = self.visit_and_sale(23, &WAYS[0]);
        self.story.sales[number].answers = OUTAGE;
        self.is_completed(number);
        let (_, number) = self.visit_and_sale(28, &WAYS[3]);
        let sale = &mut self.story.sales[number];
        (sale.item, sale.currency, sale.minor) = (&ITEMS[0], "eur", ITEMS[0].eur_minor);
        (sale.buyer, sale.answers) = (Buyer::number(number, true), REFUSAL);
        self.is_completed(number);
        // The owner tests their own page in test mode.
        for day in [1, 15] {
            let (_, number) = self.visit_and_sale(day, &WAYS[11]);
            let sale = &mut self.story.sales[number];
            sale.livemode = false;
            sale.session = sale.session.replace("cs_live_", "cs_test_");
            self.is_completed(number);
        }
        // Three buyers abandon the checkout, and Stripe sends the expiry.
        for day in [6, 18, 27] {
            let (_, number) = self.visit_and_sale(day, &WAYS[0]);
            let at = self.story.sales[number].times.completed.plus(DAY);
            self.event(at, number, "checkout.session.expired");
        }
        // Stripe sends one event twice.
        let (_, number) = self.visit_and_sale(20, &NEWSLETTER);
        self.is_completed(number);
        let again = self.story.sales[number].times.completed.plus(HOUR);
        self.event(again, number, "checkout.session.completed");
    }

    /// Adds a sale a few minutes before the end, and visits up to a few seconds before it.
    fn tell_last_minutes(&mut self) {
        let ends = self.ends;
        let landing = self.landing(&WAYS[0], ends.minus(MINUTE * 11));
        if let Some(visit) = self.arrives(landing) {
            let number = self.sale(ends.minus(MINUTE * 4), Reference::ClickIdOf(visit));
            let sale = &mut self.story.sales[number];
            (sale.item, sale.currency, sale.minor) = (&ITEMS[0], "usd", ITEMS[0].usd_minor);
            sale.buyer = Buyer::number(number, false);
            let at = sale.times.completed.plus(Duration::from_secs(2));
            self.story
                .steps
                .push(Step { at, what: What::Webhook(number, "checkout.session.completed") });
        }
        for (way, seconds) in [(3, 190), (7, 125), (0, 38)] {
            let landing = self.landing(&WAYS[way], ends.minus(Duration::from_secs(seconds)));
            self.arrives(landing);
        }
    }

    /// Adds clicks on the redirect link, from a QR code on a card in every parcel. One scan in six
    /// leads to a payment.
    fn tell_scanned_cards(&mut self) {
        // A generator of its own, so that changes here do not change the rest of the story.
        self.dice = Dice(SEED ^ 1);
        let mut scans = 0;
        for day in 0..DAYS {
            if !self.dice.chance(600) {
                continue;
            }
            let at = self.in_open_hours(u32::try_from(day).unwrap_or(0));
            let agent = self.dice.pick(&PHONES);
            let scan = Visit { agent, is_by_link: true, ..self.visit(at, LINK, "", None) };
            let Some(visit) = self.arrives(scan) else { continue };
            scans += 1;
            if scans % 6 == 3 {
                let sale = self.sale(at.plus(MINUTE * 4), Reference::ClickIdOf(visit));
                let sold = &mut self.story.sales[sale];
                sold.item = &ITEMS[0];
                let item = sold.item;
                sold.minor = if sold.currency == "eur" { item.eur_minor } else { item.usd_minor };
                self.is_completed(sale);
            }
        }
    }
}

/// The path of the redirect link.
pub(super) const LINK: &str = "/p/card";
/// The alias of the redirect link.
pub(super) const LINK_ALIAS: &str = "card";

/// The shop's products.
pub(super) const ITEMS: [Item; 4] = [
    Item { name: "Northlight desk lamp", usd_minor: 12_900, eur_minor: 11_900 },
    Item { name: "Northlight floor lamp", usd_minor: 28_900, eur_minor: 26_900 },
    Item { name: "Two Northlight desk lamps", usd_minor: 23_800, eur_minor: 21_900 },
    Item { name: "Daylight bulbs, set of four", usd_minor: 2_400, eur_minor: 2_200 },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn story_at(now: &str) -> Story {
        tell(Timestamp::parse(now).unwrap(), &TimeZone::UTC)
    }

    #[test]
    fn the_same_time_gives_the_same_story() {
        assert_eq!(story_at("2026-09-21T14:13:20Z"), story_at("2026-09-21T14:13:20Z"));
    }

    #[test]
    fn a_story_has_enough_visits_and_sales_and_nothing_after_its_end() {
        for now in ["2026-09-21T00:00:05Z", "2026-03-29T14:00:00Z", "2026-12-31T23:59:59Z"] {
            let story = story_at(now);
            let end = Timestamp::parse(now).unwrap();
            assert!(story.steps.iter().all(|step| step.at < end), "{now}");
            assert!(story.steps.iter().all(|step| step.at >= story.begins), "{now}");
            let webhooks =
                story.steps.iter().filter(|step| matches!(step.what, What::Webhook(..))).count();
            assert!((4000..7000).contains(&story.visits.len()), "{now}: {}", story.visits.len());
            assert!((150..=250).contains(&webhooks), "{now}: {webhooks}");
        }
    }
}
