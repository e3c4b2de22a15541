//! SORT and THREAD, as Python's `imaplib` asks for them, beside the same worked out in Python: step by step as RFC 5256 has it, from what
//! was put into the messages.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use serde_json::json;
use system_tests::{Options, System, skip_without};

/// 200 letters that answer one another, themselves and nobody, with their marks in all places.
const FILL: &str = r#"
import base64, random, functools
dice = random.Random(5256)
BASES = ["plan", "Plan", "Über den Wolken", "[x]", "привет", "a [b] c", "", "x" * 70]
def dress(base):
    for _ in range(dice.randrange(4)):
        kind = dice.randrange(8)
        base = [f"Re: {base}", f"FWD : {base}", f"[list] {base}", f"{base} (fwd)", f"[Fwd: {base}]", f"re[2]:{base}", f"  {base}", base][kind]
    return base
def write(text):
    """One of the spellings of a text in a header."""
    kind = dice.randrange(4)
    if kind == 0 or not text.strip():
        return text
    if kind == 1:
        return f"=?utf-8?B?{base64.b64encode(text.encode()).decode()}?="
    if kind == 2:
        return "=?utf-8?q?" + "".join(f"={byte:02X}" for byte in text.encode()) + "?="
    return text.replace(" ", "\r\n ", 1) if " " in text.strip() else text
PEOPLE = [("Änne", "anne", "x.test"), ("", "Bob", "y.test"), ("zed", "carol", "x.test"), ("Dora the Third", "bob", "x.test"), None]
def people(person):
    name, local, host = person
    return (f'"{name}" ' if name and name.isascii() else f"{write(name)} " if name else "") + f"<{local}@{host}>, other@z.test"
START = 1_700_000_000
letters = []
def some_id():
    return f"{dice.randrange(160)}@ids.test"
for number in range(200):
    zone = dice.choice([0, 60, -330, 720])
    letter = {
        "number": number + 1,
        "subject": None if dice.random() < 0.05 else dress(dice.choice(BASES)),
        "date": None if dice.random() < 0.1 else START + dice.randrange(90) * 3600,
        "arrival": START + dice.randrange(60) * 7200,
        "id": None if dice.random() < 0.1 else some_id(),
        "references": [some_id() for _ in range(dice.choice([0, 0, 1, 2, 5]))],
        "parent": some_id() if dice.random() < 0.2 else None,
    }
    for field in ("From", "To", "Cc"):
        letter[field] = dice.choice(PEOPLE)
    head = []
    if letter["subject"] is not None:
        head.append(f"Subject: {write(letter['subject'])}")
    if letter["date"] is not None:
        moment = time.strftime("%d %b %Y %H:%M:%S", time.gmtime(letter["date"] + zone * 60))
        head.append(f"Date: {moment} {'-' if zone < 0 else '+'}{abs(zone) // 60:02}{abs(zone) % 60:02}")
    elif dice.random() < 0.5:
        head.append("Date: some day")
    for field in ("From", "To", "Cc"):
        if letter[field]:
            head.append(f"{field}: {people(letter[field])}")
    if letter["id"]:
        local, host = letter["id"].split("@")
        head.append(f'Message-ID: <"{local}"@{host}>' if number % 9 == 0 else f"Message-ID: <{letter['id']}>")
    if letter["references"]:
        head.append("References: " + "\r\n ".join(f"<{one}>" for one in letter["references"]))
    if letter["parent"]:
        head.append(f"In-Reply-To: Your letter <{letter['parent']}> of yesterday")
    dice.shuffle(head)
    message = ("\r\n".join(head + ["X-Fill: " + "y" * dice.randrange(40), "", "text", ""])).encode()
    letter["size"] = len(message)
    letters.append((letter, message))
client = imap()
for letter, message in letters:
    ok(client.append("INBOX", None, imaplib.Time2Internaldate(letter["arrival"]), message))
letters = [letter for letter, _ in letters]
"#;

/// RFC 5256 in Python.
const WORK_OUT: &str = r#"
import unicodedata
BLOB = r"\[[^\[\]]*\] *"
REFWD = rf"(?:re|fwd?) *(?:{BLOB})?:"
def casemap(text):
    """RFC 5051, for letters whose title case is one letter."""
    return "".join(unicodedata.normalize("NFKD", letter.title() if len(letter.title()) == 1 else letter) for letter in text)
