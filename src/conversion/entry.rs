//! Computes what the ledger stores for a payment.
//! Takes all facts known about it and the settings of its source; returns kind, status, amounts and
//! times, or nothing while the facts create no conversion.
//! Pure: the result depends on the facts alone, and is computed from all of them each time.

use super::adjustment::{self, Adjusted};
use super::payment::{Mode, ObjectFacts, ObjectKind, PayFact, Payment};
use super::reported::Reported;
use crate::clock::Timestamp;
use crate::domain::{ConversionKind, ConversionStatus};
use crate::money::Money;
use crate::settings::{Source, ValueOption};

/// What the facts of a payment say about its conversion, before it is matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: ConversionKind,
    pub(crate) status: ConversionStatus,
    pub(crate) pay_fact: PayFact,
    /// The amount paid; unknown while only a refund or dispute of the payment was received.
    pub(crate) amount: Option<Money>,
    pub(crate) adjusted: Adjusted,
    /// When the payment was first stated, else when it was first refunded or disputed.
    pub(crate) occurred_at: Option<Timestamp>,
    /// When the payment was first stated as paid; without it nothing counts as revenue.
    pub(crate) paid_at: Option<Timestamp>,
    pub(crate) transaction_id: String,
    /// True if its checkout may still arrive, which would change the transaction ID.
    pub(crate) may_have_checkout: bool,
}

/// Billing reasons of invoices that no checkout started.
const WITHOUT_CHECKOUT: [&str; 3] =
    ["subscription_cycle", "subscription_update", "subscription_threshold"];

impl Payment {
    /// Returns the entry once the facts state a payment, or a refund or dispute of one.
    pub(crate) fn entry(&self, source: &Source) -> Option<Entry> {
        let stating: Vec<&ObjectFacts> = self
            .facts
            .iter()
            .filter(|(teller, facts)| states(**teller, facts, source))
            .map(|(_, facts)| facts)
            .collect();
        let reported = self.reported.as_ref();
        let is_taken_back = reported.is_some_and(Reported::is_taken_back);
        let adjusted = adjustment::adjusted(self);
        if stating.is_empty() && !is_taken_back && !adjusted.is_any {
            return None;
        }
        let (pay_fact, paid_at) = self.paid(&stating);
        let amount = self
            .amounts()
            .map(|amounts| Money { minor: amounts.total, currency: amounts.currency });
        let status = match reported {
            // A full refund counts as one even if the amount is unknown.
            Some(reported) if reported.is_refunded() && !adjusted.is_disputed => {
                ConversionStatus::Refunded
            }
            Some(_) | None => status(pay_fact, amount, &adjusted),
        };
        let stated_at = stating.iter().filter_map(|facts| facts.stated_at).min();
        Some(Entry {
            kind: reported.map_or_else(|| self.kind(), |it| ConversionKind::parse(&it.kind)),
            status,
            pay_fact,
            amount,
            adjusted,
            occurred_at: stated_at.or(self.adjusted_at),
            paid_at,
            transaction_id: self.transaction_id()?.to_owned(),
            may_have_checkout: self.may_have_checkout(),
        })
    }

    /// Returns how far the payment has come, and when it was paid. With manual capture Stripe sends
    /// no further event of the checkout. Therefore the payment intent and charge count too, once
    /// another object states the payment. This was not confirmed on a live account.
    fn paid(&self, stating: &[&ObjectFacts]) -> (PayFact, Option<Timestamp>) {
        let of_money = [ObjectKind::PaymentIntent, ObjectKind::Charge]
            .into_iter()
            .filter_map(|teller| self.facts.get(&teller))
            .filter(|_| !stating.is_empty());
        let all = || stating.iter().copied().chain(of_money.clone());
        let pay_fact = all().map(|facts| facts.pay_fact).max().unwrap_or_default();
        let stated = stating.iter().filter_map(|facts| facts.paid_at).min();
        (pay_fact, stated.or_else(|| all().filter_map(|facts| facts.paid_at).min()))
    }

