"""Verify offline what left a site: `python hospitium_verify.py oslo.jsonl [coordinator.jsonl ...]`.

Takes bundles of `hospitium audit export`; needs no network. Prints what left and each finding, and
exits with 1 if there is one. Whose the officers' keys are it cannot know: compare what it prints.
"""

import json
import sys
from base64 import b64decode, b64encode
from bisect import bisect_left
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import combinations
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey as Key

BACKWARDS, APART = timedelta(minutes=5), timedelta(hours=24)  # how wrong one clock, and two, may be
FORM = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
PLACE, WHAT = ("run_id", "round_number"), ("base_digest", "plan_digest")  # that is asked


class Bundle:
    """One side's record, checked as far as it alone can be; `found` is what does not hold."""

    def __init__(self, path: Path) -> None:
        rows = [json.loads(text) for text in path.read_text("utf-8").split("\n") if text]
        self.head, self.rows = rows[0], lambda kind: [r for r in rows if r["record"] == kind]
        self.is_site, self.name = self.head["side"] == "site", self.head["name"]
        self.taken = {row["n"] for row in self.rows("departed") if row["receipt"]}
        self.origin, self.size = self.head["origin"], len(self.rows("leaf"))
        self.officers = [sha256(bytes.fromhex(it)).hexdigest()[:16] for it in self.head["officers"]]
        self.keys, self.alike = {"": []}, {}  # the coordinator's, each site's; what all say alike
        self.found, self.leaves, self.times, self.hashes, self.points = [], [], [], [], []
        self.find = lambda name, n, words: self.found.append((name, n, words))
        self.guard(self.take_keys)
        notes = [read_note(row.get("note")) for row in self.rows("seen")]
        self.shown = [note[:3] for note in notes if holds(*note, self.keys[""])]
        for *place, root in self.shown:
            self.take_alike("fork", place[1], place, root)
        self.guard(self.take_leaves)
        self.guard(self.take_checkpoints)
        for row in self.rows("departed"):
            self.guard(self.check_departed, row)

    def guard(self, check, *of: object) -> None:  # what cannot even be read is a finding
        try:
            check(*of)
        except Exception:
            self.find("entry", 0, "something of this record is in no form that can be checked")

    def take_keys(self) -> None:
        """Follow the member lists; each is signed by officers of the one before."""
        officers, threshold = self.head["officers"], self.head["threshold"]
        before = self.head["federation"]  # the first list names it, each other one the list before
        for n, row in enumerate(self.rows("members")):
            said, digest = open_dsse(row.get("envelope"), officers, "members", threshold)
            if not said or said["previous_digest" if n else "federation"] != before:
                return self.find("members", n, "this member list is refused")
            officers, threshold, before = said["officers"], said["threshold"], digest
            self.take_alike("members", said["members_epoch"], said["members_epoch"], before)
            self.keys[""] += said["coordinator_keys"]
            for site in said["sites"]:
                self.keys.setdefault(site["site_id"], []).append(site["signing_key"])
        if not self.rows("members") and self.head["key"]:
            self.keys[self.name if self.is_site else ""] = [self.head["key"]]

    def take_alike(self, name: str, n: int, of: object, what: object) -> None:
        if self.alike.setdefault((name, canonical(of)), (what, n))[0] != what:
            self.find(name, n, "it contradicts an entry before it")

    def take_leaves(self) -> None:
        """Read the entries; at a site each names the line before it."""
        self.own = self.keys.get(self.name if self.is_site else "", [])
        before, ids = "", [note_id(self.origin, key) for key in self.own]
        for n, row in enumerate(self.rows("leaf")):
            try:
                value = json.loads(row["line"])
                leaf = value["leaf"] if self.is_site else value
                place = (leaf if self.is_site else row)["n"], bool(leaf["kind"])
                if canonical(value) != row["line"].encode() or place != (n, True):
                    raise ValueError
                signature = b64decode(value.get("signature", ""))
                time = datetime.fromisoformat(leaf["time_utc"])
            except Exception:
                return self.find("entry", n, "it is not in its form or its place")
            if self.is_site and leaf.get("before") != before:
                return self.find("entry", max(0, n - 1), "the entry after it names another one")
            before = sha256(row["line"].encode()).hexdigest()
            self.leaves.append(leaf)
            if self.times and time - self.times[-1] < -BACKWARDS:
                self.find("clock", n, f"its time is {self.times[-1] - time} before the last")
            self.times.append(time)
            if (leaf["kind"], leaf.get("purpose")) in (("update", None), ("asked", "train")):
                place = [self.head["federation"], *(leaf.get(name) for name in PLACE)]
                self.take_alike("split", n, place, [leaf.get(name) for name in WHAT])
            self.hashes.append(sha256(b"\x00" + canonical(leaf)).digest())
            if signature[:4] in ids:
                self.add(n + 1, signature=signature)

    def take_checkpoints(self) -> None:
        """Take what is signed of the log, and name the first entry that no signature proves."""
        for row in self.rows("checkpoint"):
            _, size, _, signature = read_note(row["note"])
            self.add(size if signature else self.size + 1, signature=signature)
        for n, leaf in [(n, it) for n, it in enumerate(self.leaves) if it.get("cosignature")]:
            try:
                envelope = b64decode(leaf["cosignature"]).decode()
                said = open_dsse(envelope, self.keys.get(leaf["site_id"], []), "cosignature")[0]
                self.add(said["size"], root=bytes.fromhex(said["root"]))
                asked = self.leaves[min(said["asked"], n)]
                told = asked | {"sites": sha256(canonical(asked.get("sites"))).hexdigest()}
                due = {"kind": "asked", "purpose": "train", "round_number": leaf["round_number"]}
                names = (*PLACE, *WHAT, "purpose", "members_digest", "sites")
                if told != told | due or any(said[name] != told.get(name) for name in names):
                    self.find("split", n, "its site cosigned something else than was asked")
            except Exception:
                self.find("entry", n, "the cosignature in it does not hold")
        self.points.sort()
        low = bisect_left(self.points, True, key=lambda point: not self.has(*point))
        first = self.points[low - 1][0] if low else 0
        if first < len(self.leaves) and (low < len(self.points) or self.head["is_signed"]):
            self.find("entry", first, "no signature holds over it and those before it")

    def add(self, size: int, root: bytes = b"", signature: bytes = b"") -> None:
        if size > self.size:
            self.find("truncated", self.size, "more entries than it has were signed")
        elif size <= len(self.leaves):
            self.points.append((size, root, signature))

    def has(self, size: int, root: bytes, signature: bytes = b"") -> bool:  # or signed such a root
        own = root_of(self.hashes[:size]) if size <= len(self.hashes) else b"too few"
        return own == root or holds(self.origin, size, own, signature, self.own)

    def check_departed(self, row: dict) -> None:  # what is kept beside an entry, and its receipt
        n, statement, receipt = row["n"], row["statement"].encode(), row["receipt"]
        if n >= self.size:
            return self.find("truncated", n, "it left, and its entry is not there")
        leaf, digest = self.leaves[n] if n < len(self.leaves) else {}, sha256(statement).hexdigest()
        said, named = open_dsse(receipt, self.keys[""], "receipt")[0], {digest}
        with suppress(Exception):
            payload = json.loads(b64decode(json.loads(statement)["payload"]))
            named.add(sha256(b64decode(payload["content"])).hexdigest())
        if leaf and statement and not named & {leaf["sha256"], leaf.get("envelope_sha256")}:
            self.find("payload", n, "other bytes are kept beside it than it names")
        if receipt and [said.get("site_id"), said.get("statement")] != [self.name, digest]:
            self.find("receipt", n, "its receipt does not hold")


