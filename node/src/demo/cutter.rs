//! The lines between children and parents: TCP forwarders that can be cut and mended.
//!
//! Each link has one forwarder per node of the parent, and the child knows no other way up. Cutting a link closes what is
//! open and refuses what comes, as a dead line would. Promises: what was open when [`Line::cut`] was called
//! is closed, and nothing that comes before [`Line::mend`] is passed on. Leaves to others: what the bytes are; they are TLS, and nothing here can read them.
//! Limit: a line is whole or cut, never slow.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::runtime::spawn;

/// One link's way up: whole, or cut.
#[derive(Clone)]
pub struct Line {
    is_whole: Arc<watch::Sender<bool>>,
}

impl Default for Line {
    fn default() -> Self {
        Line { is_whole: Arc::new(watch::Sender::new(true)) }
    }
}

impl Line {
    /// Cuts it.
    pub fn cut(&self) {
        self.is_whole.send_replace(false);
    }

    /// Makes it whole again.
    pub fn mend(&self) {
        self.is_whole.send_replace(true);
    }

    /// Forwards what comes in at the returned address to `to`, as long as the line exists.
    pub async fn forward(&self, to: SocketAddr) -> Result<SocketAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let mut state = self.is_whole.subscribe();
        spawn("forwarder", async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    // The line is gone, and so is the demonstration.
                    () = gone(&mut state) => return,
                };
                // A connection that is dropped here is closed at once.
                let Ok((from, _)) = accepted else { continue };
                if *state.borrow() {
                    let state = state.clone();
                    spawn("forwarded connection", pass(from, to, state));
                }
            }
        });
        Ok(address)
    }
}

/// Passes bytes both ways until one end closes or the line is cut.
async fn pass(mut from: TcpStream, to: SocketAddr, mut state: watch::Receiver<bool>) {
    let passing = async {
        let Ok(mut to) = TcpStream::connect(to).await else { return };
        // Small messages go at once, as they would without a forwarder.
        if from.set_nodelay(true).is_err() || to.set_nodelay(true).is_err() {
            return;
        }
        // How a connection ends is its two ends' business.
        let _ = copy_bidirectional(&mut from, &mut to).await;
    };
    tokio::select! {
        biased;
        _ = state.wait_for(|is_whole| !is_whole) => {}
        () = passing => {}
    }
}

async fn gone(state: &mut watch::Receiver<bool>) {
    while state.changed().await.is_ok() {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::runtime::timeout;

    /// A server that says back what it hears.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn("echo", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                spawn("echo connection", async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn says_back(stream: &mut TcpStream) -> bool {
        let mut heard = [0; 4];
        let talk = async {
            stream.write_all(b"lan?").await?;
            stream.read_exact(&mut heard).await
        };
        matches!(timeout(Duration::from_secs(5), talk).await, Ok(Ok(_))) && heard == *b"lan?"
    }

    #[tokio::test]
    async fn a_cut_line_closes_what_is_open_and_lets_nothing_in_until_it_is_mended() {
        let line = Line::default();
        let address = line.forward(echo().await).await.unwrap();
        let mut open = TcpStream::connect(address).await.unwrap();
        assert!(says_back(&mut open).await);

        line.cut();
        assert!(!says_back(&mut open).await);
        let mut late = TcpStream::connect(address).await.unwrap();
        assert!(!says_back(&mut late).await);

        line.mend();
        assert!(says_back(&mut TcpStream::connect(address).await.unwrap()).await);
        assert!(!says_back(&mut open).await);
    }

    #[tokio::test]
    async fn lines_are_cut_one_by_one() {
        let (one, other) = (Line::default(), Line::default());
        let to = echo().await;
        let (_, address) = (one.forward(to).await.unwrap(), other.forward(to).await.unwrap());
        one.cut();
        assert!(says_back(&mut TcpStream::connect(address).await.unwrap()).await);
    }
}