    /// True while a checkout session of this payment may still arrive.
    pub(super) fn may_have_checkout(&self) -> bool {
        self.reported.is_none() && self.sessions.is_empty() && !self.is_renewal()
    }

    /// Returns the kind. A zero amount never becomes a purchase, because ad platforms would count
    /// an empty sale.
    fn kind(&self) -> ConversionKind {
        let is_free = self.amounts().is_none_or(|amounts| amounts.total == 0);
        if self
            .facts
            .get(&ObjectKind::Session)
            .is_some_and(|facts| facts.pay_fact != PayFact::Unknown)
        {
            return match (self.mode, is_free) {
                (Some(Mode::Setup), _) => ConversionKind::Lead,
                (_, false) => ConversionKind::Purchase,
                (_, true) if self.is_subscription_checkout() => ConversionKind::Trial,
                (_, true) => ConversionKind::Lead,
            };
        }
        match self.billing_reason.as_deref() {
            Some("subscription_create") if is_free && self.amounts().is_some() => {
                ConversionKind::Trial
            }
            Some("subscription_create") => ConversionKind::Purchase,
            Some(_) if self.is_renewal() || self.subscription.is_some() => ConversionKind::Renewal,
            Some(_) | None => ConversionKind::Purchase,
        }
    }

    /// True for a payment of a subscription that no checkout started, for example a renewal.
    fn is_renewal(&self) -> bool {
        self.billing_reason.as_deref().is_some_and(|reason| WITHOUT_CHECKOUT.contains(&reason))
    }

    /// The value to send to a destination; an amount that Stripe did not name falls back to the
    /// total.
    pub(crate) fn value(&self, option: ValueOption) -> Option<Money> {
        let amounts = self.amounts()?;
        let minor = match option {
            ValueOption::Total => None,
            ValueOption::Net => amounts.net_of_tax,
            ValueOption::Subtotal => amounts.subtotal,
        };
        Some(Money { minor: minor.unwrap_or(amounts.total), currency: amounts.currency })
    }
}

/// True if this object alone creates a conversion. A charge never does. A bare payment intent does
/// only if its metadata has the source's key or the source records bare payment intents, and not if
/// it was canceled: then nobody paid, and no event set `stated_at`.
fn states(teller: ObjectKind, facts: &ObjectFacts, source: &Source) -> bool {
    let is_wanted = match teller {
        ObjectKind::Session | ObjectKind::Invoice | ObjectKind::Report => true,
        ObjectKind::PaymentIntent => {
            (source.record_bare_payment_intents
                || facts.metadata.contains_key(&source.metadata_key))
                && facts.stated_at.is_some()
        }
        ObjectKind::Charge => false,
    };
    is_wanted && facts.pay_fact != PayFact::Unknown
}

