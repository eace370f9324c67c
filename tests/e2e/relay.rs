//! A connection that a test can cut: a process behind a relay lives on, and one of its peers is gone.

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Passes bytes on until it is dropped; then every connection breaks and new ones are refused.
pub struct Relay {
    address: String,
    _open: DropGuard,
}

impl Relay {
    /// A relay to `target`.
    pub async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cut = CancellationToken::new();
        let guard = cut.clone().drop_guard();
        tokio::spawn(cut.clone().run_until_cancelled_owned(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let Ok(mut far) = TcpStream::connect(&target).await else { continue };
                let cut = cut.clone();
                tokio::spawn(cut.run_until_cancelled_owned(async move {
                    // An end that breaks ends the relayed connection; there is nothing else to do.
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                }));
            }
        }));
        Self { address, _open: guard }
    }

    /// `host:port` to connect to.
    pub fn address(&self) -> &str {
        &self.address
    }
}
