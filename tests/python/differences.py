"""The same messages in two IMAP servers, and all answers about them that are not the same. What docs/dovecot-differences.md lists is known by the
names of RULES; anything else is a difference that nobody has thought about."""

import re
from collections import Counter

SECTIONS = ["", "HEADER", "TEXT", "1", "2", "1.MIME", "1.HEADER", "1.TEXT", "1.1", "1.2", "2.1", "2.MIME", "2.HEADER", "2.TEXT", "2.1.MIME", "1.1.1", "3",
            "HEADER.FIELDS (From Subject To X-None)", "HEADER.FIELDS.NOT (Date From To)", "1.HEADER.FIELDS (Subject)"]
PARTIALS = ["BODY.PEEK[]<0.10>", "BODY.PEEK[TEXT]<5.20>", "BODY.PEEK[1]<3.100000>", "BODY.PEEK[HEADER]<99999.5>"]
ITEMS = ["ENVELOPE", "BODY", "BODYSTRUCTURE", "RFC822.SIZE"] + [f"BODY.PEEK[{section}]" for section in SECTIONS] + PARTIALS
SEARCHES = ["SUBJECT plan", "SUBJECT invoice", "FROM bob", "TO z.test", "CC alice", "BCC x.test", 'HEADER X-Empty ""', "HEADER X-Long yyy",
            "HEADER Message-ID 7@ids", "BODY hello", "BODY tail", "TEXT hello", "TEXT invoice", 'BODY "w3 tail"', "LARGER 2000", "SMALLER 700",
            "SENTSINCE 10-Jan-2020", "SENTBEFORE 10-Jan-2020", "SENTON 9-Jan-2020", "NOT TEXT the", "OR SUBJECT plan BODY hello",
            'FROM "Bob B. Baker"', 'SUBJECT "re"', "HEADER References ids.test", "HEADER Content-Type plain"]
SORTS = ["SUBJECT", "REVERSE SUBJECT", "FROM", "TO", "CC", "DATE", "SIZE", "REVERSE DATE FROM", "DISPLAYFROM", "DISPLAYTO"]
THREADS = ["ORDEREDSUBJECT", "REFERENCES", "REFS"]


def is_tree(item):
    return item in ("ENVELOPE", "BODY", "BODYSTRUCTURE")


def everywhere(change, value):
    """A change of lists, from the innermost on."""
    if isinstance(value, list):
        value = change([everywhere(change, one) for one in value])
    return value


def is_address(value):
    return len(value) == 4 and value[1] is None and all(one is None or isinstance(one, bytes) for one in value)


def without_missing(value):
    """Dovecot's entries for what is no address."""
    def change(some):
        if is_address(some) and some[3] and some[3].upper() in (b"MISSING_DOMAIN", b"SYNTAX_ERROR"):
            return some[:3] + [b""]
        kept = [one for one in some if not (isinstance(one, list) and is_address(one) and (one[2] or b"").upper() == b"MISSING_MAILBOX")]
        kept = [one for one in kept if not (isinstance(one, list) and is_address(one) and one[2] == b"" and one[3] is not None)]
        return kept if kept or not some else None
    return everywhere(change, value)


def trimmed(value):
    """Names of addresses without blanks at their ends."""
    def change(some):
        return [some[0].strip() or None] + some[1:] if is_address(some) and some[0] else some
    return everywhere(change, value)


def joined(value):
    """The pieces of a parameter (RFC 2231 §3) in one, and no duplicates."""
    def change(some):
        names, values = some[::2], some[1::2]
        if len(some) % 2 or not all(isinstance(one, bytes) for one in some):
            return some
        merged = {}
        for name, part in zip(names, values):
            name = re.sub(rb"\*\d+\*?$", b"", name.lower())
            merged[name] = merged.get(name, b"") + part
        return [one for pair in sorted(merged.items()) for one in pair]
    return everywhere(change, value)


def without_charset(value):
    """Parameters without what is the default, and without those that have no name or no value."""
    def change(some):
        if len(some) % 2 or not all(isinstance(one, bytes) for one in some):
            return some
        pairs = [pair for pair in zip(some[::2], some[1::2]) if (pair[0].lower(), pair[1].lower()) != (b"charset", b"us-ascii") and pair[0] and pair[1]]
        return [one for pair in pairs for one in pair] or None
    return everywhere(change, value)


