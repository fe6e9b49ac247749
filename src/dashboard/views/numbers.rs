//! Numbers as the pages show them. Takes money, counts and shares; returns text. Money keeps every digit of its currency,
//! a change names the earlier value, and an unknown number is never shown as zero.

use crate::money::{Currency, Money, Totals};
use crate::report::Share;

/// Shown if there is no value.
pub(in crate::dashboard) const NONE: &str = "–";

/// `$129.00`, `€4,457.00`, `¥500`, `KWD 5.120`; a real minus before the sign.
pub(in crate::dashboard) fn money(money: Money) -> String {
    let (whole, rest) = money_parts(money);
    whole + &rest
}

/// An amount, if it is known.
pub(in crate::dashboard) fn amount(amount: Option<Money>) -> String {
    amount.map_or_else(|| NONE.to_owned(), money)
}

/// An amount in two parts, if it is known.
pub(in crate::dashboard) fn amount_parts(amount: Option<Money>) -> (String, String) {
    amount.map_or_else(|| (NONE.to_owned(), String::new()), money_parts)
}

/// The same in two parts, so that a big number can show its cents smaller: `$129`, `.00`.
pub(in crate::dashboard) fn money_parts(money: Money) -> (String, String) {
    let decimal = money.decimal();
    let (minus, digits) =
        decimal.strip_prefix('-').map_or(("", decimal.as_str()), |digits| ("−", digits));
    let (whole, rest) = digits.find('.').map_or((digits, ""), |point| digits.split_at(point));
    (format!("{minus}{}{}", sign(money.currency), thousands(whole)), rest.to_owned())
}

/// Without decimals if they are all zero, for the axes of charts.
pub(in crate::dashboard) fn axis_money(amount: Money) -> String {
    let (whole, rest) = money_parts(amount);
    if rest.bytes().all(|b| b == b'.' || b == b'0') { whole } else { whole + &rest }
}

/// Unambiguous signs only; every other currency is shown by its code.
fn sign(currency: Currency) -> String {
    match currency.code() {
        "USD" => "$".to_owned(),
        "EUR" => "€".to_owned(),
        "GBP" => "£".to_owned(),
        "JPY" => "¥".to_owned(),
        "INR" => "₹".to_owned(),
        "KRW" => "₩".to_owned(),
        code => format!("{code} "),
    }
}

/// A count with commas: `41,870`.
pub(in crate::dashboard) fn count(count: i64) -> String {
    let minus = if count < 0 { "−" } else { "" };
    format!("{minus}{}", thousands(&count.unsigned_abs().to_string()))
}

