//! Sender rewriting (SRS): foreign senders get an address of ours when an alias passes their mail on, because their domains let
//! only their own servers send for them (SPF). A report to such an address goes back to the sender.
//!
//! The forms are those of Shevek's scheme, which libsrs2 and postsrsd write too; only the hash is our own business:
//!
//! ```text
//! SRS0=hash=day=domain=local@ours     local@domain
//! SRS0=hash=day==number@ours          a sender that would be too long so; it is kept here
//! SRS1=hash=host=rest@ours            SRS0rest@host: somebody else has rewritten it before, and knows how old it is
//! ```
//! Nobody can make one without the key, so nobody can send through us with them but to who has sent through us before.

use ipc::Refusal;
use mail::address::{Address, AddressError, Domain};
use rusqlite::{Connection, OptionalExtension, params};
use subtle::ConstantTimeEq;
use tracing::warn;

use super::{Accounts, password};
use crate::clock;
use crate::fault::OrFault;

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters of a hash, five bits each: a guess is right once in 2⁴⁰.
const HASH: usize = 8;
/// Days are counted to here, in two characters.
const DAYS: u32 = 1024;
/// Long senders kept at once.
const MAX_KEPT: i64 = 100_000;
const KEY: usize = 32;

/// What hashes are made with. It never changes, so that reports find back.
pub(super) struct Key(Vec<u8>);

impl Key {
    /// The key of this database, made at the first time.
    ///
    /// # Errors
    /// A text for the admin.
    pub(super) fn of(database: &Connection) -> Result<Self, String> {
        let explain =
            |error: rusqlite::Error| format!("cannot read the key of rewritten senders: {error}");
        let mut fresh = vec![0; KEY];
        getrandom::fill(&mut fresh).map_err(|error| format!("cannot get random bytes: {error}"))?;
        database
            .execute(
                "INSERT INTO srs_key (secret) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM srs_key)",
                [fresh],
            )
            .map_err(explain)?;
        database
            .query_row("SELECT secret FROM srs_key", [], |row| row.get(0))
            .map(Self)
            .map_err(explain)
    }

    /// Mail systems on the way may change letter case, so it does not count.
    fn hash(&self, text: &str) -> String {
        let mac = password::mac(&self.0, text.to_lowercase().as_bytes());
        // Five bytes are eight characters.
        let number = mac
            .iter()
            .take(HASH * 5 / 8)
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        (0..HASH)
            .map(|at| letter(number >> (5 * (HASH - 1 - at))))
            .collect()
    }

    fn sign(&self, form: &str, rest: &str) -> String {
        format!("{form}={}={rest}", self.hash(&format!("{form}={rest}")))
    }

    /// What stands behind the hash, if that is ours.
    fn verify<'a>(&self, form: &str, signed: &'a str) -> Option<&'a str> {
        let (hash, rest) = signed.split_once('=')?;
        let ours = self.hash(&format!("{form}={rest}"));
        let is_ours: bool = ours
            .as_bytes()
            .ct_eq(hash.to_ascii_lowercase().as_bytes())
            .into();
        is_ours.then_some(rest)
    }
}

/// What a local part says if it is a rewritten address: anybody's, not only ours.
#[derive(Debug, PartialEq, Eq)]
enum Form<'a> {
    /// Behind `SRS0`, with the separator, which may be another one elsewhere.
    First(&'a str),
    /// Behind `SRS1=`.
    Further(&'a str),
}

fn form(local: &str) -> Option<Form<'_>> {
    let (name, rest) = local.split_at_checked(4)?;
    let is_separated = rest.starts_with(['=', '+', '-']);
    if name.eq_ignore_ascii_case("SRS0") && is_separated {
        Some(Form::First(rest))
    } else if name.eq_ignore_ascii_case("SRS1") && is_separated {
        rest.get(1..).map(Form::Further)
    } else {
        None
    }
}