def with_default_type(value):
    """What has no type is text/plain (RFC 2045 §5.2); lines are counted then."""
    def change(some):
        if len(some) >= 7 and isinstance(some[0], bytes) and isinstance(some[1], bytes) and isinstance(some[5], bytes):
            if not some[0] or not some[1] or [one.lower() for one in some[:2]] == [b"text", b"plain"]:
                rest = some[7:]
                rest = rest[1:] if rest and isinstance(rest[0], str) else rest
                return [b"text", b"plain"] + some[2:7] + rest
        return some
    return everywhere(change, value)


def folded(value):
    """In one case, which BODYSTRUCTURE's words do not tell apart."""
    if isinstance(value, list):
        return [folded(one) for one in value]
    return value.lower() if isinstance(value, bytes) else value


def empty(value):
    return value or None


def without_fields_that_are_none(value):
    """Fields, and the empty line behind them."""
    kept, is_field = b"", False
    for line in (value or b"").splitlines(keepends=True):
        if line[:1] not in (b" ", b"\t"):
            is_field = line == b"\r\n" or re.match(rb"[!-9;-~]+[ \t]*:", line) is not None
        kept += line if is_field else b""
    return kept or None


def without_escapes(value):
    """Strings without the backslash that quotes a blank."""
    return everywhere(lambda some: [one.replace(b"\\ ", b" ") if isinstance(one, bytes) else one for one in some], value)


def without_content_fields(ours, theirs, message):
    """What a message says of itself that does not say what it is made of."""
    said = re.search(rb"(?mi)^(mime-version|content-type):", message)
    if said is None and isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs) >= 7 and theirs[5] == b"7bit":
        return ours[:3] + theirs[3:6] + ours[6:]
    return ours


# Name, for which items, and what makes both answers the same. Tried in this order, each on top of those before.
RULES = [
    ("nothing", lambda item: not is_tree(item), empty),
    ("missing", is_tree, without_missing),
    ("case", lambda item: item in ("BODY", "BODYSTRUCTURE"), folded),
    ("names", is_tree, trimmed),
    ("pieces", lambda item: item in ("BODY", "BODYSTRUCTURE"), joined),
    ("charset", lambda item: item in ("BODY", "BODYSTRUCTURE"), without_charset),
    ("types", lambda item: item in ("BODY", "BODYSTRUCTURE"), with_default_type),
    ("escapes", lambda item: item in ("BODY", "BODYSTRUCTURE"), without_escapes),
    ("lines", lambda item: "FIELDS" in item, without_fields_that_are_none),
]

# Messages of the corpus whose trees differ as a whole, and by the name of which difference.
WHOLE = {"address-garbage": "lists", "addresses": "lists", "digest-of-groups": "lists", "text-to-encode": "lists", "long-type": "limits",
         "nested-messages": "limits", "nested-multiparts": "limits", "parameters": "limits", "same-boundary": "limits"}


def has_duplicates(message):
    """Whether a field that there may be once may be there twice."""
    return any(len(re.findall(rb"(?mi)^" + name + rb":", message)) > 1 for name in (b"From", b"Sender", b"Reply-To", b"To", b"Cc", b"Bcc"))


def only_first(ours, theirs):
    """Dovecot's lists of addresses as long as ours, where it goes on with those of a second field."""
    if ours is None and isinstance(theirs, list) and theirs and all(isinstance(one, list) and is_address(one) for one in theirs):
        return None
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return theirs
    is_list = ours and all(isinstance(one, list) and is_address(one) for one in ours)
    if is_list and len(theirs) > len(ours) and theirs[:len(ours)] == ours:
        return ours
    return [only_first(*pair) for pair in zip(ours, theirs)] if len(ours) == len(theirs) else theirs


def without_last_line(ours, theirs):
    """Dovecot's sizes and lines of parts, less the line end that belongs to the delimiter."""
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        changed = [without_last_line(*pair) for pair in zip(ours, theirs)]
        if len(ours) > 7 and isinstance(ours[6], str) and isinstance(theirs[6], str) and int(theirs[6]) == int(ours[6]) + 2:
            lines = max(index for index, one in enumerate(ours) if isinstance(one, str))
            changed[6] = ours[6]
            if int(theirs[lines]) == int(ours[lines]) + 1:
                changed[lines] = ours[lines]
        return changed
    return theirs


