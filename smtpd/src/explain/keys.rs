//! Which key of the configuration a reply of the machine comes from, which knows limits and no keys.

/// The key; `None` for replies that no key changes.
pub(super) fn of(reply: &str) -> Option<&'static str> {
    const KEYS: [(&str, &str); 16] = [
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
        ("timed out", "smtp.command_timeout_seconds"),
        ("relay not permitted", "rmailctl domain add"),
    ];
    let known = KEYS.iter().find(|(words, _)| reply.contains(words));
    known.map(|(_, key)| *key)
}
