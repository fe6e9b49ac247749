//! Every way in which a destination can respond, or not: from the worker's attempt to the
//! delivery's state and the reason that its page shows.
//! One payment and one delivery per row; the network, the resolver and the time limit are the row's
//! own.

use std::io::Write as _;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clickstamp::destination::{Lookup, Network};

use crate::harness::{FakeDestination, Session, TestApp, Wire};

/// A public address without a server.
const NOBODY: [u8; 4] = [192, 88, 98, 1];
const HOME: [u8; 4] = [127, 0, 0, 1];

/// The result of a delivery.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    state: String,
    reason: String,
    /// The outcome of each attempt.
    outcomes: Vec<String>,
}

fn ended(state: &str, reason: &str, outcomes: &[&str]) -> Ended {
    let outcomes = outcomes.iter().map(|word| (*word).to_owned()).collect();
    Ended { state: state.to_owned(), reason: reason.to_owned(), outcomes }
}

/// What an address is like.
struct Place {
    url: String,
    network: Network,
    allows_private: bool,
}

impl Place {
    fn at(url: String) -> Self {
        Self { url, network: Network::default(), allows_private: true }
    }

    /// The same with short time limits.
    fn in_a_hurry(self) -> Self {
        let soon = Duration::from_millis(400);
        let network = Network { connect_timeout: soon, attempt_timeout: soon, ..self.network };
        Self { network, ..self }
    }

    /// The same with a resolver that returns these addresses: for the first lookup, the second, and
    /// all further ones.
    fn where_names_are(self, addresses: &[&[[u8; 4]]]) -> (Self, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let answers: Vec<Vec<IpAddr>> = addresses
            .iter()
            .map(|found| found.iter().map(|address| IpAddr::from(*address)).collect())
            .collect();
        let lookup: Lookup = Arc::new(move |_| {
            let turn = count.fetch_add(1, Ordering::SeqCst);
            let found = answers.get(turn).or(answers.last()).cloned();
            let missing = || std::io::Error::other("failed to lookup address information");
            Box::pin(async move { found.ok_or_else(missing) })
        });
        let network = Network { lookup, ..self.network };
        (Self { network, allows_private: false, ..self }, asked)
    }
}

/// An app with a message queued for a destination at this place.
async fn owing(place: Place) -> TestApp {
    let allows = if place.allows_private { "true" } else { "false" };
    let settings = [
        ("CLICKSTAMP_ANYTRACK_URL", place.url.as_str()),
        ("CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS", allows),
        ("CLICKSTAMP_RETRY_SCHEDULE", "10s,1m"),
    ];
    let mut app = TestApp::owned(&settings).await;
    app.leave_things_undone();
    app.move_to(place.network);
    let click_id = app.visit("https://www.shop.localhost/offer").await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    app
}

/// One attempt, when it is due.
async fn one_try(app: &TestApp) {
    app.advance(Duration::from_secs(80));
    assert_eq!(app.deliver_due().await, 1);
}

async fn result(app: &TestApp) -> Ended {
    let delivery = app.delivery().await;
    let outcomes = app.database.texts("select outcome from attempts order by n").await;
    Ended { state: delivery.state, reason: delivery.reason.unwrap_or_default(), outcomes }
}

/// Checks that the delivery's page shows this text, and never the URL, which is a secret.
async fn page_shows(app: &TestApp, name: &str, words: &str) {
    let id = app.delivery().await.id;
    let page = app.owner().await.page(&format!("/deliveries/{id}")).await;
    let page = page.replace("&#39;", "'");
    assert!(page.contains(words), "{name}: {words}: {page}");
    assert!(!page.contains("/acc/collect"), "{name}: an address is a secret: {page}");
}

#[tokio::test]
async fn statuses_in_a_row_end_as_the_table_says() {
    let (pending, delivered, given_up) = ("pending", "delivered", "given_up");
    let (retry, accepted, refused) = ("retry", "accepted", "refused");
    let rows: [(&[u16], Ended, &str); 16] = [
        (&[200], ended(delivered, "", &[accepted]), "Accepted (200 OK)"),
        (&[204], ended(delivered, "", &[accepted]), "Accepted (204 No Content)"),
        (&[503, 200], ended(delivered, "", &[retry, accepted]), "Temporary error (503"),
        (&[408, 425, 201], ended(delivered, "", &[retry, retry, accepted]), "it answered 425"),
        (&[429], ended(pending, "", &[retry]), "Not accepted yet: it answered 429"),
        (&[500, 502], ended(pending, "", &[retry, retry]), "Not accepted yet: it answered 502"),
        (
            &[500, 599, 504],
            ended(given_up, "exhausted", &[retry, retry, retry]),
            "all attempts in the retry schedule failed. It answered 504.",
        ),
        (&[503, 422], ended(given_up, refused, &[retry, refused]), "it answered 422"),
        (&[400], ended(given_up, refused, &[refused]), "it answered 400"),
        (&[401], ended(given_up, refused, &[refused]), "it answered 401"),
        (&[403], ended(given_up, refused, &[refused]), "it answered 403"),
        (&[404], ended(given_up, refused, &[refused]), "it answered 404"),
        (&[405], ended(given_up, refused, &[refused]), "it answered 405"),
        (&[410], ended(given_up, refused, &[refused]), "it answered 410"),
        (&[413], ended(given_up, refused, &[refused]), "it answered 413"),
        (&[999], ended(given_up, refused, &[refused]), "it answered 999"),
    ];
    for (statuses, expected, words) in rows {
        let hook = FakeDestination::start().await;
        hook.answers(statuses.iter().copied());
        let app = owing(Place::at(hook.url.clone())).await;
        for _ in statuses {
            one_try(&app).await;
        }
        assert_eq!(result(&app).await, expected, "{statuses:?}");
        page_shows(&app, &format!("{statuses:?}"), words).await;
        let bodies = hook.received();
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{statuses:?}: the same bytes");
    }
}

