//! Sends an email through the operator's mail server.
//! Takes a server and a message; returns the outcome and the server's response.
//! Guarantees a time limit, that a password is never sent without TLS (except in plain mode), and
//! that private addresses are refused as for destinations. The address that was checked is the one
//! that is connected to.

use std::error::Error as _;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use lettre::message::{Mailbox, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use serde::{Deserialize, Serialize};

use super::send::ATTEMPT_TIMEOUT;
use super::tls::{Authorities, distrust, tls_error, tls_words};
use super::{Sender, guard};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::domain::{AttemptOutcome, words};

words! {
    /// How the connection to a mail server is encrypted.
    pub(crate) enum Security {
        /// The connection starts unencrypted and switches to TLS before anything else is sent;
        /// port 587.
        Starttls = "starttls",
        /// TLS from the first byte; port 465.
        Tls = "tls",
        /// Unencrypted. Only inside the operator's own network.
        Plain = "plain",
    }
}

/// The operator's mail server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MailServer {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: Security,
    /// Empty if the server needs no login.
    pub(crate) user: String,
    #[serde(with = "exposed")]
    pub(crate) password: Secret,
    /// The sender's address.
    pub(crate) from: String,
}

/// Secrets can't be serialized by accident; this one is stored on purpose.
mod exposed {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::config::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        Ok(Secret::new(String::deserialize(from)?))
    }
}

impl MailServer {
    /// Returns what is wrong with it: fields, each with a sentence for users.
    pub(crate) fn faults(&self, allow_private: bool) -> Vec<(&'static str, &'static str)> {
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        let is_host = !self.host.is_empty() && self.host.chars().all(is_host);
        let is_sender = self.from.parse::<Mailbox>().is_ok();
        let is_login = self.user.is_empty() == self.password.expose().is_empty();
        let is_safe = self.security != Security::Plain || allow_private;
        let rules = [
            ("host", is_host, "Enter the name of the mail server, such as smtp.example.com."),
            ("port", self.port != 0, "Enter the port, usually 587 or 465."),
            (
                "from",
                is_sender,
                "Enter one email address as the sender, such as alerts@example.com.",
            ),
            ("password", is_login, "Enter both user and password, or neither."),
            (
                "security",
                is_safe,
                "Without TLS, others could read the password and every alert. Set CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS=true \
                 to use a mail server inside your own network.",
            ),
        ];
        let broken = rules.into_iter().filter(|(_, is_right, _)| !is_right);
        broken.map(|(field, _, said)| (field, said)).collect()
    }
}

/// An email to send.
pub(crate) struct Letter<'a> {
    /// The same for every attempt, so that receivers can recognize a repeat.
    pub(crate) id: &'a str,
    pub(crate) at: Timestamp,
    /// Comma-separated addresses.
    pub(crate) to: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) text: &'a str,
}

/// Checks recipients: comma-separated addresses, at most ten.
///
/// # Errors
/// Returns a sentence for users.
pub(crate) fn check_recipients(to: &str) -> Result<(), String> {
    let boxes: Vec<&str> = to.split(',').map(str::trim).collect();
    let wrong = boxes.iter().any(|one| one.parse::<Mailbox>().is_err() || one.contains(['<', '"']));
    if wrong || boxes.len() > 10 {
        return Err("Enter one email address, or up to ten separated by commas.".to_owned());
    }
    Ok(())
}

impl Sender {
    /// Sends an email. Returns the server's response, or what went wrong.
    pub(crate) async fn mail(
        &self,
        server: &MailServer,
        letter: &Letter<'_>,
    ) -> (AttemptOutcome, String) {
        if let Some((_, fault)) = server.faults(self.allow_private).first() {
            return (AttemptOutcome::Blocked, (*fault).to_owned());
        }
        let sent = tokio::time::timeout(ATTEMPT_TIMEOUT, self.try_mail(server, letter)).await;
        sent.unwrap_or_else(|_| {
            (AttemptOutcome::Retry, "the mail server did not respond within 20 seconds".to_owned())
        })
    }

