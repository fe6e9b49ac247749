//! Tells what happens rarely: every way in which a payment can be matched, stay unmatched or end.
//! Takes the story so far; adds an example of each to its last month.
//! Pure, like the rest of the story.

use std::time::Duration;

use super::dice::Dice;
use super::parts::{DAY, HOUR, ITEMS, LINK, MINUTE, Reference, Step, Visit, What};
use super::teller::{SEED, Teller};
use super::ways::{DAYS, NEWSLETTER, PHONES, WAYS};
use crate::demo::checkout::Buyer;

/// The destination is down for a few minutes, then accepts the conversion.
const OUTAGE: &[(u16, &str)] =
    &[(503, "upstream unavailable"), (503, "upstream unavailable"), (502, "bad gateway")];
/// The destination rejects the conversion for good.
const REFUSAL: &[(u16, &str)] =
    &[(422, r#"{"error":"currency EUR is not enabled for this property"}"#)];

impl Teller {
    pub(super) fn tell_special_cases(&mut self) {
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
    pub(super) fn tell_last_minutes(&mut self) {
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
    pub(super) fn tell_scanned_cards(&mut self) {
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
