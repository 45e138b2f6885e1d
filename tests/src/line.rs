//! A TCP line between two processes that can be cut, half closed, or cut after a number of bytes.
//!
//! Promises: after [`Line::cut`] nothing passes and nothing new is let in until [`Line::mend`]. Leaves to others: what the
//! bytes are. Limit: a line is never slow.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What is read at once: small, so that a limit falls into the middle of a message.
const CHUNK_BYTES: usize = 1024;

/// How many bytes a new connection may carry; none is all.
type Limit = dyn FnMut() -> Option<u64> + Send;

struct State {
    /// Counts up with every cut, so that connections from before it end even if the line is mended at once.
    cuts: watch::Sender<u64>,
    is_whole: AtomicBool,
    /// Bytes towards the caller are read and thrown away.
    is_deaf: AtomicBool,
    limit: Mutex<Box<Limit>>,
    cut_by_limit: AtomicU64,
    bytes: AtomicU64,
}

/// A line with one or more entrances. Clones are the same line.
#[derive(Clone)]
pub struct Line(Arc<State>);

impl Default for Line {
    fn default() -> Self {
        Line(Arc::new(State {
            cuts: watch::Sender::new(0),
            is_whole: AtomicBool::new(true),
            is_deaf: AtomicBool::new(false),
            limit: Mutex::new(Box::new(|| None)),
            cut_by_limit: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }))
    }
}

impl Line {
    /// Cuts it.
    pub fn cut(&self) {
        self.0.is_whole.store(false, Ordering::SeqCst);
        self.0.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Ends every open connection, and lets new ones in.
    pub fn break_once(&self) {
        self.0.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Makes it whole: both ways, without limits.
    pub fn mend(&self) {
        self.limit(|| None);
        self.0.is_deaf.store(false, Ordering::SeqCst);
        self.0.is_whole.store(true, Ordering::SeqCst);
    }

    /// From now on nothing reaches the one who dialed, whose own bytes go on to arrive.
    pub fn deafen(&self) {
        self.0.is_deaf.store(true, Ordering::SeqCst);
    }

    /// Every new connection is cut after as many bytes as `limit` then says, both directions counted together.
    pub fn limit(&self, limit: impl FnMut() -> Option<u64> + Send + 'static) {
        *self.0.limit.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(limit);
    }

    /// How many connections were cut by their limit until now.
    #[must_use]
    pub fn cut_by_limit(&self) -> u64 {
        self.0.cut_by_limit.load(Ordering::SeqCst)
    }

    /// Bytes that have passed until now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::SeqCst)
    }

    /// Forwards what comes in at the returned address to `to`, as long as the runtime lives.
    pub async fn forward(&self, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port for a line");
        let address = listener.local_addr().expect("a listener has an address");
        let line = self.clone();
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                // A connection that is dropped here is closed at once.
                if line.0.is_whole.load(Ordering::SeqCst) {
                    tokio::spawn(line.clone().pass(from, to));
                }
            }
        });
        address
    }

    async fn pass(self, from: TcpStream, to: SocketAddr) {
        let mut cuts = self.0.cuts.subscribe();
        let Ok(to) = TcpStream::connect(to).await else { return };
        if from.set_nodelay(true).is_err() || to.set_nodelay(true).is_err() {
            return;
        }
        let limit = (self.0.limit.lock().unwrap_or_else(PoisonError::into_inner))();
        let left = AtomicU64::new(limit.unwrap_or(u64::MAX));
        let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
        let up = self.pump(from_read, to_write, &left, false);
        let down = self.pump(to_read, from_write, &left, true);
        let is_limit = tokio::select! {
            _ = cuts.changed() => false,
            ended = async { tokio::join!(up, down) } => ended.0 || ended.1,
        };
        if is_limit {
            self.0.cut_by_limit.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Passes bytes one way; whether it ended because the limit was reached.
    async fn pump(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, left: &AtomicU64, is_down: bool) -> bool {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            // The other direction may have used the limit up while this one waits: both look before every read.
            let read = tokio::select! {
                read = from.read(&mut chunk) => read,
                () = used_up(left) => return true,
            };
            let Ok(count) = read else { return false };
            if count == 0 {
                // Half closed: the other direction goes on.
                let _ = to.shutdown().await;
                return false;
            }
            if is_down && self.0.is_deaf.load(Ordering::SeqCst) {
                continue;
            }
            let allowed = usize::try_from(left.load(Ordering::SeqCst)).unwrap_or(usize::MAX).min(count);
            left.fetch_sub(allowed as u64, Ordering::SeqCst);
            self.0.bytes.fetch_add(allowed as u64, Ordering::SeqCst);
            if to.write_all(&chunk[..allowed]).await.is_err() {
                return false;
            }
            if allowed < count {
                left.store(0, Ordering::SeqCst);
                return true;
            }
        }
    }
}

/// Returns when the limit of a connection is used up.
async fn used_up(left: &AtomicU64) {
    while left.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    /// How many of `count` bytes come back.
    async fn come_back(stream: &mut TcpStream, count: usize) -> usize {
        let mut heard = vec![0; count];
        let mut have = 0;
        let _ = stream.write_all(&vec![7; count]).await;
        while have < count {
            match tokio::time::timeout(Duration::from_secs(2), stream.read(&mut heard[have..])).await {
                Ok(Ok(more)) if more > 0 => have += more,
                _ => break,
            }
        }
        have
    }

    #[tokio::test]
    async fn a_cut_line_carries_nothing_until_it_is_mended() {
        let line = Line::default();
        let address = line.forward(echo().await).await;
        let mut open = TcpStream::connect(address).await.unwrap();
        assert_eq!(come_back(&mut open, 10).await, 10);
        line.cut();
        assert_eq!(come_back(&mut open, 10).await, 0);
        assert_eq!(come_back(&mut TcpStream::connect(address).await.unwrap(), 10).await, 0);
        line.mend();
        assert_eq!(come_back(&mut TcpStream::connect(address).await.unwrap(), 10).await, 10);
    }

    #[tokio::test]
    async fn a_limit_cuts_in_the_middle() {
        let line = Line::default();
        let address = line.forward(echo().await).await;
        line.limit(|| Some(3_000));
        let came = come_back(&mut TcpStream::connect(address).await.unwrap(), 2_000).await;
        assert!(came <= 1_000, "{came}");
        assert_eq!(line.bytes(), 3_000);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(line.cut_by_limit(), 1);
    }

    #[tokio::test]
    async fn a_deaf_end_hears_nothing() {
        let line = Line::default();
        let address = line.forward(echo().await).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(come_back(&mut stream, 10).await, 10);
        line.deafen();
        assert_eq!(come_back(&mut stream, 10).await, 0);
    }
}
