//! Tests of reading what a request states.

use super::read::{NO_IDENTITY, STATUS_WORDS};
use super::*;
use crate::custom::parameters;
use crate::money::Currency;

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
            &["click_id", "clickid", "click", "client_reference_id", "atclid", "subid", "sub_id"],
            "aff2291",
            |it| it.click_id.clone(),
        ),
        (&["ref_id", "refid", "ref"], "aff2291", |it| it.reference.clone()),
        (&["email", "customer_email"], "a@b.example", |it| it.email.clone()),
        (&["value", "commission", "amount", "payout", "revenue"], "102.60", |it| {
            Some(it.amount?.decimal())
        }),
        (&["currency"], "eur", |it| Some(it.amount?.currency.code().to_lowercase())),
        (&["transaction_id", "txid", "order_id", "payment_id"], "t1", |it| it.transaction.clone()),
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
        assert_eq!(read_query(&format!("email={bad}")).unwrap_err().error, NO_IDENTITY, "{bad}");
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