impl Accounts {
    /// The address under which a message of `sender` is passed on: its own if its domain is ours.
    pub(crate) fn rewrite_sender(&self, sender: &Address) -> Result<Address, Refusal> {
        let Some(domain) = &self.policy.srs_domain else {
            return Ok(sender.clone());
        };
        let is_ours = sender.domain() == domain
            || self
                .ours(sender.domain().as_str())?
                .is_some_and(|ours| !ours.is_backup());
        if is_ours {
            return Ok(sender.clone());
        }
        match self.rewritten(sender, domain, today()) {
            Ok(address) => Ok(address),
            Err(AddressError::LocalPartTooLong | AddressError::TooLong) => {
                self.rewrite_long(sender, domain, today())
            }
            Err(error) => {
                warn!(%sender, %error, "a sender that cannot be rewritten passes as it is");
                Ok(sender.clone())
            }
        }
    }

    fn rewritten(
        &self,
        sender: &Address,
        ours: &Domain,
        day: u32,
    ) -> Result<Address, AddressError> {
        let host = sender.domain();
        let local = match form(sender.local()) {
            // That server knows the way back; in between others would only make it longer.
            Some(Form::First(rest)) => self.srs_key.sign("SRS1", &format!("{host}={rest}")),
            Some(Form::Further(signed)) => match signed.split_once('=') {
                Some((_, rest)) if is_further(rest) => self.srs_key.sign("SRS1", rest),
                _ => self.first(sender, day),
            },
            None => self.first(sender, day),
        };
        Address::new(&local, ours.clone())
    }

    fn first(&self, sender: &Address, day: u32) -> String {
        let rest = format!("{}={}={}", stamp(day), sender.domain(), sender.local());
        self.srs_key.sign("SRS0", &rest)
    }

    fn rewrite_long(&self, sender: &Address, ours: &Domain, day: u32) -> Result<Address, Refusal> {
        let Some(number) = self.keep_sender(sender, day)? else {
            warn!(%sender, "too many long senders are kept; this one passes as it is");
            return Ok(sender.clone());
        };
        let rest = format!("{}=={number}", stamp(day));
        Address::new(&self.srs_key.sign("SRS0", &rest), ours.clone()).map_err(|error| {
            warn!(%sender, %error, "a sender cannot be rewritten");
            Refusal::StorageFault
        })
    }

    /// Keeps a sender for as long as reports may come; its number, or `None` if there are too many.
    fn keep_sender(&self, sender: &Address, day: u32) -> Result<Option<i64>, Refusal> {
        let text = sender.to_string();
        // Nothing that is known of aliases changes with it.
        let mut database = self.database_of_senders();
        let change = database.transaction().or_fault("keep a sender")?;
        let known = change
            .query_row(
                "SELECT id FROM srs_senders WHERE address = ?1 AND day = ?2",
                params![text, day],
                |row| row.get(0),
            )
            .optional()
            .or_fault("keep a sender")?;
        if known.is_some() {
            return Ok(known);
        }
        let oldest = day.saturating_sub(u32::from(self.policy.srs_days));
        change
            .execute("DELETE FROM srs_senders WHERE day < ?1", [oldest])
            .or_fault("keep a sender")?;
        let kept: i64 = change
            .query_row("SELECT count(*) FROM srs_senders", [], |row| row.get(0))
            .or_fault("keep a sender")?;
        if kept >= MAX_KEPT {
            return Ok(None);
        }
        let number = change
            .query_row(
                "INSERT INTO srs_senders (address, day) VALUES (?1, ?2)
                 ON CONFLICT (address) DO UPDATE SET day = excluded.day RETURNING id",
                params![text, day],
                |row| row.get(0),
            )
            .or_fault("keep a sender")?;
        change.commit().or_fault("keep a sender")?;
        Ok(Some(number))
    }

