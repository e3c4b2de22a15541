//! What clients are told of a filter's verdict.

use daemon::config::{OnFailure, Oversize};
use milter::reply::{Refusal, Verdict};
use smtp::reply::Reply;

/// The reply that a verdict is; `None` where nothing is refused.
pub(super) fn refusal(verdict: &Verdict) -> Option<Reply> {
    match verdict {
        Verdict::Continue | Verdict::Accept | Verdict::Discard => None,
        Verdict::Reject => Some(Reply::new(
            550,
            (5, 7, 1),
            "refused by a filter of this server",
        )),
        Verdict::TempFail => Some(Reply::new(
            451,
            (4, 7, 1),
            "refused for now by a filter of this server, try again later",
        )),
        Verdict::Refuse(refusal) => Some(own_words(refusal)),
    }
}

fn own_words(refusal: &Refusal) -> Reply {
    let code = match refusal.code {
        // RFC 5321 §3.8: behind 421 the connection would have to be closed, which is not for filters to decide.
        421 => 451,
        code => code,
    };
    let class = if code < 500 { 4 } else { 5 };
    let enhanced = refusal.enhanced.unwrap_or((class, 7, 1));
    let mut lines = refusal.lines.iter().filter(|line| !line.is_empty());
    let first = lines.next().map_or("refused by a filter", String::as_str);
    lines.fold(Reply::new(code, enhanced, first), |reply, line| {
        reply.line(line)
    })
}

/// What clients are told of a message that has more bytes than a filter looks at; `None` where it passes by.
pub(super) fn oversize(policy: Oversize, limit: u64) -> Option<Reply> {
    let text = |what: &str| {
        format!("a filter of this server can check no more than {limit} bytes of a message: {what}")
    };
    match policy {
        Oversize::Accept => None,
        Oversize::TempFail => Some(Reply::new(
            451,
            (4, 3, 4),
            &text("try again later, or send less"),
        )),
        // RFC 3463 §3.4.
        Oversize::Reject => Some(Reply::new(
            552,
            (5, 3, 4),
            &text("send it in smaller parts, or as a link"),
        )),
    }
}

/// What clients are told while a filter does not work; `None` where mail passes by.
pub(super) fn failure(policy: OnFailure) -> Option<Reply> {
    match policy {
        OnFailure::Accept => None,
        OnFailure::TempFail => Some(Reply::new(
            451,
            (4, 7, 1),
            "a filter of this server does not work, try again later",
        )),
        OnFailure::Reject => Some(Reply::new(
            550,
            (5, 7, 1),
            "a filter of this server does not work, and no mail is taken without it",
        )),
    }
}
