//! What `rmailctl explain` is told of the decisions at the desk; nothing for a client that is really there.

use ipc::Refusal;
use smtp::reply::Reply;

use super::Desk;
use crate::ask::{Problem, Route};
use crate::explain::facts;
use crate::guard::Kind;

impl Desk {
    /// How far the client is from its limits of that kind.
    pub(super) fn note_counts(&self, kind: Kind) {
        if self.ask.rehearses() {
            for count in self.pass.counts(kind) {
                self.ask.note(count.key, || facts::counted(kind, &count));
            }
        }
    }

    /// Whether an account may use an address.
    pub(super) fn note_checked(
        &self,
        field: &str,
        address: &str,
        account: &str,
        checked: &Result<(), Problem>,
    ) {
        self.ask.note("rmailctl user grant", || match checked {
            Ok(()) => format!("{field}: {account} may send as {address}"),
            Err(problem) => format!("{field}: {account} may not send as {address}: {problem}"),
        });
    }

    /// What all filters have decided.
    pub(super) fn note_filters(&self, text: &str) {
        if self.ask.rehearses() && self.filters.names().next().is_some() {
            let names: Vec<_> = self.filters.names().collect();
            let text = || format!("the filters ({}) {text}", names.join(", "));
            self.ask.note("smtp.filters", text);
        }
    }

    /// That a filter refuses something.
    pub(super) fn note_refusal(&self, reply: Reply) -> Reply {
        let text =
            || "a filter, or what is to be done while one does not work, has it so".to_owned();
        self.ask.note("smtp.filters", text);
        reply
    }

    /// Where mail for an address goes.
    pub(super) fn note_route(&self, address: &str, route: &Result<Route, Problem>) {
        let key = match route {
            Ok(Route::Ours { .. }) => "rmailctl alias test",
            Ok(Route::Relayed) => "rmailctl domain set --backup-mx",
            Ok(Route::Foreign) => "rmailctl domain add",
            Err(Problem::Refused(Refusal::NoSuchUser)) => "rmailctl user add; rmailctl alias add",
            Err(Problem::Refused(Refusal::OverQuota | Refusal::MessageTooLarge)) => {
                "rmailctl user quota; rmailctl domain quota; rmailctl tenant quota"
            }
            Err(_) => "",
        };
        self.ask.note(key, || facts::route(address, route));
    }
}
