//! The end of a connection: the client gets to hear our last reply, and whoever goes on sending costs little.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

/// Read at once.
const PIECE: usize = 32 * 1024;
/// After each piece. What comes faster stays in the kernel, whose buffers hold the sender up.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads for `time` at most what the client still sends: closing with bytes unread would reset the connection, and that takes
/// our last reply from the client.
pub(crate) async fn linger<S>(stream: &mut S, time: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = vec![0; PIECE];
    let farewell = timeout(time, async {
        stream.shutdown().await?;
        while stream.read(&mut buffer).await? > 0 {
            sleep(PAUSE).await;
        }
        Ok::<(), io::Error>(())
    });
    // The client may be gone already; nothing depends on it any more.
    let _ = farewell.await;
}
