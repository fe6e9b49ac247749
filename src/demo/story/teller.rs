//! Tells the ordinary days of the story: visitors who come, come back and buy.
//! Takes a day; adds visits, sales and steps to the story.
//! Pure: the dice are pseudo-random, so the same input gives the same story.

use std::time::Duration;

use super::dice::Dice;
use super::parts::{DAY, HOUR, ITEMS, MINUTE, Reference, SHOP, Step, Story, Visit, What};
use super::ways::{BOTS, COMPUTERS, HOURS, LETTER_DAYS, NEWSLETTER, PHONES, WAYS, Way};
use crate::clock::Timestamp;
use crate::demo::checkout::{Buyer, Sale, Times};

/// The day at which the last month begins. Most special cases are in it.
const MONTH: u32 = 28;
/// Seed of the pseudo-random numbers.
pub(super) const SEED: u64 = 0x636c_6963_6b73_7461;
/// Visitors on an average day.
const VISITORS_A_DAY: usize = 76;

pub(super) struct Teller {
    pub(super) dice: Dice,
    pub(super) ends: Timestamp,
    pub(super) story: Story,
}

impl Teller {
    pub(super) fn tell_day(&mut self, day: i64, begins: Timestamp, weekday_per_cent: i64) {
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

    pub(super) fn landing(&mut self, way: &Way, at: Timestamp) -> Visit {
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

    pub(super) fn visit(
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
    pub(super) fn arrives(&mut self, visit: Visit) -> Option<usize> {
        let at = visit.at;
        self.arrives_at(at, visit)
    }

    pub(super) fn arrives_at(&mut self, at: Timestamp, visit: Visit) -> Option<usize> {
        let position = self.is_minted(visit);
        if at >= self.ends {
            self.story.visits.pop();
            return None;
        }
        self.story.steps.push(Step { at, what: What::VisitArrives(position) });
        Some(position)
    }

    /// Adds a visit with a click ID that is not sent (yet).
    pub(super) fn is_minted(&mut self, visit: Visit) -> usize {
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
    pub(super) fn sale(&mut self, at: Timestamp, reference: Reference) -> usize {
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
    pub(super) fn is_completed(&mut self, sale: usize) {
        let at = self.story.sales[sale].times.completed;
        self.event(at, sale, "checkout.session.completed");
    }

    /// Adds an event about a sale.
    pub(super) fn event(&mut self, at: Timestamp, sale: usize, kind: &'static str) {
        // The last six minutes have only the last sale.
        if at < self.ends.minus(MINUTE * 6) {
            // Stripe sends events after one or two seconds.
            let at = at.plus(Duration::from_millis(900 + self.dice.up_to(1400)));
            self.story.steps.push(Step { at, what: What::Webhook(sale, kind) });
        }
    }

    /// A random time between 10:00 and 19:00 on a day of the last month.
    pub(super) fn on_day(&mut self, day: u32) -> Timestamp {
        self.in_open_hours(MONTH + day)
    }

    pub(super) fn in_open_hours(&mut self, day: u32) -> Timestamp {
        let after = HOUR * 10 + Duration::from_secs(self.dice.up_to(9 * 3600));
        self.story.begins.plus(DAY * day + after)
    }

    /// A visit of its own and a sale that follows it.
    pub(super) fn visit_and_sale(&mut self, day: u32, way: &Way) -> (usize, usize) {
        let at = self.on_day(day);
        let visit = self.landing(way, at);
        let position = self.is_minted(visit);
        self.story.steps.push(Step { at, what: What::VisitArrives(position) });
        let after = MINUTE * 6 + Duration::from_secs(self.dice.up_to(900));
        let sale = self.sale(at.plus(after), Reference::ClickIdOf(position));
        (position, sale)
    }
}
