//! The demo's DNS: one domain with one mail exchanger, on a loopback port.

use std::net::{Ipv4Addr, SocketAddr};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, MX};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

use crate::Error;

/// The domain outside.
pub(super) const DOMAIN: &str = "outside.test";
const TTL: u32 = 60;

/// Answers questions about [`DOMAIN`] until the task is dropped; everything else does not exist.
pub(super) async fn open() -> Result<SocketAddr, Error> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = socket.local_addr()?;
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            // A question that cannot be read or answered gets none; the asker tries again.
            if let Some(answer) = answer(&buffer[..length]) {
                let _ = socket.send_to(&answer, peer).await;
            }
        }
    });
    Ok(address)
}

fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let domain = Name::from_ascii(format!("{DOMAIN}.")).ok()?;
    let exchanger = Name::from_ascii(format!("mail.{DOMAIN}.")).ok()?;
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    let name = query.name().to_lowercase();
    if name == domain && query.query_type() == RecordType::MX {
        answer.add_answer(Record::from_rdata(
            domain,
            TTL,
            RData::MX(MX::new(10, exchanger)),
        ));
    } else if name == exchanger && query.query_type() == RecordType::A {
        answer.add_answer(Record::from_rdata(
            exchanger,
            TTL,
            RData::A(A(Ipv4Addr::LOCALHOST)),
        ));
    } else if name != domain && name != exchanger {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    answer.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;

    fn ask(name: &str, kind: RecordType) -> Message {
        let mut question = Message::new(7, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        Message::from_vec(&answer(&question.to_vec().unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn the_domain_outside_has_one_exchanger_on_loopback() {
        assert_eq!(ask("outside.test.", RecordType::MX).answers.len(), 1);
        assert_eq!(ask("mail.outside.test.", RecordType::A).answers.len(), 1);
    }

    #[test]
    fn nothing_else_exists() {
        assert_eq!(
            ask("example.com.", RecordType::MX).metadata.response_code,
            ResponseCode::NXDomain
        );
    }
}
