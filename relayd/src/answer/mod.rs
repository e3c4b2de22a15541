//! Everything relayd answers, and who may ask it: smtpd brings mail ([`intake`]) and asks DNS ([`lookup`]), the operator looks and acts ([`operator`]).

pub mod intake;
pub mod lookup;
pub mod operator;
