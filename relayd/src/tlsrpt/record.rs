//! Who wants reports: whoever a domain names in the TXT record at `_smtp._tls.` (RFC 8460 §3).

use sender::dmarc::ReportUri;
use sender::dns::Record;
use tracing::info;

use crate::aggregate::target::{MAX_TARGETS, NoAnswer, Target, parse, texts};
use crate::dns::Dns;

const VERSION: &str = "v=TLSRPTv1";

/// Addresses that take reports about a domain. Where a domain names a web page besides, or only that, nothing is sent there.
///
/// # Errors
/// [`NoAnswer`].
pub async fn targets(dns: &Dns, domain: &str) -> Result<Vec<Target>, NoAnswer> {
    let records = texts(dns, &name(domain)).await?;
    let mut targets: Vec<Target> = Vec::new();
    for uri in only(&records).map(uris).unwrap_or_default() {
        let Some(target) = ReportUri::parse(uri).as_ref().and_then(parse) else {
            info!(
                domain,
                uri, "this is no address to which a TLS report can be mailed"
            );
            continue;
        };
        if targets.iter().all(|known| known.address != target.address) {
            targets.push(target);
        }
    }
    Ok(targets)
}

/// Whether a domain wants to be told.
///
/// # Errors
/// [`NoAnswer`].
pub async fn is_published(dns: &Dns, domain: &str) -> Result<bool, NoAnswer> {
    let records = texts(dns, &name(domain)).await?;
    Ok(only(&records).is_some())
}

fn name(domain: &str) -> String {
    format!("_smtp._tls.{domain}")
}

// Other records are passed over; of these there must be one.
fn only(records: &[Record]) -> Option<&str> {
    let mut found = records.iter().filter_map(|record| match record {
        Record::Text(text) => std::str::from_utf8(text).ok().filter(|text| is_one(text)),
        _ => None,
    });
    match (found.next(), found.next()) {
        (Some(text), None) => Some(text),
        _ => None,
    }
}

fn is_one(text: &str) -> bool {
    let rest = text.strip_prefix(VERSION).map(str::trim_start);
    rest.is_some_and(|rest| rest.starts_with(';'))
}

fn uris(text: &str) -> Vec<&str> {
    let fields = text.split(';').filter_map(|field| field.split_once('='));
    let mut lists = fields.filter(|(name, _)| name.trim() == "rua");
    let list = lists.next().map(|(_, list)| list).unwrap_or_default();
    list.split(',').map(str::trim).take(MAX_TARGETS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(texts: &[&str]) -> Option<Vec<String>> {
        let records: Vec<_> = texts
            .iter()
            .map(|text| Record::Text(text.as_bytes().to_vec()))
            .collect();
        let uris = only(&records).map(uris)?;
        Some(uris.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn the_one_record_that_says_so_counts() {
        let one = "v=TLSRPTv1; rua=mailto:a@b.test , https://b.test/x;";
        let uris = Some(vec![
            "mailto:a@b.test".to_owned(),
            "https://b.test/x".to_owned(),
        ]);
        assert_eq!(found(&[one]), uris);
        assert_eq!(found(&["v=spf1 -all", one, "rua=mailto:c@d.test"]), uris);
        for none in [
            &[one, one][..],
            &[],
            &["v=TLSRPTv12; rua=mailto:a@b"],
            &[" v=TLSRPTv1; rua=mailto:a@b"],
            &["v=tlsrptv1;rua=x"],
        ] {
            assert_eq!(found(none), None, "{none:?}");
        }
        let extended = "v=TLSRPTv1 ;x=y; rua=mailto:a@b.test";
        assert_eq!(found(&[extended]), Some(vec!["mailto:a@b.test".to_owned()]));
        let many = format!("v=TLSRPTv1;rua={}", "mailto:a@b.test,".repeat(1000));
        assert_eq!(found(&[&many]).unwrap().len(), MAX_TARGETS);
    }
}
