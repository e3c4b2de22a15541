//! What `rmailctl explain` is told of the decisions at the desk; nothing for a client that is really there.

use ipc::Refusal;

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
