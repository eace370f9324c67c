//! A connection that can stop writing in the middle of the headers.
//!
//! An HTTP server writes its headers in one; only below it can they be held back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The status line and the start of a header.
const SHOWN_BYTES: usize = 20;

/// Whether writing is held back; clones are the same hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hold(Arc<AtomicBool>);

impl Hold {
    /// From now on only a few more bytes are written.
    pub(crate) fn engage(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_engaged(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection with its hold.
#[derive(Debug)]
pub(crate) struct HeldStream {
    stream: TcpStream,
    hold: Hold,
    shown_bytes: usize,
}

impl HeldStream {
    pub(crate) fn new(stream: TcpStream, hold: Hold) -> Self {
        Self { stream, hold, shown_bytes: 0 }
    }
}

impl AsyncRead for HeldStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for HeldStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.hold.is_engaged() {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        let left = bytes.len().min(SHOWN_BYTES.saturating_sub(self.shown_bytes));
        if left == 0 {
            // Only the client can end this, and that is noticed by reading.
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write(context, &bytes[..left]);
        if let Poll::Ready(Ok(count)) = written {
            self.shown_bytes += count;
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.hold.is_engaged() {
            let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
            return self.poll_write(context, first);
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
