//! Reads what a request states.
//! Takes its parameters, the source's currency and the time of arrival; returns the facts of a
//! conversion, or the reason why it states none.
//! Pure. Decimals are exact, without floats, and a placeholder that a tool forgot to replace never
//! counts as an ID. Source of AnyTrack's names and rules: readme.anytrack.io,
//! custom-integration-parameters and standard-events.

use std::collections::BTreeMap;
use std::time::Duration;

use super::corrections::UNNAMED_REFUND;
use super::currencies;
use super::parameters::{Parameter, Parameters, Refusal};
use crate::clock::Timestamp;
use crate::conversion::join;
use crate::conversion::payment::{ObjectFacts, ObjectKind, PayFact, Payment};
use crate::conversion::reported::{Arrival, Chargeback, Reported, Stated};
use crate::ids;
use crate::money::{Currency, Money};

// Normalized names: AnyTrack's first, then ours.
const CLICK_ID: &[&str] = &["clickid", "click", "clientreferenceid", "atclid", "subid"];
const REFERENCE: &[&str] = &["refid", "ref"];
const EMAIL: &[&str] = &["email", "customeremail"];
const VALUE: &[&str] = &["value", "commission", "amount", "payout", "revenue"];
const AMOUNT_MINOR: &[&str] = &["amountminor"];
const AMOUNT_TOTAL: &[&str] = &["amounttotal"];
const CURRENCY: &[&str] = &["currency"];
const TRANSACTION: &[&str] = &["transactionid", "txid", "orderid", "paymentid"];
const EVENT: &[&str] = &["eventname", "event"];
const CONVERSION_TYPE: &[&str] = &["conversiontype"];
const STATUS: &[&str] = &["status"];
const OCCURRED_AT: &[&str] = &["occurredat"];
const TEST: &[&str] = &["test"];
const REFUND_ID: &[&str] = &["refundid"];
const REFUNDED_TOTAL: &[&str] = &["refundedtotal", "totalrefunded"];

/// All names with a meaning, to warn about one that was sent nested and is not read.
const KNOWN: [&[&str]; 15] = [
    CLICK_ID,
    REFERENCE,
    EMAIL,
    VALUE,
    AMOUNT_MINOR,
    AMOUNT_TOTAL,
    CURRENCY,
    TRANSACTION,
    EVENT,
    CONVERSION_TYPE,
    STATUS,
    OCCURRED_AT,
    TEST,
    REFUND_ID,
    REFUNDED_TOTAL,
];

/// Maximum length of an ID; Facebook's click IDs have more than 200 characters.
const MAX_ID_CHARS: usize = 500;
/// Maximum length of an event name.
const MAX_EVENT_CHARS: usize = 64;
/// Maximum length of the name and the value of any other parameter.
const MAX_PARAM_CHARS: usize = 200;
/// Maximum amount in minor units, so that no sum overflows: a hundred billion dollars.
const MAX_MINOR: i128 = 10_000_000_000_000;
/// How far a sender's clock may be ahead.
const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// AnyTrack's words, because its users know this error.
pub(super) const NO_IDENTITY: &str = "Missing click_id, ref_id and email";

/// The status of the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Paid,
    Pending,
    Failed,
    Refunded,
    Disputed,
}

const STATUS_WORDS: [(Status, &[&str]); 5] = [
    (
        Status::Paid,
        &["paid", "approved", "confirmed", "complete", "completed", "success", "succeeded"],
    ),
    (Status::Pending, &["pending", "unpaid", "processing"]),
    (Status::Failed, &["rejected", "declined", "failed", "canceled", "cancelled"]),
    (Status::Refunded, &["refunded", "reversed"]),
    (Status::Disputed, &["chargeback", "disputed"]),
];

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

