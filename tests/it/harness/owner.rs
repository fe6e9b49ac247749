//! The owner before the dashboard: signed in once, then pages and forms.

use axum::http::StatusCode;

use super::TestApp;
use super::http::Reply;

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "watercolor-2026";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Somebody who is signed in.
pub(crate) struct Owner<'a> {
    app: &'a TestApp,
    cookie: String,
}

impl TestApp {
    /// With an owner who may sign in.
    pub(crate) async fn owned(further: &[(&str, &str)]) -> Self {
        let mut settings =
            vec![("CLICKSTAMP_ADMIN_EMAIL", EMAIL), ("CLICKSTAMP_ADMIN_PASSWORD", PASSWORD)];
        settings.extend_from_slice(further);
        Self::start_with(&settings).await
    }

    /// The owner of an app that was started with one.
    pub(crate) async fn owner(&self) -> Owner<'_> {
        let pairs = form(&[("email", EMAIL), ("password", PASSWORD)]);
        let reply = self.send("POST", "/login", &[FORM], pairs).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text());
        let cookie = reply.header("set-cookie").split(';').next().expect("a cookie").to_owned();
        Owner { app: self, cookie }
    }
}

impl Owner<'_> {
    /// A page, whatever its status.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.app.send("GET", path, &[("cookie", &self.cookie)], "").await
    }

    /// A page that must be there.
    pub(crate) async fn page(&self, path: &str) -> String {
        let reply = self.get(path).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
        reply.text().to_owned()
    }

    /// A page that must be there, asked for with further headers.
    pub(crate) async fn page_with(&self, path: &str, headers: &[(&str, &str)]) -> String {
        let headers: Vec<_> =
            [("cookie", self.cookie.as_str())].into_iter().chain(headers.iter().copied()).collect();
        let reply = self.app.send("GET", path, &headers, "").await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
        reply.text().to_owned()
    }

    /// A form, whatever becomes of it.
    pub(crate) async fn post(&self, path: &str, pairs: &[(&str, &str)]) -> Reply {
        self.app.send("POST", path, &[FORM, ("cookie", &self.cookie)], form(pairs)).await
    }

    /// A form that must be taken; answers where it leads.
    pub(crate) async fn save(&self, path: &str, pairs: &[(&str, &str)]) -> String {
        let reply = self.post(path, pairs).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{path}: {}", reply.text());
        reply.header("location").to_owned()
    }
}

fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
