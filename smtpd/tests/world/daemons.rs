//! deliverd and relayd, as smtpd meets them.

use super::*;

/// deliverd: alice, bob, full and filling (who has room for nothing) live here; list@ is alice, bob and somebody elsewhere.
pub(crate) struct Deliverd(pub(crate) Arc<Store>);

impl Service<SmtpEdge> for Deliverd {
    type Peer = Opened;

    fn open(&self, _: Events<SmtpEdge>) -> Opened {
        Opened::default()
    }

    async fn answer(
        &self,
        peer: Arc<Opened>,
        call: Call<SmtpRequest>,
    ) -> Result<Answered<SmtpAnswer>, Refusal> {
        let mut fds = Vec::new();
        let answer = match call.request {
            SmtpRequest::Authenticate(who) => {
                assert_eq!(who.client, "127.0.0.1");
                if who.user != "alice@example.org" || who.password.reveal() != b"wonderland" {
                    return Err(Refusal::BadCredentials { wait: 0 });
                }
                SmtpAnswer::Authenticated { account: who.user }
            }
            SmtpRequest::Login(request) => self.0.log_in(request)?,
            SmtpRequest::FindAccount { user, .. } if user == "alice@example.org" => {
                SmtpAnswer::Authenticated { account: user }
            }
            SmtpRequest::FindAccount { .. } => return Err(Refusal::NoSuchUser),
            SmtpRequest::CheckSender { account, sender }
                if (account == sender && account.ends_with("@example.org"))
                    || sender == "team@example.org" =>
            {
                SmtpAnswer::SenderAllowed
            }
            SmtpRequest::CheckSender { .. } => return Err(Refusal::SenderNotAllowed),
            SmtpRequest::RewriteSender { sender } => SmtpAnswer::SenderRewritten {
                sender: format!("SRS0={}", sender.replace('@', "=") + "@example.org"),
            },
            SmtpRequest::Delivery(request) => SmtpAnswer::Delivery(match request {
                DeliveryRequest::ResolveRecipient {
                    address,
                    size,
                    transaction,
                } => {
                    let answer = match *self.0.is_full_of_life.lock().unwrap() {
                        true => resolve_any(&address)?,
                        false => resolve(&address, size)?,
                    };
                    // 0 stands for none.
                    if transaction != 0 {
                        self.0.held.lock().unwrap().push(transaction);
                    }
                    answer
                }
                DeliveryRequest::ForeseeRecipient {
                    address,
                    size,
                    beside,
                } => {
                    // There is room for one of them.
                    let both = [BESIDE, address.as_str()];
                    if beside.iter().any(|one| both.contains(&one.as_str())) {
                        return Err(Refusal::OverQuota);
                    }
                    resolve(&address, size)?
                }
                DeliveryRequest::OpenMessage { transaction } => {
                    self.0.free(transaction);
                    let (handle, stream) = self.0.open(&peer, None)?;
                    fds.push(stream.into());
                    DeliveryAnswer::MessageOpened(handle)
                }
                DeliveryRequest::EndTransaction { transaction } => {
                    self.0.free(transaction);
                    DeliveryAnswer::TransactionEnded
                }
                DeliveryRequest::AddRecipients {
                    message,
                    recipients,
                    destination,
                } => {
                    self.0.add(&peer, message, recipients.clone())?;
                    if destination == Destination::Junk {
                        let mut messages = peer.messages.lock().unwrap();
                        messages
                            .get_mut(&message.0)
                            .unwrap()
                            .junk
                            .extend(recipients);
                    }
                    DeliveryAnswer::RecipientsAdded
                }
                DeliveryRequest::CommitMessage {
                    message,
                    size,
                    head,
                } => {
                    self.0.commit(&peer, message, size, head).await?;
                    DeliveryAnswer::MessageDelivered
                }
                DeliveryRequest::AbortMessage { message } => {
                    self.0.abort(&peer, message);
                    DeliveryAnswer::MessageAborted
                }
                DeliveryRequest::DeliverMessage {
                    transaction,
                    recipients,
                    junk,
                    bytes,
                } => {
                    self.0.free(transaction);
                    let envelope = None;
                    let message = Kept {
                        recipients: [&recipients[..], &junk[..]].concat(),
                        queued: Vec::new(),
                        envelope,
                        quarantine: None,
                        junk,
                        bytes,
                    };
                    self.0.keep(message).await?;
                    DeliveryAnswer::MessageDelivered
                }
            }),
        };
        Ok(Answered::with(answer, fds))
    }
}

/// Whoever comes after this one finds no room, when that is foreseen.
const BESIDE: &str = "info@strict.example";

