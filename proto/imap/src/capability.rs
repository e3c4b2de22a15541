//! What this server can do, as CAPABILITY says it, and what of it an account can do without.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a client may do about logging in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Nothing before STARTTLS.
    AfterTls,
    /// Log in, with or without STARTTLS first.
    NowOrAfterTls,
    /// Log in.
    Now,
    /// The same, also with a login that is bound to the TLS session.
    NowAndBound,
}

/// The capabilities before login.
// RFC 3501 §6.2.3: LOGINDISABLED where LOGIN would be refused; §7.2.1: IMAP4rev1 is always listed.
#[must_use]
pub const fn before_login(login: Login) -> &'static str {
    match login {
        Login::AfterTls => {
            "IMAP4rev1 IMAP4rev2 LITERAL+ ID ENABLE UTF8=ACCEPT STARTTLS LOGINDISABLED"
        }
        Login::NowOrAfterTls => {
            "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE UTF8=ACCEPT STARTTLS AUTH=SCRAM-SHA-256 AUTH=OAUTHBEARER AUTH=XOAUTH2 AUTH=PLAIN"
        }
        Login::Now => {
            "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE UTF8=ACCEPT AUTH=SCRAM-SHA-256 AUTH=OAUTHBEARER AUTH=XOAUTH2 AUTH=PLAIN AUTH=LOGIN"
        }
        Login::NowAndBound => {
            "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE UTF8=ACCEPT AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=OAUTHBEARER AUTH=XOAUTH2 AUTH=PLAIN AUTH=LOGIN"
        }
    }
}

/// The same list to a client that has shown a certificate.
#[must_use]
pub fn with_certificate(before_login: &str) -> String {
    before_login.replacen("AUTH=", "AUTH=EXTERNAL AUTH=", 1)
}

/// What is offered after login, one capability a line. The order is that of the answer.
const AFTER_LOGIN: &[&str] = &[
    "IMAP4rev1",
    "IMAP4rev2",
    "LITERAL+",
    "ID",
    "ENABLE",
    "UTF8=ACCEPT",
    "NAMESPACE",
    "IDLE",
    "NOTIFY",
    "UNSELECT",
    "UIDPLUS",
    "MOVE",
    "CHILDREN",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "STATUS=SIZE",
    "ACL",
    "RIGHTS=kxte",
    "LIST-MYRIGHTS",
    "QUOTA",
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
    "QUOTA=RES-MAILBOX",
    "METADATA",
    "METADATA-SERVER",
    "LIST-METADATA",
    "OBJECTID",
    "SAVEDATE",
    "BINARY",
    "CONDSTORE",
    "QRESYNC",
    "ESEARCH",
    "SEARCHRES",
    "MULTISEARCH",
    "WITHIN",
    "PARTIAL",
    "UIDONLY",
    "UIDBATCHES",
    "MESSAGELIMIT",
    "SAVELIMIT",
    "SEARCH=FUZZY",
    "SORT",
    "SORT=DISPLAY",
    "ESORT",
    "CONTEXT=SEARCH",
    "CONTEXT=SORT",
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    "THREAD=REFS",
    "I18NLEVEL=1",
    "COMPRESS=DEFLATE",
    "UNAUTHENTICATE",
    "INPROGRESS",
    "APPENDLIMIT",
    "MULTIAPPEND",
    "CATENATE",
    "REPLACE",
    "PREVIEW",
];

/// How many messages one command is about at most (RFC 9738); `None` where there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Any command of those that §3.1 names.
    pub any: Option<u32>,
    /// COPY and APPEND.
    pub saving: Option<u32>,
}

impl Limits {
    /// What of them counts where something is switched off. A client that does not know that there is a limit is spared it: what it
    /// gets less it would never miss.
    #[must_use]
    pub fn without(self, off: Off) -> Self {
        let any = self.any.filter(|_| !off.has("MESSAGELIMIT"));
        let saving = self.saving.filter(|_| !off.has("SAVELIMIT"));
        Self {
            any,
            saving: any.or(saving),
        }
    }
}

/// What belongs to the protocol as it is spoken here, and cannot be switched off.
const FIXED: &[&str] = &["IMAP4rev1", "LITERAL+"];