def together(site: Bundle, run: Bundle) -> None:  # what one of two records has, and one has not
    for _, size, _ in [it for it in site.shown if it[0] == run.origin and not run.has(*it[1:])]:
        run.find("fork", size, f"{site.name} was shown another history")
    ours = [leaf for leaf in site.leaves if leaf["kind"] == "update" and leaf["run_id"] == run.name]
    own = {(leaf["round_number"], leaf["params_sha256"]): leaf for leaf in ours}
    told = [(n, leaf) for n, leaf in enumerate(run.leaves) if leaf.get("site_id") == site.name]
    for n, leaf in [(n, leaf) for n, leaf in told if leaf["kind"] == "received"]:
        mine = own.get((leaf["round_number"], leaf["digest"]))
        if mine is None:
            run.find("gap", n, f"{site.name} has no entry of this update")
        elif abs(run.times[n] - site.times[mine["n"]]) > APART:
            site.find("clock", mine["n"], "its time is more than a day off the coordinator's")
        origin, size, root, signature = read_note(leaf.get("checkpoint", ""))
        if leaf.get("checkpoint") and not holds(site.origin, size, root, signature, site.own):
            run.find("entry", n, f"the checkpoint of {site.name} in it does not hold")
        elif size > site.size:
            site.find("truncated", site.size, "more entries than it has were signed")
        elif origin and not site.has(size, root):
            site.find("fork", size, "the coordinator was shown another history")
    rounds = {leaf.get("round_number") for _, leaf in told}
    for leaf in [it for it in ours if it["n"] in site.taken and it["round_number"] not in rounds]:
        site.find("gap", leaf["n"], "it has a receipt, and the run has no entry of it")