/// The first condition that is true decides.
fn status(pay_fact: PayFact, amount: Option<Money>, adjusted: &Adjusted) -> ConversionStatus {
    let is_all = amount.is_some_and(|amount| amount.minor > 0 && adjusted.refunded >= amount.minor);
    match pay_fact {
        _ if adjusted.is_disputed => ConversionStatus::Disputed,
        _ if is_all => ConversionStatus::Refunded,
        _ if adjusted.refunded > 0 => ConversionStatus::PartiallyRefunded,
        // Only a refund or a dispute is known, and both come after a payment.
        PayFact::Paid | PayFact::Unknown => ConversionStatus::Paid,
        PayFact::Failed => ConversionStatus::Failed,
        PayFact::Authorized => ConversionStatus::Authorized,
        PayFact::Pending => ConversionStatus::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversion::adjustment::{Charge, Dispute, DisputeState};
    use crate::conversion::payment::Amounts;
    use crate::domain::Word as _;
    use crate::money::Currency;

    fn amounts(total: i64) -> Option<Amounts> {
        Some(Amounts::of(Money { minor: total, currency: Currency::parse("usd").unwrap() }))
    }

    fn facts(pay_fact: PayFact, total: i64) -> ObjectFacts {
        ObjectFacts { pay_fact, amounts: amounts(total), ..ObjectFacts::default() }
    }

    fn session(mode: Option<Mode>, total: i64) -> Payment {
        Payment {
            mode,
            sessions: ["cs_1".to_owned()].into(),
            facts: [(ObjectKind::Session, facts(PayFact::Paid, total))].into(),
            ..Payment::default()
        }
    }

    fn invoice(reason: &str, subscription: Option<&str>, total: i64) -> Payment {
        Payment {
            billing_reason: Some(reason.to_owned()),
            subscription: subscription.map(str::to_owned),
            invoices: ["in_1".to_owned()].into(),
            facts: [(ObjectKind::Invoice, facts(PayFact::Paid, total))].into(),
            ..Payment::default()
        }
    }

    #[test]
    fn kinds_follow_mode_reason_and_amount() {
        let of_subscription =
            |payment| Payment { subscription: Some("sub_1".to_owned()), ..payment };
        let sub = Some("sub_1");
        let mut both = of_subscription(session(Some(Mode::Subscription), 0));
        both.absorb(invoice("subscription_create", sub, 0));
        let rows = [
            ("paid once", session(Some(Mode::Payment), 100), "purchase"),
            ("full discount", session(Some(Mode::Payment), 0), "lead"),
            ("subscription", of_subscription(session(Some(Mode::Subscription), 100)), "purchase"),
            ("trial", session(Some(Mode::Subscription), 0), "trial"),
            ("card saved", session(Some(Mode::Setup), 0), "lead"),
            ("no mode, subscription", of_subscription(session(None, 0)), "trial"),
            ("no mode", session(None, 5), "purchase"),
            ("first invoice", invoice("subscription_create", sub, 5), "purchase"),
            ("first invoice of a trial", invoice("subscription_create", sub, 0), "trial"),
            ("trial and its invoice", both, "trial"),
            ("cycle", invoice("subscription_cycle", sub, 5), "renewal"),
            ("update", invoice("subscription_update", sub, 5), "renewal"),
            ("threshold", invoice("subscription_threshold", sub, 5), "renewal"),
            ("unknown, of a subscription", invoice("reason_of_a_later_version", sub, 5), "renewal"),
            ("manual", invoice("manual", None, 5), "purchase"),
            ("no reason", invoice("unknown", None, 5), "purchase"),
        ];
        for (name, payment, kind) in rows {
            assert_eq!(
                payment.entry(&Source::sample("click_id")).unwrap().kind.as_str(),
                kind,
                "{name}"
            );
        }
    }

    #[test]
    fn the_first_condition_that_is_true_decides_the_status() {
        let sale = |fact| {
            let mut payment = session(Some(Mode::Payment), 100);
            payment.facts.insert(ObjectKind::Session, facts(fact, 100));
            payment
        };
        let refunded = |minor, payment: Payment| {
            let amount = Some((100, Currency::parse("usd").unwrap()));
            let charge = Charge { amount, refunded: minor, ..Charge::default() };
            Payment { charges: [("ch_1".to_owned(), charge)].into(), ..payment }
        };
        let disputed = |state, payment: Payment| {
            let dispute = Dispute { state, ..Dispute::default() };
            Payment { disputes: [("du_1".to_owned(), dispute)].into(), ..payment }
        };
        let rows = [
            ("paid", sale(PayFact::Paid), "paid"),
            ("pending", sale(PayFact::Pending), "pending"),
            ("authorized", sale(PayFact::Authorized), "authorized"),
            ("failed", sale(PayFact::Failed), "failed"),
            (
                "an inquiry about a payment not seen",
                disputed(
                    DisputeState::Inquiry,
                    Payment { sessions: ["cs_1".to_owned()].into(), ..Payment::default() },
                ),
                "paid",
            ),
            ("part back", refunded(1, sale(PayFact::Paid)), "partially_refunded"),
            ("all back", refunded(100, sale(PayFact::Paid)), "refunded"),
            ("back, though pending", refunded(1, sale(PayFact::Pending)), "partially_refunded"),
            ("inquiry", disputed(DisputeState::Inquiry, sale(PayFact::Paid)), "paid"),
            ("open", disputed(DisputeState::Open, refunded(100, sale(PayFact::Paid))), "disputed"),
            ("lost", disputed(DisputeState::Lost, sale(PayFact::Paid)), "disputed"),
            ("won", disputed(DisputeState::Won, refunded(100, sale(PayFact::Paid))), "refunded"),
        ];
        for (name, payment, status) in rows {
            assert_eq!(
                payment.entry(&Source::sample("click_id")).unwrap().status.as_str(),
                status,
                "{name}"
            );
        }
    }

    #[test]
    fn amounts_come_from_the_most_reliable_object_and_bare_intents_create_no_conversion() {
        let intent = |key: Option<&str>| {
            let mut facts =
                ObjectFacts { stated_at: Some(Timestamp::default()), ..facts(PayFact::Paid, 7) };
            facts.metadata.extend(key.map(|key| (key.to_owned(), "ck_x".to_owned())));
            Payment {
                payment_intents: ["pi_1".to_owned()].into(),
                facts: [(ObjectKind::PaymentIntent, facts)].into(),
                ..Payment::default()
            }
        };
        assert_eq!(intent(None).entry(&Source::sample("click_id")), None);
        let every = Source { record_bare_payment_intents: true, ..Source::sample("click_id") };
        assert_eq!(intent(None).entry(&every).unwrap().amount.unwrap().minor, 7);
        assert_eq!(intent(Some("click_id")).entry(&Source::sample("other")), None);
        let mut payment = intent(Some("click_id"));
        assert_eq!(payment.entry(&Source::sample("click_id")).unwrap().amount.unwrap().minor, 7);
        payment.absorb(invoice("manual", None, 9));
        assert_eq!(payment.entry(&Source::sample("click_id")).unwrap().amount.unwrap().minor, 9);
        assert_eq!(payment.entry(&Source::sample("click_id")).unwrap().transaction_id, "in_1");
        payment.absorb(session(Some(Mode::Payment), 8));
        let entry = payment.entry(&Source::sample("click_id")).unwrap();
        assert_eq!((entry.amount.unwrap().minor, entry.transaction_id.as_str()), (8, "cs_1"));
        assert!(!entry.may_have_checkout);
    }

    /// A checkout of 100.00 with manual capture, and the last state of its payment intent.
    fn captured(fact: PayFact, received: Option<i64>) -> Payment {
        let mut payment = session(Some(Mode::Payment), 10_000);
        payment.facts.insert(ObjectKind::Session, facts(PayFact::Pending, 10_000));
        let paid_at = (fact == PayFact::Paid).then(|| Timestamp::from_ms(5));
        let amounts = received.and_then(amounts);
        let intent = ObjectFacts { pay_fact: fact, amounts, paid_at, ..ObjectFacts::default() };
        payment.facts.insert(ObjectKind::PaymentIntent, intent);
        Payment { is_manual_capture: true, ..payment }
    }

    #[test]
    fn a_checkouts_own_payment_intent_says_whether_and_how_much_was_paid() {
        let rows = [
            ("captured", captured(PayFact::Paid, Some(10_000)), "paid", 10_000),
            ("captured in part", captured(PayFact::Paid, Some(6_000)), "paid", 6_000),
            ("captured more", captured(PayFact::Paid, Some(12_000)), "paid", 10_000),
            ("authorized", captured(PayFact::Authorized, None), "authorized", 10_000),
            ("released", captured(PayFact::Failed, None), "failed", 10_000),
            ("without an intent", session(Some(Mode::Payment), 10_000), "paid", 10_000),
        ];
        for (name, payment, status, minor) in rows {
            let entry = payment.entry(&Source::sample("click_id")).unwrap();
            assert_eq!(
                (entry.status.as_str(), entry.amount.unwrap().minor),
                (status, minor),
                "{name}"
            );
            assert_eq!(entry.paid_at.is_some(), name.starts_with("captured"), "{name}");
        }
        let usd = Currency::parse("usd").unwrap();
        let charge = Charge { amount: Some((10_000, usd)), captured: Some(6_000), refunded: 4_000 };
        let charges = [("ch_1".to_owned(), charge)].into();
        let paid = Payment { charges, ..session(Some(Mode::Payment), 10_000) };
        let entry = paid.entry(&Source::sample("click_id")).unwrap();
        assert_eq!(
            (entry.status.as_str(), entry.amount.unwrap().minor),
            ("paid", 6_000),
            "by its charge"
        );
        let jpy = Currency::parse("jpy").unwrap();
        let charge =
            Charge { amount: Some((1_500, jpy)), captured: Some(750), ..Charge::default() };
        let paid = Payment { charges: [("ch_1".to_owned(), charge)].into(), ..paid };
        assert_eq!(paid.amounts().unwrap().total, 5_000, "by its share");
    }

    #[test]
    fn the_parts_of_a_checkout_follow_what_was_captured() {
        let mut payment = captured(PayFact::Paid, Some(5_000));
        let parts =
            Amounts { net_of_tax: Some(9_000), tax: Some(1_000), ..amounts(10_000).unwrap() };
        payment.facts.entry(ObjectKind::Session).or_default().amounts = Some(parts);
        assert_eq!(payment.value(ValueOption::Net).unwrap().minor, 4_500);
        assert_eq!(payment.amounts().unwrap().tax, Some(500));
    }

    #[test]
    fn the_first_invoice_says_what_was_paid_of_a_subscriptions_checkout() {
        let mut payment = session(Some(Mode::Subscription), 5_000);
        payment.absorb(invoice("subscription_create", Some("sub_1"), 3_000));
        let entry = payment.entry(&Source::sample("click_id")).unwrap();
        assert_eq!((entry.amount.unwrap().minor, entry.kind.as_str()), (3_000, "purchase"));
        let mut once = session(Some(Mode::Payment), 5_000);
        once.absorb(invoice("manual", None, 3_000));
        assert_eq!(once.amounts().unwrap().total, 5_000);
    }

    #[test]
    fn a_released_authorization_makes_no_conversion() {
        let released = ObjectFacts { pay_fact: PayFact::Failed, ..ObjectFacts::default() };
        let usd = Currency::parse("usd").unwrap();
        let charge = Charge { amount: Some((10_000, usd)), captured: Some(0), refunded: 10_000 };
        let payment = Payment {
            payment_intents: ["pi_1".to_owned()].into(),
            charges: [("ch_1".to_owned(), charge)].into(),
            facts: [(ObjectKind::Charge, released.clone()), (ObjectKind::PaymentIntent, released)]
                .into(),
            ..Payment::default()
        };
        let every = Source { record_bare_payment_intents: true, ..Source::sample("click_id") };
        assert_eq!(payment.entry(&every), None);
    }

    #[test]
    fn values_fall_back_to_the_total() {
        let mut payment = session(Some(Mode::Payment), 10_260);
        let value = |payment: &Payment, option| payment.value(option).unwrap().minor;
        for option in [ValueOption::Total, ValueOption::Net, ValueOption::Subtotal] {
            assert_eq!(value(&payment, option), 10_260, "{option:?}");
        }
        let known =
            Amounts { net_of_tax: Some(9_500), subtotal: Some(10_000), ..amounts(10_260).unwrap() };
        payment.facts.entry(ObjectKind::Session).or_default().amounts = Some(known);
        assert_eq!(value(&payment, ValueOption::Total), 10_260);
        assert_eq!(value(&payment, ValueOption::Net), 9_500);
        assert_eq!(value(&payment, ValueOption::Subtotal), 10_000);
    }
}