#[tokio::test]
async fn redirects_to_private_addresses_are_shown_and_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let home = Wire::says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        for place in [
            format!("http://127.0.0.1:{}/latest", home.port),
            "http://169.254.169.254/latest".to_owned(),
        ] {
            let hook = FakeDestination::start().await;
            hook.answer(status, "", Some(&place));
            let app = owing(Place::at(hook.url.clone())).await;
            one_try(&app).await;
            let expected = ended("given_up", "refused", &["refused"]);
            assert_eq!(result(&app).await, expected, "{status} {place}");
            // Everything after the host may be a credential.
            let host = place.trim_end_matches("latest");
            let words = format!("it moved to {host}…: enter the new URL");
            page_shows(&app, &format!("{status}"), &words).await;
        }
        assert_eq!(home.knocks(), 0, "{status}: nobody went there");
    }
}

#[tokio::test]
async fn every_network_failure_is_shown_with_the_delivery() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let closed = nobody.local_addr().expect("bound").port();
    drop(nobody);
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhalf";
    let here = |wire: &Wire| Place::at(wire.url("http", "127.0.0.1"));
    let slow = Wire::that(|mut stream| {
        for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow" {
            let _ = stream.write_all(&[*byte]);
            let _ = stream.flush();
        }
    });
    let huge = |head: &'static str| {
        Wire::that(move |mut stream| {
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&vec![b'x'; 10 * 1024 * 1024]);
        })
    };
    let endless_head = Wire::that(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        let line = format!("x: {}\r\n", "x".repeat(1000));
        while stream.write_all(line.as_bytes()).is_ok() {}
    });
    let (retry, accepted, refused) = (
        || ended("pending", "", &["retry"]),
        || ended("delivered", "", &["accepted"]),
        || ended("given_up", "refused", &["refused"]),
    );
    let rows: Vec<(&str, Place, Ended, &str)> = vec![
        ("slow", here(&slow), accepted(), "Accepted (200 OK)"),
        (
            "hangs",
            here(&Wire::hangs_after("")).in_a_hurry(),
            retry(),
            "it did not respond within 20 seconds",
        ),
        (
            "hangs in its head",
            here(&Wire::hangs_after("HTTP/1.1 200 OK\r\ncontent-le")).in_a_hurry(),
            retry(),
            "it did not respond within 20 seconds",
        ),
        (
            "hangs in its body",
            here(&Wire::hangs_after(HEAD)).in_a_hurry(),
            accepted(),
            "Accepted (200 OK)",
        ),
        (
            "closes at once",
            here(&Wire::that(drop)),
            retry(),
            "it closed the connection without a response",
        ),
        (
            "closes in its head",
            here(&Wire::says("HTTP/1.1 200 OK\r\ncontent-le")),
            retry(),
            "it closed the connection without a response",
        ),
        ("closes in its body", here(&Wire::says(HEAD)), accepted(), ">half</pre>"),
        (
            "speaks something else",
            here(&Wire::says("SSH-2.0-nothing\r\n\r\n")),
            retry(),
            "its response could not be read",
        ),
        ("endless head", here(&endless_head), retry(), "its response could not be read"),
        (
            "huge body",
            here(&huge("HTTP/1.1 200 OK\r\ncontent-length: 10485760\r\n\r\n")),
            accepted(),
            "xxxx</pre>",
        ),
        (
            "huge body of a refusal",
            here(&huge("HTTP/1.1 413 No\r\ncontent-length: 10485760\r\n\r\n")),
            refused(),
            "it answered 413",
        ),
        (
            "huge body without a length",
            here(&huge("HTTP/1.1 200 OK\r\n\r\n")),
            accepted(),
            "xxxx</pre>",
        ),
        (
            "nobody there",
            Place::at(format!("http://127.0.0.1:{closed}/acc/collect/slug-k7Qe")),
            retry(),
            "it could not be reached: the connection was refused",
        ),
        (
            "a certificate of its own making",
            Place::at(Wire::of_its_own_making().url("https", "127.0.0.1")),
            retry(),
            "its certificate is not valid: it was not issued by a trusted authority",
        ),
        (
            "no TLS where TLS is expected",
            Place::at(Wire::says("HTTP/1.1 400 No\r\n\r\n").url("https", "127.0.0.1")),
            retry(),
            "it does not speak TLS there: is the URL's port right, and is it https?",
        ),
    ];
    for (name, place, expected, words) in rows {
        let app = owing(place).await;
        one_try(&app).await;
        assert_eq!(result(&app).await, expected, "{name}");
        page_shows(&app, name, words).await;
        let kept = "select coalesce(max(length(answer)), 0) from attempts";
        assert!(app.database.number(kept).await <= 4096, "{name}");
    }
}