/// Reads what a request states.
pub(crate) fn read(
    parameters: &Parameters,
    currency: Currency,
    received_at: Timestamp,
) -> Result<Statement, Refusal> {
    let mut reader = Reader { parameters, taken: Vec::new(), warnings: Vec::new() };
    if let Some(it) = parameters.find(AMOUNT_TOTAL) {
        let error = "Stripe's minor units: send amount_minor, or value";
        return Err(Refusal::of(&it.name, error));
    }
    let click_id = reader.id(CLICK_ID)?;
    let reference = reader.id(REFERENCE)?;
    let email = reader.email()?;
    if click_id.is_none() && reference.is_none() && email.is_none() {
        return Err(Refusal::new(NO_IDENTITY));
    }
    let (currency, names_currency) = match reader.take(CURRENCY) {
        None => (currency, false),
        Some(it) => (reader.currency(it)?, true),
    };
    let mut amount = reader.amount(VALUE, currency)?;
    if amount.is_none() {
        amount = reader.amount_minor(currency)?;
    }
    let refunded_total = reader.amount(REFUNDED_TOTAL, currency)?;
    let (kind, status_of_event) = reader.kind(amount)?;
    let stated = reader.status()?;
    let is_refund = refunded_total.is_some() && amount.is_none();
    let status = stated.or(status_of_event).or(is_refund.then_some(Status::Refunded));
    let mut statement = Statement {
        click_id,
        reference,
        email,
        kind,
        amount,
        names_currency,
        transaction: reader.filled_in(TRANSACTION, "treated as missing")?,
        status: status.unwrap_or(Status::Paid),
        names_status: status.is_some(),
        refund_id: reader.filled_in(REFUND_ID, "treated as missing")?,
        refunded_total,
        occurred_at: reader.occurred_at(received_at)?,
        is_test: reader.is_test()?,
        params: reader.params(),
        warnings: Vec::new(),
    };
    reader.warn_of_unread();
    statement.warnings = reader.warnings;
    statement.read_negative_value()?;
    Ok(statement)
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
                match self.names_currency {
                    true => facts.value = value,
                    false => facts.bare_value = value,
                }
                let says_paid = self.status == Status::Paid && self.names_status;
                facts.paid = (says_paid && facts.refunded_total.is_none()).then_some(arrival);
            }
        }
        facts
    }

    /// The facts for the ledger. If nothing else identifies the conversion, the request's ID does.
    pub(crate) fn payment(
        mut self,
        source_id: &str,
        arrival: Arrival,
        has_sale: bool,
    ) -> (Payment, Vec<String>) {
        let request_id = arrival.request.clone();
        let occurred_at = self.occurred_at.unwrap_or(arrival.at);
        let is_refund = matches!(self.status, Status::Refunded | Status::Disputed);
        let kind = self.kind(has_sale).to_owned();
        let click_id = self.click_id.as_deref().filter(|text| !join::is_unreplaced(text));
        let (key, transaction_id) = match (&self.transaction, click_id) {
            (Some(transaction), _) => {
                (self.key(&kind, &format!("transaction:{transaction}")), transaction.clone())
            }
            // The same for every repeat, so that destinations can recognize it too.
            (None, Some(click_id)) if kind == "lead" => {
                let key = self.key(&kind, &format!("click:{click_id}"));
                let name = ids::sha256_hex(format!("{source_id}:{key}").as_bytes());
                (key, format!("lead_{}", &name[..24]))
            }
            (None, _) => {
                self.warnings.push(
                    "no transaction_id: a repeat of this request can't be recognized and will count again"
                        .to_owned(),
                );
                if is_refund {
                    self.warnings
                        .push("no transaction_id: the refunded sale is unknown".to_owned());
                }
                (self.key(&kind, &format!("request:{request_id}")), request_id)
            }
        };
        if kind == "purchase" && self.amount.is_none() && self.status == Status::Paid && !has_sale {
            self.warnings.push(
                "a purchase without a value: it is listed, but not sent until a value arrives"
                    .to_owned(),
            );
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

/// Takes parameters one by one, and records which were taken.
struct Reader<'a> {
    parameters: &'a Parameters,
    taken: Vec<*const Parameter>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, names: &[&str]) -> Option<&'a Parameter> {
        let found = self.parameters.find(names)?;
        self.taken.push(found);
        Some(found)
    }

    fn id(&mut self, names: &[&str]) -> Result<Option<String>, Refusal> {
        let Some(it) = self.take(names) else { return Ok(None) };
        if it.value.chars().count() > MAX_ID_CHARS {
            return Err(Refusal::of(&it.name, format!("longer than {MAX_ID_CHARS} characters")));
        }
        if join::is_unreplaced(&it.value) {
            let shown: String = it.value.chars().take(MAX_EVENT_CHARS).collect();
            self.warnings.push(format!("{} was not filled in: {shown}", it.name));
        }
        Ok(Some(it.value.clone()))
    }

    /// Reads a text that is ignored if it is an unreplaced placeholder.
    fn filled_in(&mut self, names: &[&str], else_: &str) -> Result<Option<String>, Refusal> {
        let before = self.warnings.len();
        let found = self.id(names)?;
        if let Some(warning) = self.warnings.get_mut(before) {
            warning.push_str(&format!("; {else_}"));
            return Ok(None);
        }
        Ok(found)
    }

    /// Reads an email address: one `@` with something on both sides.
    fn email(&mut self) -> Result<Option<String>, Refusal> {
        let Some(text) = self.filled_in(EMAIL, "ignored")? else { return Ok(None) };
        let is_address = text.split_once('@').is_some_and(|(name, host)| {
            let is_odd = |c: char| c.is_whitespace() || c.is_control() || "<>,;".contains(c);
            !name.is_empty() && !host.is_empty() && !host.contains('@') && !text.contains(is_odd)
        });
        if !is_address {
            let shown: String = text.chars().take(MAX_EVENT_CHARS).collect();
            self.warnings.push(format!("email is not an address: {shown}; ignored"));
        }
        Ok(is_address.then_some(text))
    }

    fn currency(&self, it: &Parameter) -> Result<Currency, Refusal> {
        currencies::parse(&it.value).ok_or_else(|| {
            let error = "use the three-letter code of the currency (ISO 4217), such as USD";
            Refusal::of(&it.name, error)
        })
    }

    fn amount(&mut self, names: &[&str], currency: Currency) -> Result<Option<Money>, Refusal> {
        let Some(it) = self.take(names) else { return Ok(None) };
        let (money, is_rounded) = decimal(&it.value, currency)
            .map_err(|fault| Refusal::of(&it.name, fault.sentence()))?;
        if is_rounded {
            self.warnings.push(format!(
                "{} {} has more digits than {currency} allows: rounded to {}",
                it.name,
                it.value,
                money.decimal()
            ));
            self.taken.pop(); // The original value is stored as a parameter.
        }
        Ok(Some(money))
    }

    fn amount_minor(&mut self, currency: Currency) -> Result<Option<Money>, Refusal> {
        let Some(it) = self.take(AMOUNT_MINOR) else { return Ok(None) };
        let digits = it.value.strip_prefix('-').unwrap_or(&it.value);
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_number {
            return Err(Refusal::of(&it.name, "use a whole number of minor units, such as 10260"));
        }
        match it.value.parse::<i128>() {
            Ok(minor) if minor.abs() <= MAX_MINOR => {
                let minor = i64::try_from(minor).expect("it is within the limit");
                Ok(Some(Money { minor, currency }))
            }
            _ => Err(Refusal::of(&it.name, Fault::TooLarge.sentence())),
        }
    }

    /// The event's name, else its type, else the value decides. `None` if there is none of them.
    ///
    /// A refund or chargeback is not an event of its own: its name is a status of the sale.
    fn kind(&mut self, amount: Option<Money>) -> Result<(Option<String>, Option<Status>), Refusal> {
        if let Some(it) = self.take(EVENT) {
            if it.value.chars().count() > MAX_EVENT_CHARS {
                let error = format!("an event name has at most {MAX_EVENT_CHARS} characters");
                return Err(Refusal::of(&it.name, error));
            }
            let of_event = [("refund", Status::Refunded), ("chargeback", Status::Disputed)];
            if let Some((_, status)) =
                of_event.into_iter().find(|(word, _)| it.value.eq_ignore_ascii_case(word))
            {
                return Ok((Some("purchase".to_owned()), Some(status)));
            }
            if !join::is_unreplaced(&it.value) {
                return Ok((Some(kind_of(&it.value)), None));
            }
            self.warnings.push(format!("{} was not filled in: {}; ignored", it.name, it.value));
        }
        if let Some(it) = self.take(CONVERSION_TYPE) {
            match it.value.to_ascii_lowercase().as_str() {
                "sale" => return Ok((Some("purchase".to_owned()), None)),
                "lead" => return Ok((Some("lead".to_owned()), None)),
                "acquisition" => return Ok((Some("CompleteRegistration".to_owned()), None)),
                _ => {
                    self.warnings.push(format!(
                        "{} is not sale, lead or acquisition: the value decides",
                        it.name
                    ));
                    self.taken.pop();
                }
            }
        }
        // Without a value it is a lead, unless a sale of this transaction is known: then its value
        // is now zero.
        let is_sale = amount.is_some_and(|amount| amount.minor != 0);
        Ok((is_sale.then(|| "purchase".to_owned()), None))
    }

    fn status(&mut self) -> Result<Option<Status>, Refusal> {
        let Some(it) = self.take(STATUS) else { return Ok(None) };
        if join::is_unreplaced(&it.value) && !it.value.contains(['{', '[', '%', '<']) {
            self.warnings.push(format!("{} was not filled in: {}; ignored", it.name, it.value));
            return Ok(None);
        }
        let word = it.value.to_ascii_lowercase();
        let found = STATUS_WORDS.iter().find(|(_, words)| words.contains(&word.as_str()));
        let error = || {
            let all: Vec<&str> =
                STATUS_WORDS.iter().flat_map(|(_, words)| words.iter().copied()).collect();
            Refusal::of(&it.name, format!("use one of these statuses: {}", all.join(", ")))
        };
        found.map(|(status, _)| Some(*status)).ok_or_else(error)
    }

    fn occurred_at(&mut self, received_at: Timestamp) -> Result<Option<Timestamp>, Refusal> {
        let Some(it) = self.take(OCCURRED_AT) else { return Ok(None) };
        let number = it.value.parse::<i64>().ok().filter(|number| *number > 0);
        let at = match (number, it.value.len()) {
            (Some(seconds), 9..=10) => Some(Timestamp::from_seconds(seconds)),
            (Some(ms), 12..=13) => Some(Timestamp::from_ms(ms)),
            (Some(_), _) => None,
            // A time without its zone would be read as the beginning of the day.
            (None, chars) => Timestamp::parse(&it.value).filter(|at| {
                let rest = it.value.get(10..).unwrap_or_default();
                at.as_ms() > 0 && (chars == 10 || rest.contains(['Z', 'z', '+', '-']))
            }),
        };
        let error = "use a time such as 2026-09-21T14:13:20Z, or seconds since 1970";
        let at = at.ok_or_else(|| Refusal::of(&it.name, error))?;
        if at > received_at.plus(MAX_AHEAD) {
            return Err(Refusal::of(&it.name, "the time is in the future"));
        }
        Ok(Some(at))
    }

    fn is_test(&mut self) -> Result<bool, Refusal> {
        let Some(it) = self.take(TEST) else { return Ok(false) };
        match it.value.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" => Ok(true),
            "0" | "false" | "no" => Ok(false),
            _ => Err(Refusal::of(&it.name, "use true or false")),
        }
    }

    /// Warns about parameters that were sent nested and are not read.
    fn warn_of_unread(&mut self) {
        let parameters = self.parameters;
        let is_known = |name: &str| KNOWN.iter().any(|names| names.contains(&name));
        for it in parameters.all() {
            let is_taken = self.taken.iter().any(|taken| std::ptr::eq(*taken, it));
            let is_meant =
                it.nested.as_ref().is_some_and(|(outer, inner)| is_known(outer) || is_known(inner));
            if is_taken || it.value.is_empty() || !(it.is_deep || is_meant) {
                continue;
            }
            self.warnings.push(match it.is_deep {
                true => format!("not read: {}; only one level of nesting is read", it.name),
                false => format!("not read: {}; send it as a top-level parameter", it.name),
            });
        }
    }

    /// All parameters that were not taken.
    fn params(&self) -> BTreeMap<String, String> {
        let cut = |text: &str| text.chars().take(MAX_PARAM_CHARS).collect::<String>();
        let mut params = BTreeMap::new();
        for it in self.parameters.all() {
            let is_taken = self.taken.iter().any(|taken| std::ptr::eq(*taken, it));
            if !is_taken && !it.value.is_empty() {
                params.entry(cut(&it.name)).or_insert_with(|| cut(&it.value));
            }
        }
        params
    }
}

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    NoNumber,
    TooLarge,
}

