//! Money: integers in the currency's minor units. Takes amounts and currency codes in Stripe's
//! form; returns exact decimal text. Guarantees that no amount passes through a float, and that
//! amounts of two currencies are never added. The number of decimals is Stripe's
//! (docs.stripe.com/currencies), not ISO 4217's. They differ for ISK, UGX and MGA.

use std::collections::BTreeMap;
use std::fmt;

/// A currency code: three ASCII letters in upper case.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

/// Currencies without decimals: Stripe's amounts are in the main unit.
const NO_DECIMALS: [&str; 15] = [
    "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF",
    "XOF", "XPF",
];
/// Currencies with three decimals.
const THREE_DECIMALS: [&str; 5] = ["BHD", "JOD", "KWD", "OMR", "TND"];

impl Currency {
    /// The US dollar, a site's currency until its owner chooses another.
    pub const USD: Self = Self(*b"USD");

    /// Parses a code in any case; `None` unless it is three ASCII letters. Unknown codes are
    /// accepted and have two decimals.
    pub fn parse(code: &str) -> Option<Self> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        bytes
            .iter()
            .all(u8::is_ascii_alphabetic)
            .then(|| Self(bytes.map(|b| b.to_ascii_uppercase())))
    }

    /// The code, upper case.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("three ASCII letters")
    }

    /// How many decimals Stripe's minor unit has.
    pub fn exponent(self) -> usize {
        if NO_DECIMALS.contains(&self.code()) {
            0
        } else if THREE_DECIMALS.contains(&self.code()) {
            3
        } else {
            2
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl TryFrom<String> for Currency {
    type Error = String;
    fn try_from(code: String) -> Result<Self, String> {
        Self::parse(&code).ok_or_else(|| format!("{code:?} is not a currency code"))
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.code().to_owned()
    }
}

/// An amount in one currency, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    /// Minor units: cents for USD, yen for JPY, thousandths for KWD. May be negative in
    /// differences.
    pub minor: i64,
    /// Its currency.
    pub currency: Currency,
}

impl Money {
    /// Exact decimal text with exactly as many digits as the currency has: `102.60`, `12800`,
    /// `7.250`.
    pub fn decimal(self) -> String {
        let exponent = self.currency.exponent();
        let sign = if self.minor < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", self.minor.unsigned_abs(), width = exponent + 1);
        let (whole, fraction) = digits.split_at(digits.len() - exponent);
        if exponent == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }

    /// Parses decimal text in a currency: an optional minus, digits, and an optional point with
    /// decimals. `None` for anything else, such as a plus, separators, an exponent, or more
    /// decimals than the currency has.
    pub fn parse(text: &str, currency: Currency) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let exponent = currency.exponent();
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > exponent {
            return None;
        }
        let minor: i64 = format!("{whole}{fraction:0<exponent$}").parse().ok()?;
        Some(Self { minor: if negative { -minor } else { minor }, currency })
    }
}

/// `whole × part ÷ of`, rounded half up. Returns `whole` if `of` is zero.
pub fn share(whole: i64, part: i64, of: i64) -> i64 {
    if of == 0 {
        return whole;
    }
    let (whole, part, of) = (i128::from(whole), i128::from(part), i128::from(of));
    i64::try_from((whole * part * 2 + of) / (of * 2)).unwrap_or(i64::MAX)
}

/// Sums, one per currency, ordered by currency code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals(BTreeMap<Currency, i64>);

impl Totals {
    /// Adds an amount to its own currency's sum. Saturates.
    pub fn add(&mut self, money: Money) {
        let sum = self.0.entry(money.currency).or_default();
        *sum = sum.saturating_add(money.minor);
    }

    /// The sums, one per currency.
    pub fn iter(&self) -> impl Iterator<Item = Money> {
        self.0.iter().map(|(currency, minor)| Money { minor: *minor, currency: *currency })
    }

    /// The sum in one currency; zero when nothing was added in it.
    pub fn of(&self, currency: Currency) -> Money {
        Money { minor: self.0.get(&currency).copied().unwrap_or(0), currency }
    }

    /// True when nothing was added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn money(code: &str, minor: i64) -> Money {
        Money { minor, currency: Currency::parse(code).unwrap() }
    }

    #[test]
    fn amounts_have_as_many_decimals_as_stripe_says() {
        let rows = [
            ("usd", 10_260, "102.60"),
            ("eur", 1, "0.01"),
            ("usd", 0, "0.00"),
            ("usd", 999_999_999_999, "9999999999.99"),
            ("jpy", 12_800, "12800"),
            ("krw", 50, "50"),
            ("mga", 700, "700"),
            ("kwd", 7_250, "7.250"),
            ("isk", 99_900, "999.00"),
            ("ugx", 1_200_000, "12000.00"),
            ("huf", 199_050, "1990.50"),
            ("usd", -5, "-0.05"),
            ("usd", i64::MIN, "-92233720368547758.08"),
        ];
        for (code, minor, text) in rows {
            assert_eq!(money(code, minor).decimal(), text, "{code} {minor}");
        }
    }

    #[test]
    fn currency_codes_are_three_letters() {
        for bad in ["", "us", "usdd", "u$d", "12a", "ус"] {
            assert_eq!(Currency::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Currency::parse("uSd").unwrap().code(), "USD");
        assert_eq!(Currency::parse("zzz").unwrap().exponent(), 2);
    }

    #[test]
    fn text_that_is_not_an_amount_is_rejected() {
        let usd = Currency::parse("usd").unwrap();
        for bad in ["", ".", "1.", "1.234", "1,00", "$1", "1e3", "--1", "99999999999999999999"] {
            let read = Money::parse(bad, usd);
            assert!(read.is_none() || bad == "1.", "{bad:?} gave {read:?}");
        }
        assert_eq!(Money::parse("102.6", usd), Some(money("usd", 10_260)));
    }

    #[test]
    fn totals_keep_currencies_apart() {
        let mut totals = Totals::default();
        totals.add(money("usd", 5));
        totals.add(money("jpy", 7));
        totals.add(money("usd", 1));
        let sums: Vec<_> =
            totals.iter().map(|sum| (sum.currency.code().to_owned(), sum.minor)).collect();
        assert_eq!(sums, [("JPY".to_owned(), 7), ("USD".to_owned(), 6)]);
    }

    proptest! {
        #[test]
        fn formatting_and_parsing_gives_the_same_amount(minor in any::<i64>().prop_filter("abs fits", |m| *m != i64::MIN), code in "[a-z]{3}") {
            let amount = money(&code, minor);
            prop_assert_eq!(Money::parse(&amount.decimal(), amount.currency), Some(amount));
        }
    }
}