def base_subject(text):
    """The text, and whether it is of a reply."""
    text, reply = re.sub(r"[ \t\r\n]+", " ", text or ""), False
    while True:
        while True:
            shorter = re.sub(r"(\(fwd\)| )$", "", text, flags=re.I)
            if shorter == text:
                break
            reply = reply or text[-1] != " "
            text = shorter
        while True:
            found = re.match(rf"(?:{BLOB})*{REFWD}", text, flags=re.I)
            if found:
                reply, text = True, text[found.end():]
            elif text.startswith(" "):
                text = text[1:]
            else:
                found = re.match(BLOB, text)
                if not found or not text[found.end():]:
                    break
                text = text[found.end():]
        if not re.match(r"\[fwd:.*\]$", text, flags=re.I):
            return casemap(text), reply
        reply, text = True, text[5:-1]
def sent(letter):
    return letter["arrival"] if letter["date"] is None else letter["date"]
def display(person):
    return casemap(person[0] or f"{person[1]}@{person[2]}") if person else ""
KEYS = {
    "ARRIVAL": lambda l: l["arrival"],
    "DATE": sent,
    "SIZE": lambda l: l["size"],
    "SUBJECT": lambda l: base_subject(l["subject"])[0],
    "FROM": lambda l: casemap(l["From"][1]) if l["From"] else "",
    "TO": lambda l: casemap(l["To"][1]) if l["To"] else "",
    "CC": lambda l: casemap(l["Cc"][1]) if l["Cc"] else "",
    "DISPLAYFROM": lambda l: display(l["From"]),
    "DISPLAYTO": lambda l: display(l["To"]),
}
def in_order(criteria, some):
    """Sorts by the last criterion first: sorting keeps the order of what is alike."""
    words, wanted = criteria.split(), []
    while words:
        reverse = words[0] == "REVERSE"
        wanted.append((KEYS[words[reverse]], reverse))
        words = words[1 + reverse:]
    some = sorted(some, key=lambda l: l["number"])
    for key, reverse in reversed(wanted):
        some = sorted(some, key=key, reverse=reverse)
    return [l["number"] for l in some]
class Node:
    def __init__(self, letter=None):
        self.letter, self.parent, self.children = letter, None, []
    def put(self, child):
        if child.parent:
            child.parent.children.remove(child)
        child.parent = self
        self.children.append(child)
    def is_at_or_below(self, other):
        return self is other or (self.parent is not None and self.parent.is_at_or_below(other))
def first(node):
    return node.letter or first(node.children[0])
def by(date):
    return lambda node: (date(first(node)), first(node)["number"])
def links(some):
    """Steps 1 to 3."""
    table, nodes = {}, []
    for letter in some:
        above = None
        for id in letter["references"] or ([letter["parent"]] if letter["parent"] else []):
            node = table.setdefault(id, None) or Node()
            if table[id] is None:
                table[id] = node
                nodes.append(node)
            if above and not node.parent and not above.is_at_or_below(node):
                above.put(node)
            above = node
        node = table.get(letter["id"]) if letter["id"] else None
        if node is None or node.letter:
            fresh = Node()
            nodes.append(fresh)
            if node is None and letter["id"]:
                table[letter["id"]] = fresh
            node = fresh
        node.letter = letter
        if node.parent is not above:
            if node.parent:
                node.parent.children.remove(node)
                node.parent = None
            if above and not above.is_at_or_below(node):
                above.put(node)
    root = Node()
    for node in nodes:
        if not node.parent:
            root.put(node)
    def prune(node):
        for child in list(node.children):
            prune(child)
            if not child.letter and (not child.children or node is not root or len(child.children) == 1):
                node.children.remove(child)
                for grandchild in list(child.children):
                    node.put(grandchild)
    prune(root)
    return root
def sort_all(node, date):
    for child in node.children:
        sort_all(child, date)
    node.children.sort(key=by(date))
