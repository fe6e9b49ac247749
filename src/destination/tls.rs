//! TLS of requests and of mail: additional authorities, and errors in words.
//! Takes certificates, or an error of a connection; returns authorities to trust, or a sentence for users.
//! Guarantees that every error has a sentence without a name of the program's types.

use std::io;

use anyhow::{Context as _, Result};
use lettre::transport::smtp::client::Certificate;

/// Additional certificate authorities to trust for mail servers.
#[derive(Clone)]
pub(super) struct Authorities(pub(super) Certificate);

impl Authorities {
    /// Reads certificates in PEM form.
    pub(super) fn read(pem: &str) -> Result<Self> {
        let read = Certificate::from_pem(pem.as_bytes());
        Ok(Self(read.context("CLICKSTAMP_SMTP_CA: a certificate in it can't be read")?))
    }
}

/// The TLS error, which is wrapped in one or more I/O errors.
pub(super) fn tls_error<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<io::Error>() {
        Some(io) => tls_error(io.get_ref()?),
        None => error.downcast_ref(),
    }
}

/// Explains to users why a certificate is not trusted.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are rare")]
pub(super) fn distrust(why: &rustls::CertificateError) -> &'static str {
    use rustls::CertificateError as Why;

    match why {
        Why::UnknownIssuer => "it was not issued by a trusted authority",
        Why::Expired | Why::ExpiredContext { .. } => "it has expired",
        Why::NotValidYet | Why::NotValidYetContext { .. } => {
            "it is not valid yet, unless the clock here is wrong"
        }
        Why::NotValidForName | Why::NotValidForNameContext { .. } => "it is for another name",
        Why::Revoked => "it was revoked by the authority that issued it",
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => "it was not issued for a server",
        Why::BadEncoding => "it is damaged",
        Why::BadSignature => "its signature is wrong",
        Why::UnsupportedSignatureAlgorithmContext { .. }
        | Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed in a way that is too old to be safe"
        }
        Why::UnknownRevocationStatus
        | Why::ExpiredRevocationList
        | Why::ExpiredRevocationListContext { .. }
        | Why::InvalidOcspResponse => "it could not be checked whether it was revoked",
        Why::UnhandledCriticalExtension => "it has a condition that is not supported",
        // The library has no variant for the most common one of these.
        Why::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "it is the certificate of an authority, not of a server"
        }
        _ => "it was not accepted; its administrator can check it",
    }
}

/// Explains to users why no encrypted connection could be opened.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others mean that the bytes were not TLS")]
pub(super) fn tls_words(fault: &rustls::Error) -> String {
    use rustls::Error as Fault;

    match fault {
        Fault::InvalidCertificate(why) => {
            format!("its certificate is not valid: {}", distrust(why))
        }
        Fault::NoCertificatesPresented => "it sent no certificate".to_owned(),
        Fault::AlertReceived(rustls::AlertDescription::UnrecognisedName) => {
            "it has no certificate for this name".to_owned()
        }
        Fault::AlertReceived(rustls::AlertDescription::CertificateRequired) => {
            "it requires a client certificate, which is not supported".to_owned()
        }
        Fault::AlertReceived(_) => "it refused the encrypted connection".to_owned(),
        Fault::PeerIncompatible(_) | Fault::NoApplicationProtocol => {
            "it supports no secure encryption such as TLS 1.2 or 1.3".to_owned()
        }
        Fault::PeerMisbehaved(_) | Fault::DecryptError | Fault::PeerSentOversizedRecord => {
            "the encrypted connection failed, because the server violates the TLS protocol"
                .to_owned()
        }
        _ => "it does not speak TLS there: is the URL's port right, and is it https?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn certificate_errors_are_explained_in_sentences() {
        use rustls::{AlertDescription, CertificateError as Why, Error, OtherError};

        #[derive(Debug)]
        struct CaUsedAsEndEntity;
        impl std::fmt::Display for CaUsedAsEndEntity {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("CaUsedAsEndEntity")
            }
        }
        impl std::error::Error for CaUsedAsEndEntity {}

        let other = Why::Other(OtherError(Arc::new(CaUsedAsEndEntity)));
        let faults = [
            Error::InvalidCertificate(other),
            Error::InvalidCertificate(Why::UnhandledCriticalExtension),
            Error::InvalidCertificate(Why::ApplicationVerificationFailure),
            Error::AlertReceived(AlertDescription::HandshakeFailure),
            Error::AlertReceived(AlertDescription::UnrecognisedName),
            Error::NoApplicationProtocol,
            Error::DecryptError,
            Error::General("Debug { text }".to_owned()),
        ];
        let mut sentences: Vec<_> = faults.iter().map(tls_words).collect();
        assert!(sentences[0].ends_with("it is the certificate of an authority, not of a server"));
        for sentence in &sentences {
            assert!(!sentence.contains(['(', '{', '_']), "{sentence}");
        }
        sentences.dedup();
        assert_eq!(sentences.len(), faults.len(), "each has its own");
    }
}
