//! LMTP (RFC 2033 §4.2): behind the text of a message, a reply for each recipient that was accepted.

use alloc::vec::Vec;

use mail::address::ForwardPath;

use super::dialog::{CloseAfter, granted};
use super::{Action, Answer, Server, words};
use crate::reply::Reply;

impl Server {
    pub(super) fn hear_commit_each(&mut self, recipients: &[ForwardPath], answer: Answer) {
        let verdicts = match answer {
            Answer::Judged(verdicts) => verdicts,
            all => alloc::vec![granted(all); recipients.len()],
        };
        let is_taken = verdicts.iter().any(Result::is_ok);
        let id = match is_taken {
            true => self.count_accepted(),
            false => core::mem::take(&mut self.message_id),
        };
        // Whom the answer does not mention is not served.
        let verdicts = verdicts
            .into_iter()
            .chain(core::iter::repeat(Err(words::local_fault())));
        let replies: Vec<Reply> = recipients
            .iter()
            .zip(verdicts)
            .map(|(path, verdict)| match verdict {
                Ok(()) => words::accepted_for(path, &id),
                Err(refusal) => refusal,
            })
            .collect();
        self.say_each(&replies, is_taken, CloseAfter::No);
    }

    pub(super) fn refuse_each(&mut self, refusal: &Reply, recipients: usize, close: CloseAfter) {
        self.say_each(&alloc::vec![refusal.clone(); recipients], false, close);
    }

    fn say_each(&mut self, replies: &[Reply], is_taken: bool, close: CloseAfter) {
        let Some((last, others)) = replies.split_last() else {
            return self.say_last(&words::local_fault(), close);
        };
        for reply in others {
            self.actions.push_back(Action::Send(reply.to_bytes()));
        }
        match is_taken {
            true => self.say(last),
            false => self.say_last(last, close),
        }
    }
}
