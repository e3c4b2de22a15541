//! A report as the XML document of RFC 9990, in the order of elements that RFC 7489 (appendix C) wants, so that both read it.

use super::kind::Meta;
use super::period;
use super::row::{Published, Row};

type Bucket = period::Bucket<Published, Row>;

/// The document.
#[must_use]
pub fn document(meta: &Meta, published: &Published, bucket: &Bucket) -> String {
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<feedback xmlns=\"urn:ietf:params:xml:ns:dmarc-2.0\">\n<version>1.0</version>\n",
    );
    open(&mut out, "report_metadata");
    element(&mut out, "org_name", &meta.organization);
    element(&mut out, "email", &meta.email);
    if let Some(contact) = &meta.contact {
        element(&mut out, "extra_contact_info", contact);
    }
    element(&mut out, "report_id", &meta.id);
    open(&mut out, "date_range");
    element(&mut out, "begin", &meta.begin.to_string());
    element(&mut out, "end", &meta.end.to_string());
    close(&mut out, "date_range");
    if bucket.unlisted > 0 {
        let lost = format!(
            "{} more messages are in no record, for want of room",
            bucket.unlisted
        );
        element(&mut out, "error", &lost);
    }
    let generator = concat!("rmail ", env!("CARGO_PKG_VERSION"));
    element(&mut out, "generator", generator);
    close(&mut out, "report_metadata");
    open(&mut out, "policy_published");
    element(&mut out, "domain", &meta.domain);
    // RFC 9989 §4.10.
    element(&mut out, "discovery_method", "treewalk");
    element(&mut out, "adkim", &published.dkim);
    element(&mut out, "aspf", &published.spf);
    element(&mut out, "p", &published.policy);
    element(&mut out, "sp", &published.below);
    element(&mut out, "np", &published.missing);
    element(&mut out, "testing", &published.test);
    close(&mut out, "policy_published");
    for (row, count) in bucket.list() {
        push_record(&mut out, &row, count);
    }
    close(&mut out, "feedback");
    out
}

fn push_record(out: &mut String, row: &Row, count: u64) {
    open(out, "record");
    open(out, "row");
    element(out, "source_ip", &row.source);
    element(out, "count", &count.to_string());
    open(out, "policy_evaluated");
    element(out, "disposition", &row.disposition);
    element(out, "dkim", &row.dkim_aligned);
    element(out, "spf", &row.spf_aligned);
    if let Some((kind, comment)) = &row.reason {
        open(out, "reason");
        element(out, "type", kind);
        if let Some(comment) = comment {
            element(out, "comment", comment);
        }
        close(out, "reason");
    }
    close(out, "policy_evaluated");
    close(out, "row");
    open(out, "identifiers");
    if let Some(domain) = &row.envelope_to {
        element(out, "envelope_to", domain);
    }
    element(out, "envelope_from", &row.envelope_from);
    element(out, "header_from", &row.header_from);
    close(out, "identifiers");
    open(out, "auth_results");
    for (domain, selector, result) in &row.dkim {
        open(out, "dkim");
        element(out, "domain", domain);
        element(out, "selector", selector);
        element(out, "result", result);
        close(out, "dkim");
    }
    let (domain, result) = &row.spf;
    open(out, "spf");
    element(out, "domain", domain);
    element(out, "scope", "mfrom");
    element(out, "result", result);
    close(out, "spf");
    close(out, "auth_results");
    close(out, "record");
}

fn open(out: &mut String, name: &str) {
    out.push_str(&format!("<{name}>\n"));
}

fn close(out: &mut String, name: &str) {
    out.push_str(&format!("</{name}>\n"));
}

fn element(out: &mut String, name: &str, text: &str) {
    out.push_str(&format!("<{name}>"));
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            // Also in "]]>", which must not stand in text (XML 1.0 §2.4).
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // XML 1.0 §2.2: there is no way to write these, not even as references.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out.push_str(&format!("</{name}>\n"));
}

#[cfg(test)]
pub(crate) mod tests {
    use daemon::config::AggregateReports;

    use super::super::period::Limits;
    use super::super::row::{read, tests::observation};
    use super::*;

    pub(crate) fn meta() -> Meta {
        Meta {
            organization: "R & D <x>".into(),
            email: "dmarc@example.test".into(),
            contact: None,
            id: "0123abcd".into(),
            begin: 0,
            end: 86_400,
            domain: "a.example".into(),
            unlisted: 0,
        }
    }

    fn document_of(observation: ipc::observation::Observation) -> String {
        let mut period = period::Period::new(0, Limits::new(&AggregateReports::default()));
        let (domain, published, row) = read(observation).unwrap();
        period.note(&domain, published, row).unwrap();
        let bucket = &period.domains[&domain];
        document(&meta(), bucket.published.as_ref().unwrap(), bucket)
    }

    #[test]
    fn a_row_is_told_in_the_order_of_the_schema() {
        let document = document_of(observation("a.example", [192, 0, 2, 1]));
        let record = document.split_once("<record>").unwrap().1;
        let text: String = record.lines().collect();
        assert!(
            text.starts_with(
                "<row><source_ip>192.0.2.1</source_ip><count>1</count><policy_evaluated><disposition>reject</disposition>\
                 <dkim>fail</dkim><spf>pass</spf></policy_evaluated></row><identifiers><envelope_to>example.test</envelope_to>\
                 <envelope_from>bounce.example</envelope_from><header_from>a.example</header_from></identifiers><auth_results><dkim>\
                 <domain>d.example</domain><selector>s1</selector><result>fail</result></dkim><spf><domain>bounce.example</domain>\
                 <scope>mfrom</scope><result>softfail</result></spf></auth_results></record>"
            ),
            "{text}"
        );
        assert!(document.contains("<org_name>R &amp; D &lt;x&gt;</org_name>"));
        assert!(!document.contains("<error>"));
    }

    // HOSTILE 23.
    #[test]
    fn hostile_text_stays_text() {
        let plain = document_of(observation("a.example", [192, 0, 2, 1]));
        let hostile = "]]><row a='\"'>&lt;\u{0}\u{1b}\u{85}\u{ffff}\r\n</feedback><![CDATA[é";
        let mut observation = observation("a.example", [192, 0, 2, 1]);
        observation.header_from = hostile.into();
        observation.envelope_from = hostile.into();
        observation.envelope_to = Some(hostile.into());
        observation.spf_domain = hostile.into();
        observation.signatures[0].domain = hostile.into();
        observation.signatures[0].selector = hostile.into();
        let document = document_of(observation);
        for mark in ['<', '>'] {
            assert_eq!(document.matches(mark).count(), plain.matches(mark).count());
        }
        let escaped =
            "]]&gt;&lt;row a=&apos;&quot;&apos;&gt;&amp;lt;??????&lt;/feedback&gt;&lt;![CDATA[é";
        assert_eq!(document.matches(escaped).count(), 6, "{document}");
        assert!(!document.chars().any(|c| c.is_control() && c != '\n'));
    }
}