/// What is of no use without another: it is off where that is. Those that others need come first.
const NEEDS: &[(&str, &str)] = &[
    ("CREATE-SPECIAL-USE", "SPECIAL-USE"),
    ("LIST-STATUS", "LIST-EXTENDED"),
    ("LIST-METADATA", "LIST-EXTENDED"),
    ("LIST-METADATA", "METADATA"),
    ("RIGHTS=kxte", "ACL"),
    ("LIST-MYRIGHTS", "ACL"),
    ("LIST-MYRIGHTS", "LIST-EXTENDED"),
    ("METADATA-SERVER", "METADATA"),
    ("QUOTA=RES-STORAGE", "QUOTA"),
    ("QUOTA=RES-MESSAGE", "QUOTA"),
    ("QUOTA=RES-MAILBOX", "QUOTA"),
    ("QRESYNC", "CONDSTORE"),
    ("QRESYNC", "ENABLE"),
    ("SEARCHRES", "ESEARCH"),
    ("MULTISEARCH", "ESEARCH"),
    ("PARTIAL", "ESEARCH"),
    ("SORT=DISPLAY", "SORT"),
    ("ESORT", "SORT"),
    ("ESORT", "ESEARCH"),
    ("UIDONLY", "ENABLE"),
    ("CONTEXT=SEARCH", "PARTIAL"),
    ("CONTEXT=SORT", "CONTEXT=SEARCH"),
    ("CONTEXT=SORT", "ESORT"),
    ("UTF8=ACCEPT", "ENABLE"),
    // What RFC 9051 has taken in (appendix E).
    ("IMAP4rev2", "ENABLE"),
    ("IMAP4rev2", "NAMESPACE"),
    ("IMAP4rev2", "IDLE"),
    ("IMAP4rev2", "UNSELECT"),
    ("IMAP4rev2", "UIDPLUS"),
    ("IMAP4rev2", "MOVE"),
    ("IMAP4rev2", "CHILDREN"),
    ("IMAP4rev2", "SPECIAL-USE"),
    ("IMAP4rev2", "LIST-EXTENDED"),
    ("IMAP4rev2", "LIST-STATUS"),
    ("IMAP4rev2", "STATUS=SIZE"),
    ("IMAP4rev2", "BINARY"),
    ("IMAP4rev2", "ESEARCH"),
    ("IMAP4rev2", "SEARCHRES"),
];

/// Extensions that an account is not offered: its client cannot cope with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Off(u128);

// A bit for each.
const _: () = assert!(AFTER_LOGIN.len() <= 128);

impl Off {
    /// Those of `names` that can be switched off, with all that is of no use without them. Other names are passed over.
    #[must_use]
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut off = Self::default();
        for name in names {
            off.add(name);
        }
        for (name, needed) in NEEDS {
            if off.has(needed) {
                off.add(name);
            }
        }
        off
    }

    fn add(&mut self, name: &str) {
        if let Some(name) = switchable(name) {
            self.0 |= bit(name);
        }
    }

    /// Whether this one is off.
    #[must_use]
    pub fn has(self, name: &str) -> bool {
        self.0 & bit(name) != 0
    }

    /// Whether everything is offered.
    #[must_use]
    pub const fn is_nothing(self) -> bool {
        self.0 == 0
    }
}

fn bit(name: &str) -> u128 {
    let place = AFTER_LOGIN.iter().position(|known| *known == name);
    place.map_or(0, |place| 1 << place)
}

/// An extension that can be switched off, as it is written in CAPABILITY; the name may be in any case.
#[must_use]
pub fn switchable(name: &str) -> Option<&'static str> {
    all_switchable().find(|known| known.eq_ignore_ascii_case(name))
}

/// All extensions that can be switched off.
pub fn all_switchable() -> impl Iterator<Item = &'static str> {
    let all = AFTER_LOGIN.iter().copied();
    all.filter(|name| !FIXED.contains(name))
}

