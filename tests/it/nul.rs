//! NUL characters, which PostgreSQL has no text for: refused at the edge, on every route, and never a 500.

use std::path::Path;

use crate::harness::TestApp;

/// Path and methods of every route, as the documentation lists them (which another test compares with the code).
fn routes() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let text = std::fs::read_to_string(path).expect("the documentation");
    let (_, listed) = text.split_once("<!-- routes -->").expect("the routes");
    let (listed, _) = listed.split_once("<!-- /routes -->").expect("their end");
    let row = |line: &str| {
        let (path, rest) = line.strip_prefix("| `/")?.split_once("` | ")?;
        Some((format!("/{path}"), rest.split(" |").next()?.to_owned()))
    };
    listed.lines().filter_map(row).collect()
}

/// The path with every parameter replaced.
fn filled(path: &str, with: &str) -> String {
    let part = |part: &str| match part.split_once('{') {
        Some((before, rest)) => {
            let (_, after) = rest.split_once('}').expect("a parameter ends");
            format!("{before}{with}{after}")
        }
        None => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn no_route_answers_500_for_a_nul() {
    let app = TestApp::owned(&[("CLICKSTAMP_METRICS", "true")]).await;
    let owner = app.owner().await;
    let routes = routes();
    assert!(routes.len() > 50, "{}", routes.len());
    const NAMES: &str = "period=%00&from=%00&q=%00&site=%00&after=%00&state=%00&reason=%00&email=%00&name=a%00b&%00=1";
    for (path, methods) in &routes {
        for with in ["%00", "a%00", "main"] {
            let path = filled(path, with);
            let has_nul = path.contains("%00");
            for query in ["", NAMES] {
                let asked = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
                let reply = owner.get(&asked).await;
                assert!(reply.status.as_u16() < 500, "GET {asked}: {}", reply.status);
                if has_nul && path.starts_with('/') && methods.contains("GET") {
                    let refused = matches!(reply.status.as_u16(), 400 | 401 | 404);
                    assert!(refused, "GET {asked}: {}", reply.status);
                }
            }
            if methods.contains("POST") {
                let pairs =
                    [("name", "a\0b"), ("click_id", "\0"), ("email", "\0"), ("value", "\0")];
                let reply = owner.post(&path, &pairs).await;
                assert!(reply.status.as_u16() < 500, "POST {path}: {}", reply.status);
            }
        }
    }
    for cookie in ["clickstamp_session=%00", "clickstamp_session=a%00b; other=%00", "_ck=%00"] {
        for (path, _) in &routes {
            let path = filled(path, "main");
            let reply = app.send("GET", &path, &[("cookie", cookie)], "").await;
            assert!(reply.status.as_u16() < 500, "GET {path} with {cookie}: {}", reply.status);
        }
    }
}
