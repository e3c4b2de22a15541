//! The mail everything is measured with: the same bytes for the same number and size, everywhere.

/// A word that one letter in [`HIT_EVERY`] has in its text.
pub(crate) const WORD: &str = "kranichfeder";
/// A word that none has.
pub(crate) const ABSENT: &str = "quittenmus";
/// How many letters there are for one with [`WORD`].
pub(crate) const HIT_EVERY: u32 = 37;

const WORDS: [&str; 24] = [
    "the", "meeting", "of", "tomorrow", "was", "moved", "to", "room", "and", "please", "bring",
    "your", "report", "about", "harvest", "with", "numbers", "from", "autumn", "letter", "answer",
    "river", "in", "winter",
];

/// A letter of exactly `size` bytes, at least 1,500: headers as mail has them, a text and the same as HTML.
pub(crate) fn letter(number: u32, size: usize) -> Vec<u8> {
    let mut dice = Dice(number.wrapping_mul(2_654_435_761) | 1);
    let (sender, domain) = (dice.word(), dice.word());
    let mut text = format!(
        "Return-Path: <{sender}@{domain}.example>\r\n\
         Received: from mx.{domain}.example (mx.{domain}.example [192.0.2.{host}])\r\n\tby mail.example.test with ESMTPS id {number:08x}; \
         Mon, 02 Mar 2026 10:00:{second:02} +0000\r\n\
         Date: Mon, 02 Mar 2026 09:59:{second:02} +0000\r\n\
         From: \"{sender} of {domain}\" <{sender}@{domain}.example>\r\n\
         To: Alice Example <alice@example.test>\r\n\
         Cc: Bob Example <bob@example.test>\r\n\
         Subject: {} {} number {number}\r\n\
         Message-ID: <{number}.{:08x}@{domain}.example>\r\n\
         In-Reply-To: <{}.parent@{domain}.example>\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/alternative; boundary=\"=-b{number}\"\r\n\r\n\
         --=-b{number}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
        dice.word(),
        dice.word(),
        dice.next(),
        number / 4,
        host = number % 250 + 1,
        second = number % 60,
    );
    if number.is_multiple_of(HIT_EVERY) {
        text.push_str(WORD);
        text.push_str("\r\n");
    }
    let end = format!("\r\n--=-b{number}--\r\n");
    let html = format!(
        "\r\n--=-b{number}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<html><body>\r\n"
    );
    let half = text.len() + (size - text.len() - html.len() - end.len()) / 2;
    dice.fill(&mut text, half);
    text.push_str(&html);
    dice.fill(&mut text, size - end.len());
    text.push_str(&end);
    text.into_bytes()
}

/// xorshift.
struct Dice(u32);

impl Dice {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.next() as usize % WORDS.len()]
    }

    /// Lines of words until the text has exactly `length` bytes.
    fn fill(&mut self, text: &mut String, length: usize) {
        let mut line = 0;
        while text.len() + 16 < length {
            let word = self.word();
            text.push_str(word);
            line += word.len() + 1;
            if line > 66 {
                text.push_str("\r\n");
                line = 0;
            } else {
                text.push(' ');
            }
        }
        while text.len() < length {
            text.push('x');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_has_the_size_asked_for_and_is_the_same_each_time() {
        for (number, size) in [(0, 1500), (37, 4096), (100_000, 65_536)] {
            let bytes = letter(number, size);
            assert_eq!((bytes.len(), &bytes), (size, &letter(number, size)));
        }
    }

    #[test]
    fn one_letter_in_many_has_the_word() {
        let with = |word: &str| {
            let has = |number: &u32| {
                String::from_utf8(letter(*number, 4096))
                    .unwrap()
                    .contains(word)
            };
            (1..=370).filter(has).count()
        };
        assert_eq!((with(WORD), with(ABSENT)), (10, 0));
    }
}