def verified(paths: list[str]) -> list[Bundle]:
    bundles = [Bundle(Path(path)) for path in paths]
    for one, other in combinations(sorted(bundles, key=lambda it: not it.is_site), 2):
        if one.is_site and not other.is_site:
            other.guard(together, one, other)
        for (name, key), (what, n) in one.alike.items():
            if other.alike.get((name, key), (what,))[0] != what:
                one.find(name, n, f"the record of {other.name} says otherwise")
    return bundles


def open_dsse(text: str, keys: list[str], kind: str, threshold: int = 1) -> tuple[dict, str]:
    """Return what a DSSE envelope says and its SHA-256; nothing unless these keys signed it."""
    with suppress(Exception):
        value, media = json.loads(text), f"application/vnd.hospitium.{kind}+json"
        payload = b64decode(value["payload"], validate=True)
        data = b"DSSEv1 %d %s %d %s" % (len(media), media.encode(), len(payload), payload)
        by_id = {sha256(bytes.fromhex(key)).hexdigest(): bytes.fromhex(key) for key in keys}
        for row in value["signatures"]:
            Key.from_public_bytes(by_id[row["keyid"]]).verify(b64decode(row["sig"]), data)
        is_of_form = (canonical(value), value["payloadType"]) == (text.encode(), media)
        if is_of_form and len({row["keyid"] for row in value["signatures"]}) >= threshold:
            return dict(json.loads(payload)), sha256(payload).hexdigest()
    return {}, ""


def read_note(note: str) -> tuple[str, int, bytes, bytes]:  # origin, size, root, signature
    with suppress(Exception):
        origin, size, root, _, line = note.removesuffix("\n").split("\n")
        signed, signature = b64decode(root), b64decode(line.split(" ")[2])
        return origin, range(1 << 53).index(int(size)), signed, signature
    return "", 0, b"", b""


def holds(origin: str, size: int, root: bytes, signature: bytes, keys: list[str]) -> bool:
    body = f"{origin}\n{size}\n{b64encode(root).decode()}\n".encode()
    for key in keys:
        with suppress(Exception):
            if note_id(origin, key) == signature[:4]:
                return Key.from_public_bytes(bytes.fromhex(key)).verify(signature[4:], body) is None
    return False


def note_id(origin: str, key: str) -> bytes:
    return sha256(origin.encode() + b"\n\x01" + bytes.fromhex(key)).digest()[:4]


def root_of(hashes: list[bytes]) -> bytes:  # RFC 6962, 2.1: an odd last one goes up as it is
    while len(hashes) > 1:
        pairs = [hashes[n : n + 2] for n in range(0, len(hashes), 2)]
        hashes = [sha256(b"\x01" + b"".join(p)).digest() if p[1:] else p[0] for p in pairs]
    return hashes[0] if hashes else sha256(b"").digest()


def canonical(value: object) -> bytes:
    return json.dumps(value, **FORM).encode()


if __name__ == "__main__":
    try:
        checked = verified(sys.argv[1:])
    except Exception as error:
        sys.exit(f"No bundles of `hospitium audit export`; nothing was checked: {error!r}")
    for it in checked:
        print(f"{it.origin or it.name}: {it.size} entries; officers: {', '.join(it.officers)}")
        for n, leaf in enumerate(it.leaves if it.is_site else []):
            plan = str(leaf.get("plan_digest", "-"))[:8]
            receipt = "receipt" if n in it.taken else "-"
            epsilon = "none" if "'record_dp': 'off'" in str(leaf.get("privacy")) else "-"
            what = f"{n:>6} {leaf['time_utc']} {leaf['kind']!s:<11} {leaf.get('bytes')!s:>12} bytes"
            print(f"{what}  plan {plan:<8}  epsilon {epsilon:<4}  {receipt}")
        for name, n, words in it.found:
            print(f"  {name}: entry {n}: {words}")
    holds_all = bool(checked) and not any(it.found for it in checked)
    print("All of it holds." if holds_all else "It does NOT hold.")
    sys.exit(not holds_all)
