//! A fake destination below HTTP: a port that sends any bytes, or nothing.
//! Takes a function that handles a connection; returns a port and the number of connections.
//! Each runs on its own thread and ends with the test's process.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::MAIL_CERTIFICATE;

/// A port that does the same with every connection.
pub(crate) struct Wire {
    pub(crate) port: u16,
    knocks: Arc<AtomicUsize>,
}

impl Wire {
    /// Reads the head of a request, then calls the function.
    pub(crate) fn that(behave: impl Fn(TcpStream) + Send + 'static) -> Self {
        Self::with_connections(move |mut stream| {
            if stream.read(&mut [0; 4096]).is_ok() {
                behave(stream);
            }
        })
    }

    /// Sends these bytes and closes the connection.
    pub(crate) fn says(text: &'static str) -> Self {
        Self::that(move |mut stream| tell(&mut stream, text.as_bytes()))
    }

    /// Sends these bytes and then nothing, until the client disconnects.
    pub(crate) fn hangs_after(text: &'static str) -> Self {
        Self::that(move |mut stream| {
            tell(&mut stream, text.as_bytes());
            while stream.read(&mut [0]).is_ok_and(|read| read > 0) {}
        })
    }

    /// Speaks TLS with a self-signed certificate.
    pub(crate) fn of_its_own_making() -> Self {
        // An error means that the program was faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificate = CertificateDer::from_pem_file(MAIL_CERTIFICATE).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(MAIL_CERTIFICATE).expect("its key");
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate], key).expect("they fit");
        let config = Arc::new(config);
        Self::with_connections(move |mut stream| {
            let mut session = rustls::ServerConnection::new(config.clone()).expect("a session");
            while session.complete_io(&mut stream).is_ok_and(|(read, _)| read > 0) {}
        })
    }

    fn with_connections(behave: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let knocks = Arc::new(AtomicUsize::new(0));
        let count = knocks.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                behave(stream);
            }
        });
        Self { port, knocks }
    }

    /// The number of connections so far.
    pub(crate) fn knocks(&self) -> usize {
        self.knocks.load(Ordering::SeqCst)
    }

    /// Its URL as a destination.
    pub(crate) fn url(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}/acc/collect/slug-k7Qe", self.port)
    }
}

/// Writes bytes; the client may have disconnected.
pub(crate) fn tell(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}