    /// Whom a rewritten address of ours stands for; `None` if it is no such address.
    ///
    /// As with postsrsd it does not matter who writes to it: automatic answers do not all come from the null sender.
    pub(super) fn original_sender(&self, address: &Address) -> Result<Option<Address>, Refusal> {
        if self.policy.srs_domain.as_ref() != Some(address.domain()) {
            return Ok(None);
        }
        let Some(form) = form(address.local()) else {
            return Ok(None);
        };
        let original = match form {
            Form::First(rest) => self.undo_first(rest, today())?,
            Form::Further(signed) => match self.undo_further(signed) {
                // It went out from here, and came back from whoever passed it on.
                Some(first) if first.domain() == address.domain() => {
                    match self::form(first.local()) {
                        Some(Form::First(rest)) => self.undo_first(rest, today())?,
                        Some(Form::Further(_)) | None => None,
                    }
                }
                original => original,
            },
        };
        // Never the business of a catch-all, either: the address is forged or too old.
        original.map(Some).ok_or(Refusal::NoSuchUser)
    }

    fn undo_first(&self, rest: &str, today: u32) -> Result<Option<Address>, Refusal> {
        let read = || {
            let rest = self.srs_key.verify("SRS0", rest.strip_prefix('=')?)?;
            let (stamp, rest) = rest.split_once('=')?;
            let (domain, local) = rest.split_once('=')?;
            let age = (today % DAYS + DAYS - day_of(stamp)?) % DAYS;
            (age <= u32::from(self.policy.srs_days)).then_some((domain, local))
        };
        match read() {
            None => Ok(None),
            Some(("", number)) => match number.parse() {
                Ok(number) => self.kept_sender(number),
                Err(_) => Ok(None),
            },
            Some((domain, local)) => Ok(together(local, domain)),
        }
    }

    fn undo_further(&self, signed: &str) -> Option<Address> {
        let rest = self.srs_key.verify("SRS1", signed)?;
        let (host, rest) = rest.split_once('=')?;
        together(&format!("SRS0{rest}"), host)
    }

    fn kept_sender(&self, number: i64) -> Result<Option<Address>, Refusal> {
        let text: Option<String> = self
            .database()
            .query_row(
                "SELECT address FROM srs_senders WHERE id = ?1",
                [number],
                |row| row.get(0),
            )
            .optional()
            .or_fault("read a sender")?;
        Ok(text.and_then(|text| Address::parse(&text).ok()))
    }
}

/// Whether this stands behind the hash of a `SRS1`: a host, and what stood behind its `SRS0`.
fn is_further(rest: &str) -> bool {
    rest.split_once('=').is_some_and(|(host, rest)| {
        Domain::parse(host).is_ok() && rest.starts_with(['=', '+', '-'])
    })
}

fn together(local: &str, domain: &str) -> Option<Address> {
    Address::new(local, Domain::parse(domain).ok()?).ok()
}

fn today() -> u32 {
    u32::try_from(clock::seconds() / 86_400).unwrap_or(0)
}

fn stamp(day: u32) -> String {
    [day >> 5, day]
        .map(|five| letter(u64::from(five)))
        .iter()
        .collect()
}

fn day_of(stamp: &str) -> Option<u32> {
    let digit = |byte: u8| {
        let at = BASE32
            .iter()
            .position(|letter| *letter == byte.to_ascii_lowercase())?;
        u32::try_from(at).ok()
    };
    match stamp.as_bytes() {
        [high, low] => Some(digit(*high)? << 5 | digit(*low)?),
        _ => None,
    }
}