/// `1 payment`, `9 payments`.
pub(in crate::dashboard) fn counted(number: i64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

fn thousands(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Currencies with money in them, the chosen one first.
pub(in crate::dashboard) fn in_order(totals: &Totals, first: Currency) -> Vec<Money> {
    let mut sums: Vec<Money> = totals.iter().filter(|sum| sum.minor != 0).collect();
    sums.sort_by_key(|sum| (sum.currency != first, sum.currency));
    sums
}

/// The first of some sums in two parts; zero if there is none.
pub(in crate::dashboard) fn largest(sums: &[Money], currency: Currency) -> (String, String) {
    money_parts(sums.first().copied().unwrap_or(Money { minor: 0, currency }))
}

/// All currencies in a cell of a table: `$35,169.10, €4,457.00`; `–` if there is nothing.
pub(in crate::dashboard) fn each(totals: &Totals, first: Currency) -> String {
    let sums: Vec<String> = in_order(totals, first).into_iter().map(money).collect();
    if sums.is_empty() { NONE.to_owned() } else { sums.join(", ") }
}

/// All currencies side by side, never added: `$35,169.10 and €4,457.00`. Nothing at all is a zero in the chosen one.
pub(in crate::dashboard) fn totals(totals: &Totals, first: Currency) -> String {
    let sums: Vec<String> = in_order(totals, first).into_iter().map(money).collect();
    match sums.split_last() {
        None => money(Money { minor: 0, currency: first }),
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}

/// A rate in ten-thousandths: two decimals below one per cent, one above; `–` without a whole.
pub(in crate::dashboard) fn rate(share: Share) -> String {
    share.per_ten_thousand().map_or_else(|| NONE.to_owned(), per_cent)
}

fn per_cent(per_ten_thousand: i64) -> String {
    let size = per_ten_thousand.abs();
    if size == 0 || size == 10_000 {
        format!("{}%", size / 100)
    } else if size < 100 {
        format!("0.{size:02}%")
    } else {
        format!("{}.{}%", size / 100, size % 100 / 10)
    }
}

/// How a number compares with the one before: the change, whether that is good, and the earlier value.
pub(in crate::dashboard) struct Change {
    /// `+13.8%`, `−0.02 pt`, `new`.
    pub(in crate::dashboard) text: String,
    /// `up` if the change is good, `down` if it is bad, whatever its sign. Empty if nothing changed.
    pub(in crate::dashboard) class: &'static str,
    /// `$30,912.00`.
    pub(in crate::dashboard) from: String,
}

/// Whether an increase is good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::dashboard) enum More {
    IsGood,
    IsBad,
}

fn class(difference: i64, more: More) -> &'static str {
    match (difference.signum(), more) {
        (0, _) => "",
        (1, More::IsGood) | (-1, More::IsBad) => "up",
        _ => "down",
    }
}

/// Per cent of the earlier value; there is none from zero. `None` when both are zero.
pub(in crate::dashboard) fn change(
    now: i64,
    before: i64,
    from: String,
    more: More,
) -> Option<Change> {
    let difference = now.saturating_sub(before);
    if now == 0 && before == 0 {
        return None;
    }
    let text = if before <= 0 {
        "new".to_owned()
    } else {
        let per_mille = difference.saturating_mul(1000) / before;
        format!("{}{}.{}%", plus(difference), per_mille.abs() / 10, per_mille.abs() % 10)
    };
    Some(Change { text, class: class(difference, more), from })
}

/// Differences of rates are points. `None` when either rate does not exist.
pub(in crate::dashboard) fn points(now: Share, before: Share, more: More) -> Option<Change> {
    let (new, old) = (now.per_ten_thousand()?, before.per_ten_thousand()?);
    let difference = new - old;
    let size = difference.abs();
    let text = if size >= 100 || size == 0 {
        format!("{}{}.{} pt", plus(difference), size / 100, size % 100 / 10)
    } else {
        format!("{}0.{size:02} pt", plus(difference))
    };
    Some(Change { text, class: class(difference, more), from: per_cent(old) })
}

fn plus(difference: i64) -> &'static str {
    match difference.signum() {
        0 => "±",
        1 => "+",
        _ => "−",
    }
}

/// Money per visit, to the nearest minor unit. `None` without visits.
pub(in crate::dashboard) fn per_visit(money: Money, visits: i64) -> Option<Money> {
    let half = visits / 2;
    (visits > 0).then(|| Money { minor: (money.minor + half).div_euclid(visits), ..money })
}

