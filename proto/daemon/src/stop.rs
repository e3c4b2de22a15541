//! Being told to stop, and to read certificates again.

use tokio::sync::watch;

/// Tells tasks that the daemon was asked to stop (SIGTERM) or to reload (SIGHUP). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop {
    stop: watch::Receiver<bool>,
    reload: watch::Receiver<u64>,
}

/// The other end of [`Stop`].
#[derive(Debug)]
pub struct StopSender {
    stop: watch::Sender<bool>,
    reload: watch::Sender<u64>,
}

/// A pair of both ends; daemons get theirs from [`crate::start()`], tests make one.
#[must_use]
pub fn channel() -> (StopSender, Stop) {
    let (stop, stopped) = watch::channel(false);
    let (reload, reloaded) = watch::channel(0);
    (
        StopSender { stop, reload },
        Stop {
            stop: stopped,
            reload: reloaded,
        },
    )
}

impl StopSender {
    /// Asks every task to stop.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Asks to read certificates again.
    pub fn reload(&self) {
        self.reload.send_modify(|count| *count += 1);
    }
}

impl Stop {
    /// Whether stopping was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until stopping is requested (also when the sender is gone).
    pub async fn requested(&self) {
        let mut stop = self.stop.clone();
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Waits for the next request to reload; never returns once the sender is gone.
    pub async fn reload_requested(&mut self) {
        if self.reload.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