    async fn try_mail(&self, server: &MailServer, letter: &Letter<'_>) -> (AttemptOutcome, String) {
        let address =
            match guard::find_address(&server.host, self.allow_private, &self.lookup).await {
                Ok(address) => address,
                Err((true, why)) => return (AttemptOutcome::Retry, why),
                Err((false, why)) => return (AttemptOutcome::Blocked, why),
            };
        let Some(message) = write(server, letter) else {
            return (
                AttemptOutcome::Refused,
                "the sender or a recipient is not an email address".to_owned(),
            );
        };
        let mut parameters = TlsParameters::builder(server.host.clone());
        if let Some(Authorities(certificates)) = &self.mail_authorities {
            parameters = parameters.add_root_certificate(certificates.clone());
        }
        let tls = match (server.security, parameters.build()) {
            (Security::Plain, _) => Tls::None,
            (Security::Starttls, Ok(parameters)) => Tls::Required(parameters),
            (Security::Tls, Ok(parameters)) => Tls::Wrapper(parameters),
            (_, Err(_)) => {
                return (AttemptOutcome::Refused, "its name can't be in a certificate".to_owned());
            }
        };
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.to_string())
                .port(server.port)
                .tls(tls)
                .hello_name(ClientId::Domain(domain(&server.from).to_owned()))
                .timeout(Some(ATTEMPT_TIMEOUT));
        if !server.user.is_empty() {
            let password = server.password.expose().to_owned();
            transport = transport.credentials(Credentials::new(server.user.clone(), password));
        }
        match transport.build().send(message).await {
            Ok(response) => {
                let said = response.message().collect::<Vec<_>>().join(" ");
                (AttemptOutcome::Accepted, format!("{} {said}", response.code()).trim().to_owned())
            }
            Err(error) => explain(&error),
        }
    }
}

fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("localhost", |(_, domain)| domain.trim_end_matches('>'))
}

fn write(server: &MailServer, letter: &Letter<'_>) -> Option<Message> {
    let since = Duration::from_millis(u64::try_from(letter.at.as_ms()).ok()?);
    let mut message = Message::builder()
        .from(server.from.parse().ok()?)
        .subject(letter.subject)
        .message_id(Some(format!("<{}@{}>", letter.id, domain(&server.from))))
        .date(UNIX_EPOCH + since)
        .header(header::ContentType::TEXT_PLAIN);
    for to in letter.to.split(',') {
        message = message.to(to.trim().parse().ok()?);
    }
    message.body(letter.text.to_owned()).ok()
}

/// The TLS error, wrapped in other errors.
fn tls_fault(error: &lettre::transport::smtp::Error) -> Option<&rustls::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(fault) = tls_error(error) {
            return Some(fault);
        }
        cause = error.source();
    }
    None
}

/// Explains to users what went wrong. The text may repeat the server's words, but never what we
/// sent.
fn explain(error: &lettre::transport::smtp::Error) -> (AttemptOutcome, String) {
    let said = error.to_string();
    if let Some(code) = error.status() {
        let words = format!("the mail server answered {code}: {said}");
        // 535 and similar: the credential is wrong, and retrying may lock the account.
        return if error.is_permanent() {
            (AttemptOutcome::Refused, words)
        } else {
            (AttemptOutcome::Retry, words)
        };
    }
    let words = if let Some(fault) = tls_fault(error) {
        if let rustls::Error::InvalidCertificate(why) = fault {
            let whose = "To trust your own certificate, set CLICKSTAMP_SMTP_CA to its file.";
            format!(
                "no encrypted connection: its certificate is not valid: {}. {whose}",
                distrust(why)
            )
        } else {
            format!("no encrypted connection: {}", tls_words(fault))
        }
    } else if error.is_timeout() {
        "the mail server did not respond within 20 seconds".to_owned()
    } else if error.is_tls() {
        format!("no encrypted connection: {said}")
    } else if error.is_client() {
        format!("the mail server does not support it: {said}")
    } else {
        format!("the mail server could not be reached: {said}")
    };
    (if error.is_client() { AttemptOutcome::Refused } else { AttemptOutcome::Retry }, words)
}
