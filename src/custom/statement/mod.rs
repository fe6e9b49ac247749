//! What a request states, and the facts that the ledger gets of it.
//! Takes a statement that was read from a request; returns a payment with its key and its
//! transaction ID, and sentences for the sender.
//! Pure. A repeat of a request has the same key, unless nothing but the request identifies it.

mod read;

use std::collections::BTreeMap;

pub(super) use self::read::read;
use super::corrections::UNNAMED_REFUND;
use super::parameters::Refusal;
use crate::clock::Timestamp;
use crate::conversion::join;
use crate::conversion::object::{ObjectFacts, ObjectKind, PayFact};
use crate::conversion::payment::Payment;
use crate::conversion::reported::{Arrival, Chargeback, Reported, Stated};
use crate::ids;
use crate::money::Money;

/// The status of the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Paid,
    Pending,
    Failed,
    Refunded,
    Disputed,
}

/// What a request states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    click_id: Option<String>,
    reference: Option<String>,
    email: Option<String>,
    /// purchase, lead, or the event's own name; `None` if the request does not say.
    kind: Option<String>,
    amount: Option<Money>,
    /// True if the request named the currency of its amounts.
    names_currency: bool,
    transaction: Option<String>,
    status: Status,
    /// True if the request named its status; without one a sale counts as paid.
    names_status: bool,
    refund_id: Option<String>,
    refunded_total: Option<Money>,
    /// As stated; otherwise the time of the request counts.
    occurred_at: Option<Timestamp>,
    is_test: bool,
    params: BTreeMap<String, String>,
    /// Sentences for the sender.
    pub(crate) warnings: Vec<String>,
}

impl Statement {
    /// Reads a negative value as a refund.
    fn read_negative_value(&mut self) -> Result<(), Refusal> {
        let Some(amount) = self.amount.as_mut().filter(|amount| amount.minor < 0) else {
            return Ok(());
        };
        amount.minor = -amount.minor;
        match self.status {
            Status::Paid => self.status = Status::Refunded,
            Status::Refunded | Status::Disputed => {}
            Status::Pending | Status::Failed => {
                let error = "a negative value is a refund, which cannot be pending or failed";
                return Err(Refusal::of("value", error));
            }
        }
        Ok(())
    }

    /// The kind of the conversion. A request that only states the status of a transaction is about
    /// its sale, if there is one.
    pub(crate) fn kind(&self, has_sale: bool) -> &str {
        match &self.kind {
            Some(kind) => kind,
            None if has_sale => "purchase",
            None => "lead",
        }
    }

    /// The key of the sale that the request may be about, if it does not name its event.
    pub(crate) fn key_of_sale(&self) -> Option<String> {
        let transaction = self.transaction.as_deref().filter(|_| self.kind.is_none())?;
        Some(self.key("purchase", &format!("transaction:{transaction}")))
    }

    fn key(&self, kind: &str, what: &str) -> String {
        format!("{}:{kind}:{what}", if self.is_test { "test" } else { "live" })
    }

    /// True if it reports a sale without saying that it is paid.
    pub(super) fn is_paid_unsaid(&self) -> bool {
        self.status == Status::Paid && !self.names_status
    }

    fn stated(&self, amount: Money, arrival: &Arrival) -> Stated {
        Stated {
            is_final: !matches!(self.status, Status::Pending | Status::Failed),
            arrival: arrival.clone(),
            minor: amount.minor,
            currency: amount.currency,
        }
    }

    /// What the request states about money, as facts of its transaction.
    fn money(&mut self, arrival: Arrival) -> Reported {
        let mut facts = Reported::default();
        // A network that cancels a sale states its current value: nothing.
        let amount = self.amount.filter(|it| it.minor != 0 || self.refund_id.is_some());
        facts.refunded_total = self.refunded_total.map(|total| self.stated(total, &arrival));
        match (self.status, amount) {
            (Status::Refunded, Some(_)) if facts.refunded_total.is_some() => {
                self.warnings
                    .push("the value is not used, because refunded_total is set".to_owned());
            }
            (Status::Refunded, None) if facts.refunded_total.is_some() => {}
            (Status::Refunded, Some(amount)) => {
                let unnamed = || format!("{UNNAMED_REFUND}{}{}", amount.minor, amount.currency);
                let id = self.refund_id.as_ref().map(|id| format!("id:{id}"));
                let refund = self.stated(amount, &arrival);
                facts.refunds.insert(id.unwrap_or_else(unnamed), refund);
            }
            (Status::Refunded, None) => facts.refunded = Some(arrival),
            (Status::Disputed, amount) => {
                let amount = amount.map(|amount| (amount.minor, amount.currency));
                facts.chargeback = Some(Chargeback { arrival, amount });
            }
            (Status::Paid | Status::Pending | Status::Failed, _) => {
                let value = self.amount.map(|amount| self.stated(amount, &arrival));
                if self.names_currency {
                    facts.value = value;
                } else {
                    facts.bare_value = value;
                }
                let says_paid = self.status == Status::Paid && self.names_status;
                facts.paid = (says_paid && facts.refunded_total.is_none()).then_some(arrival);
            }
        }
        facts
    }