fn resolve(address: &str, size: u64) -> Result<DeliveryAnswer, Refusal> {
    let here = |local: &[&str], remote: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Ok(DeliveryAnswer::RecipientResolved {
            local: owned(local),
            remote: owned(remote),
        })
    };
    match address {
        "alice@example.org" | "bob@example.org" | "postmaster@example.org" => here(&[address], &[]),
        "list@example.org" => here(
            &["alice@example.org", "bob@example.org"],
            &["carol@far.example"],
        ),
        "sixty@example.org" | "others@example.org" => {
            let (name, _) = address.split_once('@').unwrap();
            let remote = (0..60).map(|n| format!("{name}{n}@far.example")).collect();
            Ok(DeliveryAnswer::RecipientResolved {
                local: Vec::new(),
                remote,
            })
        }
        "away@example.org" => here(&[], &["carol@far.example"]),
        "nobody@example.org" => here(&[], &[]),
        "info@soft.example" => here(&["bob@example.org"], &[]),
        "nobody@soft.example" => Err(Refusal::NoSuchUser),
        _ if address.ends_with("@soft.example") || address.ends_with("@strict.example") => {
            here(&[address], &[])
        }
        "full@example.org" => Err(Refusal::OverQuota),
        "filling@example.org" if size > 0 => Err(Refusal::OverQuota),
        "filling@example.org" => here(&[address], &[]),
        _ if address.ends_with("@backed.example") => Ok(DeliveryAnswer::RecipientRelayed),
        _ if address.ends_with("@example.org") => Err(Refusal::NoSuchUser),
        _ => Ok(DeliveryAnswer::RecipientForeign),
    }
}

fn resolve_any(address: &str) -> Result<DeliveryAnswer, Refusal> {
    match address.rsplit_once('@') {
        Some(("nobody", "example.org")) => Err(Refusal::NoSuchUser),
        Some((_, "example.org")) => Ok(DeliveryAnswer::RecipientResolved {
            local: vec![address.to_owned()],
            remote: Vec::new(),
        }),
        _ => Ok(DeliveryAnswer::RecipientForeign),
    }
}

/// relayd.
pub(crate) struct Relayd {
    pub(crate) store: Arc<Store>,
    /// Where the sockets of filters are, by their names.
    pub(crate) filters: PathBuf,
}

impl Service<QueueEdge> for Relayd {
    type Peer = Opened;

    fn open(&self, _: Events<QueueEdge>) -> Opened {
        Opened::default()
    }

    async fn answer(
        &self,
        peer: Arc<Opened>,
        call: Call<QueueRequest>,
    ) -> Result<Answered<QueueAnswer>, Refusal> {
        let mut fds = Vec::new();
        let answer = match call.request {
            QueueRequest::OpenMessage(envelope) => {
                let (handle, stream) = self.store.open(&peer, Some(envelope))?;
                fds.push(stream.into());
                QueueAnswer::MessageOpened(handle)
            }
            QueueRequest::AddRecipients {
                message,
                recipients,
            } => {
                self.store.add_queued(&peer, message, recipients)?;
                QueueAnswer::RecipientsAdded
            }
            QueueRequest::CommitMessage {
                message,
                size,
                head,
                quarantine,
            } => {
                if quarantine.is_some() && *self.store.is_full.lock().unwrap() {
                    return Err(Refusal::QuarantineFull);
                }
                peer.note(message, quarantine);
                self.store.commit(&peer, message, size, head).await?;
                QueueAnswer::MessageQueued {
                    queue_id: "q1".into(),
                }
            }
            QueueRequest::AbortMessage { message } => {
                self.store.abort(&peer, message);
                QueueAnswer::MessageAborted
            }
            QueueRequest::Greet(triple) => {
                let mut greeted = self.store.greeted.lock().unwrap();
                let is_known = greeted.contains(&triple);
                greeted.push(triple);
                QueueAnswer::Greeted(match is_known {
                    true => Acquaintance::Known,
                    false => Acquaintance::Stranger { wait: 7 },
                })
            }
            QueueRequest::Note(observation) => {
                self.store.noted.lock().unwrap().push(*observation);
                QueueAnswer::Noted
            }
            QueueRequest::Recall(triple) => {
                let is_known = self.store.greeted.lock().unwrap().contains(&triple);
                QueueAnswer::Greeted(match is_known {
                    true => Acquaintance::Known,
                    false => Acquaintance::Stranger { wait: 7 },
                })
            }
            QueueRequest::Foresee { envelope, .. } => {
                let hold = envelope.account.map(|_| "held for a test".to_owned());
                QueueAnswer::Foreseen { hold }
            }
            QueueRequest::LookUp(question) => {
                {
                    let mut busy = self.store.busy.lock().unwrap();
                    if *busy > 0 {
                        *busy -= 1;
                        return Err(Refusal::Busy);
                    }
                }
                let is_silent = self.store.silence.lock().unwrap().contains(&question.name);
                if is_silent {
                    return std::future::pending().await;
                }
                let zone = self.store.zone.lock().unwrap();
                let found = zone.get(&(question.name, question.kind)).cloned();
                QueueAnswer::LookedUp(found.unwrap_or(Found::NoSuchName))
            }
            QueueRequest::ConnectFilter { filter } => {
                let stream = StdUnixStream::connect(self.filters.join(filter));
                let unreachable = |error: std::io::Error| Refusal::Invalid(error.to_string());
                fds.push(stream.map_err(unreachable)?.into());
                QueueAnswer::FilterConnected
            }
        };
        Ok(Answered::with(answer, fds))
    }
}
