//! What clients are told of a filter's verdict.

use daemon::config::OnFailure;
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