impl Fault {
    fn sentence(self) -> &'static str {
        match self {
            Self::NoNumber => {
                "use a value such as 102.60, without currency sign, comma or thousands separator"
            }
            Self::TooLarge => "larger than any payment",
        }
    }
}

/// Reads decimal text. Digits beyond the currency's are rounded half away from zero; the bool is
/// true if that changed the amount.
fn decimal(text: &str, currency: Currency) -> Result<(Money, bool), Fault> {
    let is_negative = text.starts_with('-');
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    // `5.` and `.5` are numbers, `.` is not.
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_number(whole) || !is_number(fraction) {
        return Err(Fault::NoNumber);
    }
    let exponent = currency.exponent();
    let (kept, beyond) = fraction.split_at(fraction.len().min(exponent));
    let minor: i128 = format!("0{whole}{kept:0<exponent$}").parse().map_err(|_| Fault::TooLarge)?;
    let minor = minor.saturating_add(i128::from(beyond.as_bytes().first() >= Some(&b'5')));
    if minor > MAX_MINOR {
        return Err(Fault::TooLarge);
    }
    let minor = i64::try_from(minor).expect("it is within the limit");
    let is_rounded = beyond.bytes().any(|digit| digit != b'0');
    Ok((Money { minor: if is_negative { -minor } else { minor }, currency }, is_rounded))
}