/// A share of the largest row as a width: `66.3%`.
pub(in crate::dashboard) fn width(part: i64, largest: i64) -> String {
    let per_mille = Share { part: part.clamp(0, largest.max(0)), whole: largest }.per_mille();
    let per_mille = per_mille.unwrap_or(0);
    format!("{}.{}%", per_mille / 10, per_mille % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &str, minor: i64) -> Money {
        Money { minor, currency: Currency::parse(code).unwrap() }
    }

    #[test]
    fn money_has_its_sign_or_code_and_its_own_digits() {
        let rows = [
            ("usd", 12_900, "$129.00"),
            ("eur", 445_700, "€4,457.00"),
            ("jpy", 500, "¥500"),
            ("kwd", 5_120, "KWD 5.120"),
            ("usd", -5, "−$0.05"),
            ("cad", 123_456_789, "CAD 1,234,567.89"),
            ("gbp", 0, "£0.00"),
        ];
        for (code, minor, text) in rows {
            assert_eq!(money(of(code, minor)), text);
        }
        assert_eq!(money_parts(of("usd", 3_516_910)), ("$35,169".to_owned(), ".10".to_owned()));
        assert_eq!(money_parts(of("jpy", 500)).1, "");
        assert_eq!(axis_money(of("usd", 200_000)), "$2,000");
        assert_eq!(axis_money(of("usd", 50)), "$0.50");
    }

    #[test]
    fn currencies_stand_side_by_side() {
        let usd = Currency::parse("usd").unwrap();
        let mut sums = Totals::default();
        assert_eq!((totals(&sums, usd).as_str(), each(&sums, usd).as_str()), ("$0.00", NONE));
        assert_eq!(largest(&in_order(&sums, usd), usd), ("$0".to_owned(), ".00".to_owned()));
        sums.add(of("eur", 445_700));
        assert_eq!(totals(&sums, usd), "€4,457.00");
        sums.add(of("usd", 3_516_910));
        assert_eq!(totals(&sums, usd), "$35,169.10 and €4,457.00");
        sums.add(of("jpy", 500));
        assert_eq!(totals(&sums, usd), "$35,169.10, €4,457.00 and ¥500");
        assert_eq!(each(&sums, usd), "$35,169.10, €4,457.00, ¥500");
        assert_eq!(amount_parts(None), (NONE.to_owned(), String::new()));
        assert_eq!((amount(None).as_str(), amount(Some(of("jpy", 5))).as_str()), (NONE, "¥5"));
    }

    #[test]
    fn counts_have_commas() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (41_870, "41,870"),
            (-1_234_567, "−1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "payment", "payments"), "1 payment");
    }

    #[test]
    fn rates_have_two_decimals_below_one_per_cent_and_one_above() {
        let rows = [
            (0, 0, "–"),
            (0, 9, "0%"),
            (363, 41_870, "0.86%"),
            (342, 363, "94.2%"),
            (363, 363, "100%"),
            (999, 1_000, "99.9%"),
            (1, 100, "1.0%"),
        ];
        for (part, whole, text) in rows {
            assert_eq!(rate(Share { part, whole }), text, "{part} of {whole}");
        }
    }

    #[test]
    fn changes_say_from_what_and_are_good_or_bad_for_the_owner() {
        let up = change(113_800, 100_000, "$1,000.00".to_owned(), More::IsGood).unwrap();
        assert_eq!((up.text.as_str(), up.class), ("+13.8%", "up"));
        let less = change(779, 1_000, String::new(), More::IsBad).unwrap();
        assert_eq!((less.text.as_str(), less.class), ("−22.1%", "up"));
        assert_eq!(change(5, 0, String::new(), More::IsGood).unwrap().text, "new");
        assert!(change(0, 0, String::new(), More::IsGood).is_none());
        let of = |part| Share { part, whole: 1000 };
        let rate = points(of(942), of(917), More::IsGood).unwrap();
        assert_eq!((rate.text.as_str(), rate.from.as_str()), ("+2.5 pt", "91.7%"));
        let small = Share { part: 87, whole: 10_000 };
        let change = points(small, Share { part: 85, ..small }, More::IsGood).unwrap();
        assert_eq!(change.text, "+0.02 pt");
        assert!(points(small, Share::default(), More::IsGood).is_none());
    }

    #[test]
    fn widths_are_shares_of_the_first_row() {
        assert_eq!(width(688_900, 1_038_640), "66.3%");
        assert_eq!(width(5, 0), "0.0%");
        assert_eq!(width(-5, 10), "0.0%");
    }
}
