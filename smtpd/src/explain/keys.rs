//! Which key of the configuration a reply of the machine comes from, which knows limits and no keys.

/// The key; `None` for replies that no key changes.
pub(super) fn of(said: &str, reply: &str) -> Option<&'static str> {
    if reply.contains("parameter not recognized") {
        return said.split_whitespace().find_map(of_parameter);
    }
    const KEYS: [(&str, &str); 18] = [
        ("message larger than", "smtp.max_message_size"),
        ("header of the message is larger", "smtp.max_header_size"),
        ("header of the message has more", "smtp.max_header_fields"),
        ("routing loop", "smtp.max_hops"),
        ("holds a line that is too long", "smtp.max_text_line"),
        ("holds a CR without LF", "smtp.stray_line_ends"),
        ("holds an LF without CR", "smtp.stray_line_ends"),
        ("holds a NUL octet", "smtp.stray_line_ends"),
        ("no more than", "smtp.max_recipients"),
        ("too many recipients, send the rest", "smtp.max_recipients"),
        ("line too long, closing", "smtp.max_command_line"),
        ("too many errors", "smtp.max_bad_commands"),
        ("too many commands without", "smtp.max_idle_commands"),
        ("is switched off here", "relay.enabled"),
        ("are held for no longer than", "smtp.max_hold_seconds"),
        ("BINARYMIME is not offered here", "smtp.binary_mime"),
        ("timed out", "smtp.command_timeout_seconds"),
        ("relay not permitted", "rmailctl domain add"),
    ];
    let known = KEYS.iter().find(|(words, _)| reply.contains(words));
    known.map(|(_, key)| *key)
}

/// What has it that this parameter of MAIL or RCPT is not offered.
fn of_parameter(word: &str) -> Option<&'static str> {
    let keyword = word.split('=').next().unwrap_or_default();
    match keyword.to_ascii_uppercase().as_str() {
        "RET" | "ENVID" | "NOTIFY" | "ORCPT" | "BY" => Some("relay.enabled"),
        "HOLDFOR" | "HOLDUNTIL" => {
            Some("smtp.max_hold_seconds; relay.enabled; only those who log in may")
        }
        "MT-PRIORITY" => Some("relay.enabled; only those who log in may"),
        "REQUIRETLS" => Some("only behind TLS: explain --tls"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_offered_is_named_by_what_was_said() {
        let reply = "5.5.4 parameter not recognized, use what EHLO offers";
        for (said, key) in [
            (
                "MAIL FROM:<a@b.example> SIZE=10 ret=HDRS",
                Some("relay.enabled"),
            ),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER", Some("relay.enabled")),
            ("MAIL FROM:<a@b.example> X-OTHER=1", None),
        ] {
            assert_eq!(of(said, reply), key, "{said}");
        }
        assert_eq!(
            of("RCPT TO:<a@b.example> NOTIFY=NEVER", "no such user"),
            None
        );
    }
}
