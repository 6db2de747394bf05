"""Strange messages: each is refused with a reason of a closed list, or means what it says.

The receiver's own code reads them, as it does in life. Anything that is raised beside the refusals
is a bug, and so is a message that is accepted though it says something that nobody signed.
"""

import json
from pathlib import Path

import pytest
from mutating import BOMBS, Mutator
from samples import REFUSED, is_clear, samples
from steps import steps_of

CORPUS = Path(__file__).parent / "corpus"
NUM_MUTANTS = 20_000
MOST_STEPS = 10_000
"""For one message, whatever it is, and one more for each of its bytes; honest ones take 6,000."""


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return samples(tmp_path_factory.mktemp("files"))


def outcome(sample, data):
    """Return what became of a message: its meaning, or the refusal's class and reason.

    Whatever else is raised is not caught: it is a bug.
    """
    try:
        return "accepted", sample.read(data)
    except REFUSED as error:
        assert is_clear(error), f"{type(error).__name__} without a reason of its list: {error!r}"
        return "refused", f"{type(error).__name__} {getattr(error, 'reason', '')}".strip()


def require_safe(name, sample, data, meaning):
    """Fail with the message itself if it is taken for something that it is not."""
    (what, found), steps = steps_of(lambda: outcome(sample, data))
    assert steps < MOST_STEPS + len(data), f"{name}: {steps} steps: {data[:200]!r}"
    if what == "accepted" and sample.binds:
        assert repr(found) == meaning or _is_signed_anew(sample, data), f"{name}: {data[:2000]!r}"
    return what, found


def _is_signed_anew(sample, data):
    """Whether a liar signed these bytes: then they say what a signer said, in the one form."""
    return bool(sample.signers) and data != sample.data and _payload(data) != _payload(sample.data)


def _payload(data):
    fields = json.loads(data)
    return fields["payload"], fields["payloadType"]


def test_every_honest_message_is_accepted(honest):
    for name, sample in honest.items():
        assert outcome(sample, sample.data)[0] == "accepted", name


@pytest.mark.ci
def test_20_000_mutants_are_refused_with_a_reason_or_mean_what_they_say(honest):
    mutator, names = Mutator(honest, seed=20261121), sorted(honest)
    meanings = {name: repr(honest[name].read(honest[name].data)) for name in names}
    seen = {name: {} for name in names}
    for number in range(NUM_MUTANTS):
        name = names[number % len(names)]
        data = mutator.mutant(name)
        what, found = require_safe(name, honest[name], data, meanings[name])
        word = found if what == "refused" else what
        seen[name][word] = seen[name].get(word, 0) + 1
    for name, words in seen.items():
        assert len(words) >= 2, f"{name}: the mutants reach only {words}"
        assert max(words.values()) < 0.98 * sum(words.values()), f"{name}: {words}"


def test_mutants_of_a_small_number_are_refused_or_mean_what_they_say(honest):
    mutator, names = Mutator(honest, seed=1), sorted(honest)
    for number in range(20 * len(names)):
        name = names[number % len(names)]
        meaning = repr(honest[name].read(honest[name].data))
        require_safe(name, honest[name], mutator.mutant(name), meaning)


@pytest.mark.parametrize("number", range(len(BOMBS)))
def test_a_bomb_is_refused_at_once_by_every_reader(honest, number):
    for name, sample in honest.items():
        (what, found), steps = steps_of(lambda it=sample: outcome(it, BOMBS[number]))
        assert what == "refused", (name, found)
        assert steps < MOST_STEPS, (name, steps)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.bin")), ids=lambda path: path.stem)
def test_what_was_once_of_interest_is_refused_for_its_reason(honest, path):
    """The name of a file says the kind of message, the refusal that is due, and what it is."""
    kind, refusal, _ = path.stem.split("--")
    name = kind.replace("_", " ").replace("hub ", "hub: ")
    assert outcome(honest[name], path.read_bytes()) == ("refused", refusal.replace("_", " ", 1))


def test_bits_flipped_at_every_byte_of_every_signed_message_are_refused(honest):
    for name, sample in honest.items():
        if not (sample.signers and sample.binds):
            continue
        for at in range(len(sample.data)):
            data = bytearray(sample.data)
            data[at] ^= 1 << (at % 8)
            what, found = outcome(sample, bytes(data))
            assert what == "refused", (name, at, found)


@pytest.mark.ci
def test_all_bits_of_the_envelope_and_of_the_file_of_an_update_are_bound(honest):
    for name in ("reply", "file of an update", "ask"):
        sample = honest[name]
        for at in range(len(sample.data)):
            for bit in range(8):
                data = bytearray(sample.data)
                data[at] ^= 1 << bit
                assert outcome(sample, bytes(data))[0] == "refused", (name, at, bit)