#[cfg(test)]
mod tests {
    use super::super::parameters;
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    fn usd() -> Currency {
        Currency::USD
    }

    fn arrival(request: &str) -> Arrival {
        Arrival { at: NOW, request: request.to_owned() }
    }

    fn read_query(query: &str) -> Result<Statement, Refusal> {
        read(&parameters::read(query, "", b"").unwrap(), usd(), NOW)
    }

    fn payment(query: &str) -> Payment {
        read_query(query).unwrap().payment("src_1", arrival("crq_1"), false).0
    }

    fn reported(query: &str) -> Reported {
        payment(query).reported.unwrap()
    }

    /// The ways in which people write a name.
    fn spellings(name: &str) -> Vec<String> {
        let words: Vec<&str> = name.split('_').collect();
        let capital = |word: &str| format!("{}{}", word[..1].to_uppercase(), &word[1..]);
        let capitals: Vec<String> = words.iter().map(|word| capital(word)).collect();
        vec![
            name.to_owned(),
            words.concat(),
            words.join("-"),
            name.to_uppercase(),
            words.concat().to_uppercase(),
            capitals.join("-"),
            capitals.join("_"),
            capitals.concat(),
            format!("{}{}", words[0], capitals[1..].concat()),
        ]
    }

    #[test]
    fn every_alias_is_known_in_every_spelling() {
        type Seen = fn(&Statement) -> Option<String>;
        let rows: [(&[&str], &str, Seen); 9] = [
            (
                &[
                    "click_id",
                    "clickid",
                    "click",
                    "client_reference_id",
                    "atclid",
                    "subid",
                    "sub_id",
                ],
                "aff2291",
                |it| it.click_id.clone(),
            ),
            (&["ref_id", "refid", "ref"], "aff2291", |it| it.reference.clone()),
            (&["email", "customer_email"], "a@b.example", |it| it.email.clone()),
            (&["value", "commission", "amount", "payout", "revenue"], "102.60", |it| {
                Some(it.amount?.decimal())
            }),
            (&["currency"], "eur", |it| Some(it.amount?.currency.code().to_lowercase())),
            (&["transaction_id", "txid", "order_id", "payment_id"], "t1", |it| {
                it.transaction.clone()
            }),
            (&["event_name", "event"], "Upsell", |it| it.kind.clone()),
            (&["occurred_at"], "1790000000", |it| Some(it.occurred_at?.as_seconds().to_string())),
            (&["test"], "1", |it| it.is_test.then(|| "1".to_owned())),
        ];
        for (names, value, seen) in rows {
            for name in names.iter().flat_map(|name| spellings(name)) {
                let rest = match names[0] {
                    "click_id" | "ref_id" | "email" => "",
                    "currency" => "&click_id=c&value=1",
                    _ => "&click_id=c",
                };
                let statement = read_query(&format!("{name}={value}{rest}")).unwrap();
                assert_eq!(seen(&statement).as_deref(), Some(value), "{name}");
                assert!(!statement.params.contains_key(&name), "{name} was taken");
            }
        }
        for name in spellings("amount_minor") {
            let statement = read_query(&format!("{name}=10260&click_id=c")).unwrap();
            assert_eq!(statement.amount.unwrap().decimal(), "102.60", "{name}");
        }
        for name in spellings("amount_total") {
            let refusal = read_query(&format!("{name}=10260&click_id=c&value=1")).unwrap_err();
            assert_eq!(refusal.parameter.as_deref(), Some(name.as_str()));
            assert!(refusal.error.contains("send amount_minor, or value"), "{refusal:?}");
        }
        for name in spellings("conversion_type") {
            assert_eq!(reported(&format!("{name}=Sale&click_id=c")).kind, "purchase", "{name}");
        }
    }

