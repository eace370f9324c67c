//! A connection that a test can cut or hold: a process behind a relay lives on while one of its peers is gone.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Passes bytes on until it is dropped; then every connection breaks and new ones are refused.
pub struct Relay {
    address: String,
    held: watch::Sender<bool>,
    _open: DropGuard,
}

impl Relay {
    /// A relay to `target`.
    pub async fn to(target: String) -> Self {
        Self::at("127.0.0.1:0", target).await
    }

    /// A relay to `target` that listens at `address`.
    pub async fn at(address: &str, target: String) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (held, is_held) = watch::channel(false);
        let cut = CancellationToken::new();
        let guard = cut.clone().drop_guard();
        tokio::spawn(cut.clone().run_until_cancelled_owned(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&target).await else { continue };
                let (from_near, to_near) = split(near);
                let (from_far, to_far) = split(far);
                tokio::spawn(cut.clone().run_until_cancelled_owned(pass_on(from_near, to_far, is_held.clone())));
                tokio::spawn(cut.clone().run_until_cancelled_owned(pass_on(from_far, to_near, is_held.clone())));
            }
        }));
        Self { address, held, _open: guard }
    }

    /// `host:port` to connect to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Keeps every byte from now on, and every connection open.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }
}

/// Ends, and closes its direction, when either end does.
async fn pass_on(mut from: ReadHalf<TcpStream>, mut to: WriteHalf<TcpStream>, mut hold: watch::Receiver<bool>) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut bytes).await {
        if hold.wait_for(|held| !held).await.is_err() || count == 0 || to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