    /// The conversion's key and transaction ID. If nothing else identifies it, the request's ID
    /// does.
    fn identity(&mut self, kind: &str, source_id: &str, request_id: &str) -> (String, String) {
        let click_id = self.click_id.as_deref().filter(|text| !join::is_unreplaced(text));
        match (&self.transaction, click_id) {
            (Some(transaction), _) => {
                (self.key(kind, &format!("transaction:{transaction}")), transaction.clone())
            }
            // The same for every repeat, so that destinations can recognize it too.
            (None, Some(click_id)) if kind == "lead" => {
                let key = self.key(kind, &format!("click:{click_id}"));
                let name = ids::sha256_hex(format!("{source_id}:{key}").as_bytes());
                (key, format!("lead_{}", &name[..24]))
            }
            (None, _) => {
                self.warnings.push(
                    "no transaction_id: a repeat of this request can't be recognized and will count again"
                        .to_owned(),
                );
                if matches!(self.status, Status::Refunded | Status::Disputed) {
                    self.warnings
                        .push("no transaction_id: the refunded sale is unknown".to_owned());
                }
                (self.key(kind, &format!("request:{request_id}")), request_id.to_owned())
            }
        }
    }

    /// The facts for the ledger.
    pub(crate) fn payment(
        mut self,
        source_id: &str,
        arrival: Arrival,
        has_sale: bool,
    ) -> (Payment, Vec<String>) {
        let kind = self.kind(has_sale).to_owned();
        let (key, transaction_id) = self.identity(&kind, source_id, &arrival.request);
        let occurred_at = self.occurred_at.unwrap_or(arrival.at);
        if kind == "purchase" && self.amount.is_none() && self.status == Status::Paid && !has_sale {
            let warning =
                "a purchase without a value: it is listed, but not sent until a value arrives";
            self.warnings.push(warning.to_owned());
        }
        let pay_fact = match self.status {
            Status::Paid => PayFact::Paid,
            Status::Pending => PayFact::Pending,
            Status::Failed => PayFact::Failed,
            Status::Refunded | Status::Disputed => PayFact::Unknown,
        };
        let is_taken_back = pay_fact == PayFact::Unknown;
        let facts = ObjectFacts {
            pay_fact,
            stated_at: (!is_taken_back).then_some(occurred_at),
            paid_at: (pay_fact == PayFact::Paid).then_some(occurred_at),
            email: self.email.take(),
            ..ObjectFacts::default()
        };
        let reported = Reported {
            key,
            kind,
            transaction_id,
            reference: self.reference.clone().filter(|_| self.click_id.is_some()),
            params: std::mem::take(&mut self.params),
            ..self.money(arrival)
        };
        let payment = Payment {
            account: account(source_id),
            livemode: !self.is_test,
            source_id: Some(source_id.to_owned()),
            facts: BTreeMap::from([(ObjectKind::Report, facts)]),
            adjusted_at: (is_taken_back || self.refunded_total.is_some()).then_some(occurred_at),
            client_reference_id: self.click_id.or(self.reference),
            reported: Some(reported),
            ..Payment::default()
        };
        (payment, self.warnings)
    }
}

/// The kind of an event with this name: one of the ledger's own kinds in any letter case, else the
/// name.
pub(super) fn kind_of(event: &str) -> String {
    let is_standard = |word: &&str| event.eq_ignore_ascii_case(word);
    ["purchase", "renewal", "trial", "lead"]
        .into_iter()
        .find(is_standard)
        .unwrap_or(event)
        .to_owned()
}

/// The ledger's account of a source: transaction IDs of two sources are independent.
pub(crate) fn account(source_id: &str) -> String {
    format!("custom:{source_id}")
}

#[cfg(test)]
mod tests;