#[tokio::test]
async fn names_that_resolve_to_private_addresses_are_refused() {
    let blocked = "127.0.0.1 is a private or local address.";
    let not_there = "it could not be reached";
    /// Addresses at each look-up, what comes of so many tries, and the words.
    struct Row {
        name: &'static str,
        addresses: &'static [&'static [[u8; 4]]],
        expected: Ended,
        words: &'static str,
    }
    let rows = [
        Row {
            name: "a name of this machine",
            addresses: &[&[HOME]],
            expected: ended("given_up", "blocked_address", &["blocked"]),
            words: blocked,
        },
        Row {
            name: "a name of the cloud's own server",
            addresses: &[&[[169, 254, 169, 254]]],
            expected: ended("given_up", "blocked_address", &["blocked"]),
            words: "169.254.169.254 is a private or local address.",
        },
        Row {
            name: "a private address beside a public one",
            addresses: &[&[HOME, [10, 0, 0, 1], NOBODY]],
            expected: ended("pending", "", &["retry"]),
            words: not_there,
        },
        // DNS rebinding: public when it is checked, private an instant later.
        Row {
            name: "a name that turns",
            addresses: &[&[NOBODY], &[HOME]],
            expected: ended("given_up", "blocked_address", &["retry", "blocked"]),
            words: blocked,
        },
        Row {
            name: "a name that turns and turns back",
            addresses: &[&[NOBODY], &[NOBODY, HOME], &[HOME, NOBODY]],
            expected: ended("given_up", "exhausted", &["retry", "retry", "retry"]),
            words: not_there,
        },
        Row {
            name: "no such name",
            addresses: &[],
            expected: ended("pending", "", &["retry"]),
            words: "its name was not found: is the URL spelled right?",
        },
    ];
    for Row { name, addresses, expected, words } in rows {
        let home = Wire::of_its_own_making();
        let place = Place::at(home.url("https", "rebind.example")).in_a_hurry();
        let (place, asked) = place.where_names_are(addresses);
        let app = owing(place).await;
        for n in 1..=expected.outcomes.len() {
            one_try(&app).await;
            let looked = asked.load(Ordering::SeqCst);
            assert_eq!(looked, n, "{name}: what was checked is what is connected to");
        }
        assert_eq!(result(&app).await, expected, "{name}");
        page_shows(&app, name, words).await;
        assert_eq!(home.knocks(), 0, "{name}: nobody knocked at home");
    }
}

/// The address of a destination is a credential: neither a redirect nor an echo brings it to a
/// page, the API or the database.
#[tokio::test]
async fn a_redirect_or_an_echo_shows_no_part_of_the_address() {
    let hook = FakeDestination::start().await;
    let app = owing(Place::at(format!("{}/s3cr3t-tail", hook.url))).await;
    hook.answer(
        301,
        "see /acc/collect/slug-k7Qe/s3cr3t-tail or %2Fs3cr3t-tail",
        Some("/acc/collect/slug-k7Qe/s3cr3t-tail/"),
    );
    one_try(&app).await;
    let stored = app
        .database
        .texts("select coalesce(answer, '') || coalesce(error, '') from attempts")
        .await;
    let kept = app.database.texts("select coalesce(last_error, '') from deliveries").await;
    let id = app.database.texts("select id from deliveries").await.remove(0);
    let conversion = app.database.texts("select conversion_id from deliveries").await.remove(0);
    let owner = app.owner().await;
    let mut texts = [stored, kept].concat();
    for path in [format!("/deliveries/{id}"), format!("/conversions/{conversion}")] {
        texts.push(owner.page(&path).await);
    }
    texts.push(app.api("/api/v1/deliveries").await.to_string());
    assert!(
        texts[0].contains("see ***") && texts[1].contains("it moved to another path"),
        "{texts:?}"
    );
    for text in &texts {
        assert!(!text.contains("s3cr3t-tail"), "{text}");
    }
}