/// The capabilities after login, where no message is larger than `append_limit` bytes.
#[must_use]
pub fn after_login(off: Off, append_limit: u32, limits: Limits) -> String {
    let limits = limits.without(off);
    let offered = AFTER_LOGIN.iter().filter(|name| !off.has(name));
    let written = offered.filter_map(|name| match *name {
        // RFC 7889 §2: with a number it is the same for all mailboxes.
        "APPENDLIMIT" => Some(format!("APPENDLIMIT={append_limit}").into()),
        "MESSAGELIMIT" => limits.any.map(|most| format!("MESSAGELIMIT={most}").into()),
        // RFC 9738 §3: for servers that limit nothing else.
        "SAVELIMIT" if limits.any.is_some() => None,
        "SAVELIMIT" => limits.saving.map(|most| format!("SAVELIMIT={most}").into()),
        name => Some(Cow::Borrowed(name)),
    });
    written.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_switched_off_takes_along_what_needs_it() {
        let off = Off::of(["condstore", "ESEARCH", "IMAP4rev1", "NEVER-HEARD-OF"]);
        let list = after_login(off, 1000, Limits::default());
        let has = |name: &str| list.split(' ').any(|known| known == name);
        for gone in [
            "CONDSTORE",
            "QRESYNC",
            "ESEARCH",
            "ESORT",
            "SEARCHRES",
            "PARTIAL",
            "CONTEXT=SEARCH",
            "CONTEXT=SORT",
        ] {
            assert!(!has(gone) && off.has(gone), "{gone}");
        }
        assert!(has("IMAP4rev1") && has("SORT") && has("ENABLE"));
        let all = after_login(Off::default(), 1000, limits(Some(2000), None));
        let all = all.replace("APPENDLIMIT=1000", "APPENDLIMIT");
        let all = all.replace("MESSAGELIMIT=2000", "MESSAGELIMIT SAVELIMIT");
        assert_eq!(all, AFTER_LOGIN.join(" "));
        assert!(Off::of([]).is_nothing() && !off.is_nothing());
    }

    fn limits(any: Option<u32>, saving: Option<u32>) -> Limits {
        Limits { any, saving }
    }

    // RFC 9738 §3.
    #[test]
    fn one_limit_is_told_and_only_where_it_counts() {
        let told = |limits, off| {
            let list = after_login(Off::of([off]), 1, limits);
            let names = list.split(' ').filter(|name| name.contains("ELIMIT="));
            names.map(String::from).collect::<Vec<_>>()
        };
        let nothing: [&str; 0] = [];
        assert_eq!(told(limits(None, None), ""), nothing);
        assert_eq!(told(limits(Some(5), Some(9)), ""), ["MESSAGELIMIT=5"]);
        assert_eq!(told(limits(None, Some(9)), ""), ["SAVELIMIT=9"]);
        assert_eq!(told(limits(None, Some(9)), "SAVELIMIT"), nothing);
        assert_eq!(told(limits(Some(5), None), "MESSAGELIMIT"), nothing);
        let both = limits(Some(5), Some(9));
        assert_eq!(both.without(Off::default()), limits(Some(5), Some(5)));
        assert_eq!(
            both.without(Off::of(["MESSAGELIMIT"])),
            limits(None, Some(9))
        );
    }

    #[test]
    fn a_certificate_is_offered_as_a_login_before_all_else() {
        let list = with_certificate(before_login(Login::NowAndBound));
        assert!(list.contains(" AUTH=EXTERNAL AUTH=SCRAM-SHA-256-PLUS AUTH="));
        assert_eq!(list.matches("EXTERNAL").count(), 1);
    }

    #[test]
    fn tables_name_only_what_is_offered_and_nothing_twice() {
        let named = NEEDS.iter().flat_map(|(name, needed)| [name, needed]);
        for name in named.chain(FIXED) {
            assert!(AFTER_LOGIN.contains(name), "{name}");
        }
        for (place, name) in AFTER_LOGIN.iter().enumerate() {
            assert_eq!(bit(name), 1 << place, "{name}");
        }
        // One pass over the table is enough.
        for (place, (name, _)) in NEEDS.iter().enumerate() {
            let used = NEEDS[..place].iter().any(|(_, needed)| needed == name);
            assert!(!used, "{name}");
        }
    }
}
