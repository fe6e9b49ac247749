//! The currencies that a request may name.
//! Takes a code in any letter case; returns the currency if amounts can be in it.
//! Codes of metals, funds and tests (`XAU`, `CHE`, `XXX`) and of crypto-currencies are refused,
//! because their decimals are unknown. Pure.
//! Source: ISO 4217, list one, as of 2026, with the codes withdrawn since 2015 that old shops still
//! send.

use crate::money::Currency;

const CODES: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BYR \
    BZD CAD CDF CHF CLF CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD \
    GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR \
    LRD LSL LTL LYD MAD MDL MGA MKD MMK MNT MOP MRO MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK \
    PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STD STN SVC SYP SZL THB TJS TMT \
    TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VEF VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG ZWL";

/// The currency with this code.
pub(super) fn parse(code: &str) -> Option<Currency> {
    let currency = Currency::parse(code)?;
    CODES.split_ascii_whitespace().any(|known| known == currency.code()).then_some(currency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_money_is_a_currency() {
        for code in ["usd", "EUR", "Jpy", "kwd", "XOF", "XCG"] {
            assert_eq!(parse(code).unwrap().code(), code.to_ascii_uppercase());
        }
        for code in ["XXX", "XTS", "XAU", "BTC", "ETH", "CHE", "US", "dollars", "", "€€€"] {
            assert!(parse(code).is_none(), "{code}");
        }
        let codes: Vec<&str> = CODES.split_ascii_whitespace().collect();
        assert!(codes.is_sorted() && codes.iter().all(|code| code.len() == 3));
    }
}
