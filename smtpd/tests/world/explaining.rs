//! What the operator asks about.

use smtpd::explain::{Explainer, Listener};

use super::*;

impl World {
    /// Who explains what would become of mail to the listener `test`.
    pub(crate) fn explainer(&self, role: Role, begins: Begins, is_on: bool) -> Explainer {
        let listener = Listener {
            name: "test",
            port: Arc::new(self.port(role, begins)),
            switch: "smtp.test",
            is_on,
        };
        Explainer::new(vec![listener], self.stop.clone())
    }
}
