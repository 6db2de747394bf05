import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hospitium.wire.canonical import canonical_json, digest

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 60), 1 << 60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_canonical_bytes_read_back_to_the_value_and_write_again_to_the_same_bytes(value):
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data


@given(st.dictionaries(st.text("abcde", max_size=3), st.integers(), min_size=2))
def test_the_order_of_keys_does_not_show(value):
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_the_bytes_are_utf_8_without_spaces_and_with_shortest_floats():
    value = {"z": [0.1, 1e22, 1.0, 1], "ä": "ø\n\u007f"}
    assert canonical_json(value) == '{"z":[0.1,1e+22,1.0,1],"ä":"ø\\n\x7f"}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]])
def test_what_is_not_a_number_has_no_canonical_bytes(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


def test_the_digest_is_sha_256():
    assert digest(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert digest(b"abc").startswith("ba7816bf")