    #[test]
    fn anytracks_names_win_over_ours_and_other_parameters_are_kept() {
        let statement = read_query("subid=b&click_id=a&sub1=x&empty=&sub1=y").unwrap();
        assert_eq!(statement.click_id.as_deref(), Some("a"));
        let kept = [("sub1", "x"), ("subid", "b")];
        assert_eq!(statement.params, kept.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
        let long = read_query(&format!("click_id=a&note={}", "ä".repeat(300))).unwrap();
        assert_eq!(long.params["note"].chars().count(), 200);
    }

    #[test]
    fn values_are_exact() {
        let rows = [
            ("102.60", "USD", Some("102.60")),
            ("102", "USD", Some("102.00")),
            ("-5", "USD", Some("5.00")),
            ("%2B10", "USD", Some("10.00")),
            (".5", "USD", Some("0.50")),
            ("5.", "USD", Some("5.00")),
            ("-.5", "USD", Some("0.50")),
            (".", "USD", None),
            ("-.", "USD", None),
            ("%2B-5", "USD", None),
            ("0", "USD", Some("0.00")),
            ("007.5", "USD", Some("7.50")),
            ("10.005", "USD", Some("10.01")),
            ("10.0049", "USD", Some("10.00")),
            ("-10.005", "USD", Some("10.01")),
            ("99.995", "USD", Some("100.00")),
            ("500", "JPY", Some("500")),
            ("500.5", "JPY", Some("501")),
            ("5.12", "KWD", Some("5.120")),
            ("5.1235", "KWD", Some("5.124")),
            ("90071992547.40", "USD", Some("90071992547.40")),
            ("1234567890123456789012345678901234567890123", "USD", None),
            ("100000000000.01", "USD", None),
            ("1,000", "USD", None),
            ("1.000,50", "USD", None),
            ("1 000", "USD", None),
            ("$10", "USD", None),
            ("10 USD", "USD", None),
            ("1e3", "USD", None),
            ("--5", "USD", None),
            ("-", "USD", None),
            ("1.2.3", "USD", None),
            ("NaN", "USD", None),
            ("%D9%A1", "USD", None),
            ("{payout}", "USD", None),
        ];
        for (value, currency, expected) in rows {
            let read = read_query(&format!("click_id=c&value={value}&currency={currency}"));
            let decimal = read.as_ref().ok().and_then(|it| it.amount).map(Money::decimal);
            assert_eq!(decimal.as_deref(), expected, "{value} {currency}");
            if let Err(refusal) = read {
                assert_eq!(refusal.parameter.as_deref(), Some("value"));
            }
        }
        let rounded = read_query("click_id=c&payout=10.005").unwrap();
        assert_eq!(rounded.params["payout"], "10.005");
        assert!(rounded.warnings[0].contains("rounded to 10.01"), "{:?}", rounded.warnings);
        assert!(read_query("click_id=c&value=10.500").unwrap().warnings.is_empty());
        for bad in ["1.5", "x", "", "-", "99999999999999", "1e2"] {
            let read = read_query(&format!("click_id=c&amount_minor={bad}"));
            assert_eq!(read.is_ok(), bad.is_empty(), "{bad}");
        }
    }

    #[test]
    fn the_event_is_its_name_else_its_type_else_the_value() {
        let rows = [
            ("event_name=Purchase", "purchase"),
            ("event_name=LEAD&value=5", "lead"),
            ("event_name=AddToCart&value=5", "AddToCart"),
            ("event_name=Upsell&conversion_type=lead", "Upsell"),
            ("event_name={event}&value=5", "purchase"),
            ("event_name=undefined&value=5", "purchase"),
            ("event_name=Renewal&value=5", "renewal"),
            ("event_name=RENEWAL&value=5", "renewal"),
            ("event_name=renewal&value=5", "renewal"),
            ("event_name=Trial", "trial"),
            ("event_name=Refund&value=5", "purchase"),
            ("event_name=CHARGEBACK", "purchase"),
            ("conversion_type=sale", "purchase"),
            ("conversion_type=LEAD&value=5", "lead"),
            ("conversion_type=acquisition", "CompleteRegistration"),
            ("conversion_type=other&value=5", "purchase"),
            ("", "lead"),
            ("value=0", "lead"),
            ("value=0.01", "purchase"),
            ("value=-5", "purchase"),
            ("amount_minor=1", "purchase"),
        ];
        for (query, kind) in rows {
            assert_eq!(reported(&format!("click_id=c&{query}")).kind, kind, "{query}");
        }
        let long = read_query(&format!("click_id=c&event={}", "x".repeat(65))).unwrap_err();
        assert_eq!(long.parameter.as_deref(), Some("event"));
    }

    #[test]
    fn a_warning_names_parameters_that_were_sent_nested_and_are_not_read() {
        let warned = |body: &str| {
            let parameters = parameters::read("", "application/json", body.as_bytes()).unwrap();
            read(&parameters, usd(), NOW).unwrap().warnings
        };
        let rows = [
            (r#"{"click_id":"c","data":{"order":{"value":9}}}"#, Some("not read: data_order;")),
            (r#"{"click_id":"c","value":{"a":5}}"#, Some("not read: value_a;")),
            (r#"{"click_id":"c","order":{"value":5}}"#, Some("not read: order_value;")),
            (r#"{"click_id":"c","order":[{"value":5}]}"#, Some("not read: order;")),
            (r#"{"click_id":"c","customer":{"email":"a@b.example","name":"x"}}"#, None),
            (r#"{"click_id":"c","tags":[1,2],"order":{"colour":"red","value":null}}"#, None),
        ];
        for (body, expected) in rows {
            let warnings = warned(body);
            assert_eq!(warnings.len(), usize::from(expected.is_some()), "{body}: {warnings:?}");
            assert!(warnings.iter().all(|it| it.contains(expected.unwrap_or("")),), "{warnings:?}");
        }
    }

    #[test]
    fn only_an_email_address_is_accepted_as_email() {
        for good in ["a@b.example", "a.b%2Bc@b", "j\u{e4}@b.example"] {
            assert!(read_query(&format!("email={good}")).is_ok(), "{good}");
        }
        for bad in ["not an email", "a@", "@b", "a@b@c", "a b@c", "undefined", "null", "None"] {
            assert_eq!(
                read_query(&format!("email={bad}")).unwrap_err().error,
                NO_IDENTITY,
                "{bad}"
            );
            let statement = read_query(&format!("click_id=c&email={bad}")).unwrap();
            assert_eq!((statement.email, statement.warnings.len()), (None, 1), "{bad}");
        }
    }

    #[test]
    fn every_status_word_is_known() {
        for (status, words) in STATUS_WORDS {
            for word in words {
                for word in [(*word).to_owned(), word.to_uppercase()] {
                    let found = read_query(&format!("click_id=c&status={word}")).unwrap().status;
                    assert_eq!(found, status, "{word}");
                }
            }
        }
        assert_eq!(read_query("click_id=c").unwrap().status, Status::Paid);
        for bad in ["ok", "paid!", "{status}"] {
            let refusal = read_query(&format!("click_id=c&status={bad}")).unwrap_err();
            assert!(refusal.error.contains("paid, approved") && refusal.error.contains("disputed"));
        }
    }

    #[test]
    fn an_unreplaced_placeholder_identifies_nothing() {
        let unreplaced = ["--CLICK-ID--", "{clickid}", "{{ck.id}}", "[click_id]", "%25SUBID%25"];
        for text in unreplaced {
            let statement = read_query(&format!("click_id={text}")).unwrap();
            assert!(statement.click_id.is_some(), "it counts as present");
            assert!(statement.warnings[0].contains("not filled in"), "{text}");
            assert!(reported(&format!("click_id={text}")).key.contains("request:"), "{text}");
            let sale = reported(&format!("click_id=c&value=1&transaction_id={text}"));
            assert_eq!(sale.transaction_id, "crq_1", "{text}");
        }
        let refusal = read_query("email={email}&value=1").unwrap_err();
        assert_eq!(refusal.error, NO_IDENTITY);
        assert_eq!(read_query("value=1").unwrap_err().error, NO_IDENTITY);
    }

    #[test]
    fn keys_distinguish_repeats_from_new_conversions() {
        let key = |query: &str, request: &str| {
            let (payment, warnings) =
                read_query(query).unwrap().payment("src_1", arrival(request), false);
            (payment.reported.unwrap().key, warnings.len())
        };
        let rows = [
            ("a transaction", "click_id=c&value=1&transaction_id=t", true, 0),
            ("a lead of a click", "click_id=c", true, 0),
            ("a lead without a click ID", "email=a@b.example", false, 1),
            ("a purchase", "click_id=c&value=1", false, 1),
            ("another event", "click_id=c&event=Upsell", false, 1),
        ];
        for (name, query, is_same, warned) in rows {
            let (first, second) = (key(query, "crq_1"), key(query, "crq_2"));
            assert_eq!(first.0 == second.0, is_same, "{name}");
            assert_eq!(first.1, warned, "{name}");
        }
        let other = |query: &str| key(query, "crq_1").0;
        let sale = other("click_id=c&value=1&transaction_id=t");
        assert_ne!(sale, other("click_id=c&value=1&transaction_id=u"));
        assert_ne!(sale, other("click_id=c&event=Upsell&transaction_id=t"));
        assert_ne!(sale, other("click_id=c&value=1&transaction_id=t&test=1"));
    }

    #[test]
    fn times_are_dates_or_numbers_and_never_far_ahead() {
        let rows = [
            ("2026-09-21T14:13:20Z", Some(1_790_000_000)),
            ("2026-09-21T16:13:20%2B02:00", Some(1_790_000_000)),
            ("1790000000", Some(1_790_000_000)),
            ("1790000000000", Some(1_790_000_000)),
            ("2026-09-21", Some(1_789_948_800)),
            ("2036-09-21", None),
            ("17", None),
            ("-1790000000", None),
            ("yesterday", None),
            ("2026-09-21 14:13", None),
        ];
        for (text, expected) in rows {
            let read = read_query(&format!("click_id=c&occurred_at={text}"));
            let at = read.ok().and_then(|it| Some(it.occurred_at?.as_seconds()));
            assert_eq!(at, expected, "{text}");
        }
        assert!(read_query("click_id=c&test=maybe").is_err());
        assert!(read_query("click_id=c&currency=dollars").is_err());
        assert!(read_query(&format!("click_id={}", "c".repeat(501))).is_err());
    }
}
