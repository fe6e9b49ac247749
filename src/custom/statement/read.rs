//! Reads what a request states.
//! Takes its parameters, the source's currency and the time of arrival; returns a statement, or the
//! reason why there is none.
//! Pure. Decimals are exact, without floats, and a placeholder that a tool forgot to replace never
//! counts as an ID. Source of AnyTrack's names and rules: readme.anytrack.io,
//! custom-integration-parameters and standard-events.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Statement, Status, kind_of};
use crate::clock::Timestamp;
use crate::conversion::join;
use crate::custom::currencies;
use crate::custom::parameters::{Parameter, Parameters, Refusal};
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
    CLICK_ID, REFERENCE, EMAIL, VALUE, AMOUNT_MINOR, AMOUNT_TOTAL, CURRENCY, TRANSACTION, EVENT,
    CONVERSION_TYPE, STATUS, OCCURRED_AT, TEST, REFUND_ID, REFUNDED_TOTAL,
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

pub(super) const STATUS_WORDS: [(Status, &[&str]); 5] = [
    (
        Status::Paid,
        &["paid", "approved", "confirmed", "complete", "completed", "success", "succeeded"],
    ),
    (Status::Pending, &["pending", "unpaid", "processing"]),
    (Status::Failed, &["rejected", "declined", "failed", "canceled", "cancelled"]),
    (Status::Refunded, &["refunded", "reversed"]),
    (Status::Disputed, &["chargeback", "disputed"]),
];

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
            let advice = if it.is_deep {
                "only one level of nesting is read"
            } else {
                "send it as a top-level parameter"
            };
            self.warnings.push(format!("not read: {}; {advice}", it.name));
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
