//! The dashboard on an origin of its own: what answers where.

use axum::http::StatusCode;

use crate::harness::{Database, FakeDestination, Server, TestApp};

const PUBLIC: (&str, &str) = ("CLICKSTAMP_PUBLIC_URL", "http://www.shop.localhost/k");
const OWN: (&str, &str) = ("CLICKSTAMP_DASHBOARD_URL", "http://admin.shop.localhost");

#[tokio::test]
async fn pages_and_api_answer_only_at_their_own_address() {
    let app = TestApp::owned(&[PUBLIC, OWN]).await;
    let pages = ["/", "/login", "/settings", "/setup", "/static/look.css", "/nothing"];
    let api = ["/api/v1/openapi.json", "/api/v1/conversions", "/api/", "/metrics", "//", "/t"];
    for path in pages.into_iter().chain(api) {
        for host in
            ["www.shop.localhost", "go.shop.localhost", "admin.shop.localhost:81", "", "a b"]
        {
            for accept in ["text/html", "*/*"] {
                let reply = app.send("GET", path, &[("host", host), ("accept", accept)], "").await;
                assert_eq!(reply.status, StatusCode::NOT_FOUND, "{host} {path}");
                assert_eq!(
                    reply.text().trim(),
                    "there is nothing at this address",
                    "{host} {path}"
                );
                assert_eq!(reply.header("set-cookie"), "");
            }
        }
    }
    let form =
        [("host", "www.shop.localhost"), ("content-type", "application/x-www-form-urlencoded")];
    let reply = app.send("POST", "/login", &form, "email=ada%40example.com").await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    for host in ["admin.shop.localhost", "ADMIN.shop.localhost:80"] {
        let reply = app.send("GET", "/login", &[("host", host)], "").await;
        assert_eq!(reply.status, StatusCode::OK, "{host}");
        assert!(!reply.text().contains("/k/"), "links have no path of the public URL");
    }
}

#[tokio::test]
async fn what_is_public_answers_everywhere() {
    let app = TestApp::owned(&[PUBLIC, OWN]).await;
    for host in ["www.shop.localhost", "admin.shop.localhost"] {
        for (path, expected) in [
            ("/t/main.js", StatusCode::OK),
            ("/v", StatusCode::METHOD_NOT_ALLOWED),
            ("/healthz", StatusCode::OK),
            ("/readyz", StatusCode::OK),
            ("/webhooks/stripe/main", StatusCode::METHOD_NOT_ALLOWED),
        ] {
            let reply = app.send("GET", path, &[("host", host)], "").await;
            assert_eq!(reply.status, expected, "{host} {path}");
        }
        let reply = app.send("GET", "/p/none", &[("host", host)], "").await;
        assert!(reply.text().contains("This link doesn’t exist"), "{host}");
    }
}

#[tokio::test]
async fn a_forwarded_host_counts_only_from_a_trusted_proxy() {
    let login = |settings: Vec<(&'static str, &'static str)>, host: &'static str| async move {
        let app = TestApp::owned(&settings).await;
        let headers = [("host", host), ("x-forwarded-host", "admin.shop.localhost")];
        app.send("GET", "/login", &headers, "").await.status
    };
    assert_eq!(login(vec![PUBLIC, OWN], "www.shop.localhost").await, StatusCode::NOT_FOUND);
    let trusted = ("CLICKSTAMP_TRUSTED_PROXIES", "127.0.0.0/8");
    assert_eq!(login(vec![PUBLIC, OWN, trusted], "www.shop.localhost").await, StatusCode::OK);
}

#[tokio::test]
async fn setup_warns_until_the_dashboard_has_its_own_address() {
    for (settings, warns) in [(vec![PUBLIC], true), (vec![PUBLIC, OWN], false), (vec![], false)] {
        let app = TestApp::owned(&settings).await;
        let host = ("host", "admin.shop.localhost");
        let form = "email=ada%40example.com&password=watercolor-2026";
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let reply = app.send("POST", "/login", &[host, kind], form).await;
        let cookie = reply.header("set-cookie").split(';').next().expect("a cookie").to_owned();
        let reply = app.send("GET", "/setup", &[host, ("cookie", &cookie)], "").await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert_eq!(
            reply.text().contains("Every script of your landing page"),
            warns,
            "{settings:?}"
        );
        let tag = if settings.is_empty() { "/t/main.js" } else { "www.shop.localhost/k/t/main.js" };
        assert!(reply.text().contains(tag), "the tag has the public address: {settings:?}");
    }
}

#[tokio::test]
async fn over_https_the_cookie_belongs_to_one_host_and_browsers_stay_with_https() {
    let own = ("CLICKSTAMP_DASHBOARD_URL", "https://admin.shop.localhost");
    let app = TestApp::owned(&[PUBLIC, own]).await;
    let form = "email=ada%40example.com&password=watercolor-2026";
    let headers =
        [("host", "admin.shop.localhost"), ("content-type", "application/x-www-form-urlencoded")];
    let reply = app.send("POST", "/login", &headers, form).await;
    let cookie = reply.header("set-cookie");
    assert!(cookie.starts_with("__Host-clickstamp_session="), "{cookie}");
    for part in ["; Path=/;", "Secure", "HttpOnly", "SameSite=Lax"] {
        assert!(cookie.contains(part) && !cookie.contains("Domain"), "{cookie}");
    }
    assert_eq!(reply.header("strict-transport-security"), "max-age=31536000");
    let below = TestApp::owned(&[("CLICKSTAMP_PUBLIC_URL", "https://www.shop.localhost/k")]).await;
    let reply = below.send("POST", "/login", &headers, form).await;
    assert!(reply.header("set-cookie").starts_with("clickstamp_session="));
    assert_eq!(reply.header("strict-transport-security"), "", "the host is the landing page's");
}

#[tokio::test]
async fn the_path_of_the_public_url_never_leads_to_the_dashboard_whatever_the_proxy_calls_it() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let server = Server::start_with(&database, &anytrack, &[PUBLIC, OWN]).await;
    let ask = async |path: &str, hosts: &[&str]| {
        let request = hosts.iter().fold(format!("GET {path} HTTP/1.1\r\n"), |head, host| {
            format!("{head}Host: {host}\r\n")
        });
        raw(&server.url, &format!("{request}Connection: close\r\n\r\n")).await
    };
    let admin = "admin.shop.localhost";
    assert!(ask("/login", &[admin]).await.starts_with("HTTP/1.1 200"));
    for path in ["/k/login", "/k/api/v1/conversions", "/k//login", "/k"] {
        let answer = ask(path, &[admin]).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    assert!(ask("/k/t/main.js", &["www.shop.localhost"]).await.starts_with("HTTP/1.1 200"));
    for hosts in [[admin, "www.shop.localhost"], [admin, admin]] {
        let answer = ask("/login", &hosts).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{hosts:?}: {answer}");
    }
}

/// Sends these bytes and reads until the server closes.
async fn raw(url: &str, head: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}
