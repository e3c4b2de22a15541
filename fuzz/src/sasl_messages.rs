//! Messages of logins: what was read of one, written again, is the same message, so nothing in it was passed over.

use sasl::bearer::{parse_oauthbearer, parse_xoauth2};
use sasl::scram::{ClientFinal, ClientFirst, Flag};

/// # Panics
/// When a property does not hold.
pub fn check(message: &[u8]) {
    if let Ok(first) = ClientFirst::parse(message) {
        check_first(&first, message);
    }
    if let Ok(last) = ClientFinal::parse(message) {
        let proof = mail::encode::base64(&last.proof);
        let whole = format!("{},p={proof}", last.without_proof);
        assert_eq!(whole.as_bytes(), message, "the last message");
        let binding = mail::encode::base64(&last.binding);
        let head = format!("c={binding},r={}", last.nonce);
        assert!(whole.starts_with(&head), "binding and nonce");
    }
    for bearer in [parse_oauthbearer(message), parse_xoauth2(message)]
        .into_iter()
        .flatten()
    {
        let token = bearer.token.octets();
        assert!(!token.is_empty() && token.iter().all(u8::is_ascii_graphic));
        assert!(message.windows(token.len()).any(|part| part == token));
        let user = bearer.user.unwrap_or_else(|| "nobody".to_owned());
        assert!(!user.is_empty() && !user.contains('\0'), "the user");
    }
}

fn check_first(first: &ClientFirst, message: &[u8]) {
    let flag = match &first.flag {
        Flag::Unable => "n".to_owned(),
        Flag::NotOffered => "y".to_owned(),
        Flag::Bound(name) => format!("p={name}"),
    };
    let authzid = first.authzid.as_deref();
    let authzid = authzid.map_or(String::new(), |name| format!("a={}", escape(name)));
    assert_eq!(first.header, format!("{flag},{authzid},"), "the header");
    let bare = format!("n={},r={}", escape(&first.user), first.nonce);
    let extensions = first.bare.strip_prefix(&bare).expect("name and nonce");
    assert!(extensions.is_empty() || extensions.starts_with(','));
    let whole = format!("{}{}", first.header, first.bare);
    assert_eq!(whole.as_bytes(), message, "the first message");
}

fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}
