//! Everything relayd answers, and who may ask it: smtpd brings mail ([`intake`]), the operator looks and acts ([`operator`]).

pub mod intake;
pub mod operator;