def is_below_leaf(item, ours):
    return ours is None and re.search(r"\.1(\.MIME)?\]", item) is not None


def same_by(item, ours, theirs, message, of_corpus):
    """The rules that make two answers the same; `None` if they do not."""
    used = []
    for name, applies, change in RULES:
        if ours == theirs:
            return used
        if applies(item):
            a, b = change(ours), change(theirs)
            if (a, b) != (ours, theirs):
                used.append(name)
            ours, theirs = a, b
    if item in ("BODY", "BODYSTRUCTURE") and without_content_fields(ours, theirs, message) != ours:
        used.append("unsaid")
        ours = without_content_fields(ours, theirs, message)
    if is_tree(item) and has_duplicates(message) and only_first(ours, theirs) != theirs:
        used.append("duplicates")
        theirs = only_first(ours, theirs)
    if is_tree(item) and without_last_line(ours, theirs) != theirs:
        used.append("delimiters")
        theirs = without_last_line(ours, theirs)
    if is_below_leaf(item, ours):
        used.append("leaves")
        theirs = ours
    if isinstance(theirs, bytes) and theirs == (ours or b"") + b"\r\n":
        used.append("delimiters")
        theirs = ours
    if ours != theirs and is_tree(item) and of_corpus in WHOLE:
        return [WHOLE[of_corpus]]
    return used if ours == theirs else None


def fill(connection, name, messages):
    connection.say(f"CREATE {name}")
    for message in messages:
        connection.say(f'APPEND {name} " 1-Jan-2024 00:00:00 +0000"', message)
    connection.say(f"SELECT {name}")


def shown(ours, theirs, messages, names, counts):
    """Answers to FETCH that differ in a way that is not listed: item, number, ours, theirs."""
    for start in range(1, len(messages) + 1, 100):
        end = min(start + 99, len(messages))
        for item in ITEMS:
            mine, other = ours.fetch(f"{start}:{end}", item), theirs.fetch(f"{start}:{end}", item)
            for number in range(start, end + 1):
                a, b = list(mine[number].values())[0], list(other[number].values())[0]
                used = same_by(item, a, b, messages[number - 1], names.get(number))
                if used is None:
                    yield item, number, a, b
                else:
                    counts.update(used)


def threads(answer):
    """An answer to THREAD, in which the order of threads means nothing."""
    text = answer.partition(b"THREAD ")[2].decode()
    nested, waiting = [], []
    for word in re.findall(r"[()]|\d+", text):
        if word == "(":
            waiting.append(nested)
            nested = []
        elif word == ")":
            done, nested = nested, waiting.pop()
            nested.append(done)
        else:
            nested.append(word)

    def order(some):
        inner = [order(one) if isinstance(one, list) else one for one in some]
        return [one for one in inner if isinstance(one, str)] + sorted((one for one in inner if isinstance(one, list)), key=str)
    return order(nested)


def found(ours, theirs, counts):
    """Answers to SEARCH, SORT and THREAD that differ."""
    commands = [f"SEARCH {search}" for search in SEARCHES]
    commands += [f"SORT ({sort}) UTF-8 ALL" for sort in SORTS] + [f"THREAD {thread} UTF-8 ALL" for thread in THREADS]
    for command in commands:
        a, b = (re.sub(rb"\s+", b" ", side.say(command)[0]).strip() for side in (ours, theirs))
        if a != b and command.startswith("THREAD REFS") and threads(a) == threads(b):
            counts.update(["refs"])
        elif a != b:
            yield command, 0, a, b


def compare(ours, theirs, wild, corpus, tame):
    """All differences that are not listed, and how often each rule was needed."""
    counts = Counter()
    names = {number: name for number, name in enumerate(corpus, len(wild) + 1)}
    wild = wild + list(corpus.values())
    for side in (ours, theirs):
        fill(side, "Wild", wild)
    differences = list(shown(ours, theirs, wild, names, counts))
    for side in (ours, theirs):
        fill(side, "Tame", tame)
    return differences + list(found(ours, theirs, counts)), counts