def by_references(some):
    root = links(some)
    for child in root.children:
        if not child.letter:
            child.children.sort(key=by(sent))
    root.children.sort(key=by(sent))
    subject = lambda node: base_subject(first(node)["subject"])[0]
    is_reply = lambda node: bool(node.letter) and base_subject(node.letter["subject"])[1]
    table = {}
    for node in root.children:
        if subject(node):
            known = table.setdefault(subject(node), node)
            if known.letter and (not node.letter or is_reply(known) and not is_reply(node)):
                table[subject(node)] = node
    for node in list(root.children):
        if node.parent is not root or not subject(node):
            continue
        text = subject(node)
        known = table[text]
        if known is node:
            continue
        if not known.letter and not node.letter:
            for child in list(node.children):
                known.put(child)
            root.children.remove(node)
        elif not known.letter or is_reply(node) and not is_reply(known):
            known.put(node)
        else:
            dummy = Node()
            root.put(dummy)
            dummy.put(node)
            dummy.put(known)
            table[text] = dummy
    sort_all(root, sent)
    return root
def by_refs(some):
    root = links(some)
    arrival = KEYS["ARRIVAL"]
    sort_all(root, arrival)
    def last(node):
        own = [(arrival(node.letter), node.letter["number"])] if node.letter else []
        return max(own + [last(child) for child in node.children])
    root.children.sort(key=last)
    return root
def by_subject(some):
    root, table = Node(), {}
    for letter in sorted(some, key=lambda l: (sent(l), l["number"])):
        table.setdefault(base_subject(letter["subject"])[0], root).put(node := Node(letter))
        if node.parent is root:
            table[base_subject(letter["subject"])[0]] = node
    return root
def told(node):
    text = str(node.letter["number"]) if node.letter else ""
    below = [told(child) for child in node.children]
    blank = " " if text and below else ""
    return text + blank + (below[0] if len(below) == 1 else "".join(f"({one})" for one in below))
def threads(root):
    return "".join(f"({told(node)})" for node in root.children)
"#;

/// What the server says, beside that.
const COMPARE: &str = r#"
ok(client.select("INBOX"))
offered = ok(client.capability())[0].decode().split()
for capability in ("SORT", "SORT=DISPLAY", "ESORT", "THREAD=ORDEREDSUBJECT", "THREAD=REFERENCES", "THREAD=REFS"):
    assert capability in offered, offered
def same(expected, answer, what):
    text = (ok(answer)[0] or b"").decode()
    assert text == expected, f"{what}:\n{expected}\n{text}"
shown = lambda numbers: " ".join(map(str, numbers))
parts = [letters, letters[40:120], [l for l in letters if l["size"] > 150]]
for some, what in zip(parts, ("ALL", "41:120", "LARGER 150")):
    for key in KEYS:
        for criteria in (key, f"REVERSE {key}", f"REVERSE {key} DATE REVERSE TO", f"CC {key} REVERSE ARRIVAL"):
            same(shown(in_order(criteria, some)), client.sort(f"({criteria})", "UTF-8", what), (criteria, what))
    for name, work_out in (("ORDEREDSUBJECT", by_subject), ("REFERENCES", by_references), ("REFS", by_refs)):
        expected = threads(work_out(some))
        assert sorted(map(int, re.findall(r"\d+", expected))) == [l["number"] for l in some], name
        same(expected, client.thread(name, "UTF-8", what), (name, what))
# UIDs are the numbers here, until a letter goes.
same(shown(in_order("DATE", letters)), client.uid("SORT", "(DATE)", "UTF-8", "ALL"), "UID SORT")
ok(client.store("1", "+FLAGS.SILENT", r"(\Deleted)"))
ok(client.expunge())
rest = letters[1:]
same(threads(by_references(rest)), client.uid("THREAD", "REFERENCES", "UTF-8", "ALL"), "UID THREAD")
same(shown(n - 1 for n in in_order("SUBJECT", rest)), client.sort("(SUBJECT)", "UTF-8", "ALL"), "SORT")
same("", client.sort("(DATE)", "UTF-8", "DELETED"), "SORT of nothing")
print("the same")
"#;

#[test]
fn what_python_works_out_and_what_the_server_says_is_the_same() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let script = [FILL, WORK_OUT, COMPARE].concat();
    system.python(&script, &json!({}));
}