/// The letter for the lowest five bits.
fn letter(bits: u64) -> char {
    let at = usize::try_from(bits & 31).unwrap_or(0);
    BASE32.get(at).map_or('a', |byte| char::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::super::Policy;
    use super::super::world::World;
    use super::*;
    use ipc::control::AliasKind;

    fn world() -> World {
        let world = World::with(Policy {
            home: "a.example".into(),
            srs_domain: Some(Domain::parse("a.example").unwrap()),
            srs_days: 21,
            ..Policy::default()
        });
        // It would take whatever is not recognized.
        world.alias(AliasKind::CatchAll, "", &["rest@c.example"]);
        world
    }

    fn parse(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn rewrite(world: &World, sender: &str) -> Address {
        world.accounts.rewrite_sender(&parse(sender)).unwrap()
    }

    fn back(world: &World, address: &Address) -> Result<Vec<String>, Refusal> {
        world.resolve(&address.to_string())
    }

    #[test]
    fn a_foreign_sender_gets_an_address_of_ours_that_leads_back() {
        let world = world();
        for sender in [
            "User.Name@far.example",
            "a=b+c=d@far.example",
            "\"a b\"@far.example",
            "grüße@far.example",
            "x@[192.0.2.1]",
            "SRS2=x@far.example",
            "SRS1=no@far.example",
        ] {
            let rewritten = rewrite(&world, sender);
            assert_eq!(rewritten.domain().as_str(), "a.example");
            assert!(rewritten.local().starts_with("SRS0="), "{rewritten}");
            assert_eq!(back(&world, &rewritten), Ok(vec![sender.to_owned()]));
        }
        let local = rewrite(&world, "user@far.example").local().to_owned();
        let parts: Vec<_> = local.split('=').collect();
        let [_, hash, day, "far.example", "user"] = parts.as_slice() else {
            panic!("{local}");
        };
        assert_eq!((hash.len(), day.len()), (8, 2));
    }

    #[test]
    fn our_own_senders_stay_as_they_are() {
        let world = world();
        for sender in ["alice@a.example", "x@b.example"] {
            assert_eq!(rewrite(&world, sender).to_string(), sender);
        }
    }

    #[test]
    fn what_was_rewritten_elsewhere_leads_back_over_whoever_did_it_first() {
        let world = world();
        let first = "SRS0+aBc=xy=home.example=user@one.example";
        let further = rewrite(&world, first);
        let local = further.local().to_owned();
        assert!(local.starts_with("SRS1="), "{local}");
        assert!(
            local.ends_with("=one.example=+aBc=xy=home.example=user"),
            "{local}"
        );
        assert_eq!(back(&world, &further), Ok(vec![first.to_owned()]));
        // As postsrsd 1.10 writes it.
        let theirs = "SRS0=+F/p=JQ=far.example=user@post.example";
        assert_eq!(
            back(&world, &rewrite(&world, theirs)),
            Ok(vec![theirs.to_owned()])
        );
        // A chain does not grow: the host between the first and us is left out.
        let between = "SRS1=hash=one.example==abc=xy=home.example=user@two.example";
        let further = rewrite(&world, between);
        assert_eq!(
            back(&world, &further),
            Ok(vec!["SRS0=abc=xy=home.example=user@one.example".to_owned()])
        );
    }

    #[test]
    fn what_comes_round_to_us_again_leads_back_to_who_wrote_it() {
        let world = world();
        let first = rewrite(&world, "user@far.example");
        // As postsrsd rewrites it.
        let rest = first.local().strip_prefix("SRS0").unwrap();
        let between = format!("SRS1=hash=a.example={rest}@post.example");
        let again = rewrite(&world, &between);
        assert!(again.local().starts_with("SRS1="), "{again}");
        assert_eq!(
            back(&world, &again),
            Ok(vec!["user@far.example".to_owned()])
        );
        let forged = between.replace("far.example", "victim.example");
        let again = rewrite(&world, &forged);
        assert_eq!(back(&world, &again), Err(Refusal::NoSuchUser));
    }

    #[test]
    fn a_sender_that_would_be_too_long_is_kept() {
        let world = world();
        let long = format!("{}@bounces.far.example", "0100018c-".repeat(6));
        let rewritten = rewrite(&world, &long);
        assert!(rewritten.local().len() < 40, "{rewritten}");
        assert_eq!(back(&world, &rewritten), Ok(vec![long.clone()]));
        assert_eq!(rewrite(&world, &long), rewritten);
        let other = rewrite(&world, &long.replace("0100", "0200"));
        assert_ne!(other, rewritten);
        let kept = world.accounts.keep_sender(&parse(&long), today() + 30);
        assert!(kept.unwrap().is_some());
        assert_eq!(back(&world, &other), Err(Refusal::NoSuchUser));
    }

    #[test]
    fn letter_case_may_be_lost_on_the_way() {
        let world = world();
        let rewritten = rewrite(&world, "User@far.example");
        let lost = Address::new(
            &rewritten.local().to_lowercase(),
            rewritten.domain().clone(),
        );
        assert_eq!(
            back(&world, &lost.unwrap()),
            Ok(vec!["user@far.example".to_owned()])
        );
    }

    #[test]
    fn what_we_did_not_write_leads_nowhere() {
        let world = world();
        let good = rewrite(&world, "user@far.example").local().to_owned();
        let mut forged = vec![
            good.replace("far", "victim"),
            good.replace("=user", "=other"),
            good.replace("SRS0", "SRS1"),
            good.replacen('=', "+", 1),
            good.chars().take(10).collect(),
            "SRS0=".into(),
            "SRS0==".into(),
            "SRS0====".into(),
            "SRS0=aaaaaaaa=aa==1".into(),
            "SRS1=aaaaaaaa=victim.example==x".into(),
            "SRS1==victim.example==x".into(),
        ];
        // Each character of the hash counts.
        for at in 5..13 {
            let mut other = good.clone().into_bytes();
            other[at] = if other[at] == b'a' { b'b' } else { b'a' };
            forged.push(String::from_utf8(other).unwrap());
        }
        for local in forged {
            let address = Address::new(&local, Domain::parse("a.example").unwrap()).unwrap();
            assert_eq!(back(&world, &address), Err(Refusal::NoSuchUser), "{local}");
        }
        // At another domain of ours it is a name like any other.
        let elsewhere = Address::new(&good, Domain::parse("b.example").unwrap()).unwrap();
        assert_eq!(back(&world, &elsewhere), Err(Refusal::NoSuchUser));
        // Another store has another key.
        let address = Address::new(&good, Domain::parse("a.example").unwrap()).unwrap();
        assert!(back(&world, &address).is_ok());
        assert_eq!(back(&self::world(), &address), Err(Refusal::NoSuchUser));
    }

    #[test]
    fn an_address_ends_after_the_days_of_the_configuration() {
        let world = world();
        let ours = Domain::parse("a.example").unwrap();
        let sender = parse("user@far.example");
        for day in [20_000, 1023, 1024, 2047] {
            let rewritten = world.accounts.rewritten(&sender, &ours, day).unwrap();
            let rest = rewritten.local().strip_prefix("SRS0").unwrap();
            let read = |today| world.accounts.undo_first(rest, today).unwrap();
            assert_eq!(read(day), Some(sender.clone()));
            assert_eq!(read(day + 21), Some(sender.clone()));
            assert_eq!(read(day + 22), None);
            assert_eq!(read(day - 1), None);
        }
    }

    #[test]
    fn the_key_outlives_the_process() {
        let temp = tempfile::tempdir().unwrap();
        let key = || {
            let database = super::super::schema::open(&temp.path().join("accounts.db")).unwrap();
            Key::of(&database).unwrap().0
        };
        assert_eq!(key(), key());
    }

    #[test]
    fn a_known_answer_is_given() {
        // HMAC-SHA-256 of "srs0=aa=far.example=user" with 32 NULs, by Python's hmac and base64.b32encode.
        let key = Key(vec![0; KEY]);
        assert_eq!(
            key.sign("SRS0", "aa=far.example=user"),
            "SRS0=uqjuelrv=aa=far.example=user"
        );
    }
}
