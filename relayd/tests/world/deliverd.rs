//! A deliverd that keeps its INBOXes in memory: `example.test` is its domain, everybody there is a user.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use daemon::channel::{Answered, Events, Service, serve};
use daemon::stop::{self, StopSender};
use ipc::budget::OwnBudgets;
use ipc::delivery::{DeliveryAnswer, DeliveryRequest, MessageHandle};
use ipc::relay::{DeliveryEdge, RelayAnswer, RelayRequest};
use ipc::{Call, Refusal};
use sys::packet::PacketListener;
use tokio::io::AsyncReadExt;

/// Recipient and message.
pub(crate) type Inbox = Arc<Mutex<Vec<(String, String)>>>;

/// By account; who is not in it has none of its own.
pub(crate) type Budgets = Arc<Mutex<HashMap<String, OwnBudgets>>>;

/// Ends with its test. `full@example.test` is refused when a message is to be brought.
pub(crate) struct Deliverd {
    pub(crate) inbox: Inbox,
    /// Messages that were opened and aborted.
    pub(crate) aborted: Arc<AtomicUsize>,
    pub(crate) budgets: Budgets,
    /// Questions for them.
    pub(crate) asked: Arc<AtomicUsize>,
    _stop: StopSender,
}

struct Postman {
    inbox: Inbox,
    aborted: Arc<AtomicUsize>,
    budgets: Budgets,
    asked: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Bag {
    /// Messages opened so far: no two have the same handle, whichever is over first.
    opened: u64,
    open: HashMap<u64, (UnixStream, Vec<String>)>,
}

impl Deliverd {
    pub(crate) fn start(socket: &Path) -> Self {
        let (inbox, aborted) = (Inbox::default(), Arc::default());
        let (budgets, asked) = (Budgets::default(), Arc::<AtomicUsize>::default());
        let (sender, stop) = stop::channel();
        let listener = PacketListener::bind(socket).unwrap();
        tokio::spawn(serve(
            listener,
            Arc::new(Postman {
                inbox: Arc::clone(&inbox),
                aborted: Arc::clone(&aborted),
                budgets: Arc::clone(&budgets),
                asked: Arc::clone(&asked),
            }),
            stop,
        ));
        Self {
            inbox,
            aborted,
            budgets,
            asked,
            _stop: sender,
        }
    }
}

impl Service<DeliveryEdge> for Postman {
    type Peer = Mutex<Bag>;

    fn open(&self, _events: Events<DeliveryEdge>) -> Mutex<Bag> {
        Mutex::default()
    }

    async fn answer(
        &self,
        peer: Arc<Mutex<Bag>>,
        call: Call<RelayRequest>,
    ) -> Result<Answered<RelayAnswer>, Refusal> {
        let request = match call.request {
            RelayRequest::Delivery(request) => request,
            RelayRequest::ShowBudgets { account } if account.ends_with("@example.test") => {
                self.asked.fetch_add(1, Ordering::SeqCst);
                let budgets = self.budgets.lock().unwrap();
                let budgets = budgets.get(&account).cloned().unwrap_or_default();
                return Ok(Answered::plain(RelayAnswer::Budgets(budgets)));
            }
            RelayRequest::ShowBudgets { .. } => return Err(Refusal::NoSuchUser),
            RelayRequest::ShowTenant { domain } => {
                let tenant = domain.strip_suffix(".tenant.test").map(str::to_owned);
                return Ok(Answered::plain(RelayAnswer::Tenant(tenant)));
            }
        };
        let answer = match request {
            DeliveryRequest::ResolveRecipient { address, .. }
                if address.ends_with("@example.test") =>
            {
                DeliveryAnswer::RecipientResolved {
                    local: vec![address],
                    remote: Vec::new(),
                }
            }
            DeliveryRequest::ResolveRecipient { .. } => DeliveryAnswer::RecipientForeign,
            DeliveryRequest::OpenMessage { .. } => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let mut bag = peer.lock().unwrap();
                bag.opened += 1;
                let handle = bag.opened;
                bag.open.insert(handle, (ours, Vec::new()));
                let answer = DeliveryAnswer::MessageOpened(MessageHandle(handle));
                let answer = RelayAnswer::Delivery(answer);
                return Ok(Answered::with(answer, vec![theirs.into()]));
            }
            DeliveryRequest::ForeseeRecipient { .. } => return Err(Refusal::Busy),
            DeliveryRequest::EndTransaction { .. } => DeliveryAnswer::TransactionEnded,
            // relayd has its reports in files and brings them through the stream.
            DeliveryRequest::DeliverMessage { .. } => return Err(Refusal::Busy),
            DeliveryRequest::AddRecipients {
                message,
                recipients,
                destination: _,
            } => {
                if recipients.iter().any(|text| text == "full@example.test") {
                    return Err(Refusal::OverQuota);
                }
                peer.lock()
                    .unwrap()
                    .open
                    .get_mut(&message.0)
                    .unwrap()
                    .1
                    .extend(recipients);
                DeliveryAnswer::RecipientsAdded
            }
            DeliveryRequest::CommitMessage {
                message,
                size,
                head: _,
            } => {
                let (stream, recipients) = peer.lock().unwrap().open.remove(&message.0).unwrap();
                stream.set_nonblocking(true).unwrap();
                let mut text = String::new();
                tokio::net::UnixStream::from_std(stream)
                    .unwrap()
                    .read_to_string(&mut text)
                    .await
                    .unwrap();
                assert_eq!(text.len() as u64, size);
                for recipient in recipients {
                    self.inbox.lock().unwrap().push((recipient, text.clone()));
                }
                DeliveryAnswer::MessageDelivered
            }
            DeliveryRequest::AbortMessage { message } => {
                peer.lock().unwrap().open.remove(&message.0).unwrap();
                self.aborted.fetch_add(1, Ordering::SeqCst);
                DeliveryAnswer::MessageAborted
            }
        };
        Ok(Answered::plain(RelayAnswer::Delivery(answer)))
    }
}
