"""Laws of image references: whatever the grammar makes is read back, a near miss never passes for a digest."""

from __future__ import annotations

import re

from hypothesis import assume, example, given
from hypothesis import strategies as st

from releasegate.k8s import ImageRef

# The grammar of distribution/reference, as its documentation prints it (reference.go), written again from there.
alphanumeric = st.text("abcxyz019", min_size=1, max_size=4)
separator = st.sampled_from([".", "_", "__", "-", "---"])
component = st.tuples(alphanumeric, st.lists(st.tuples(separator, alphanumeric), max_size=2)).map(
    lambda parts: parts[0] + "".join(sign + more for sign, more in parts[1])
)
label = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,3}[a-zA-Z0-9])?", fullmatch=True)
domain = st.tuples(
    st.lists(label, min_size=1, max_size=3).map(".".join) | st.sampled_from(["[::1]", "[2001:db8::a]", "localhost"]),
    st.none() | st.integers(0, 65535),
).map(lambda parts: parts[0] if parts[1] is None else f"{parts[0]}:{parts[1]}")
names = st.tuples(st.none() | domain, st.lists(component, min_size=1, max_size=3).map("/".join)).map(
    lambda parts: parts[1] if parts[0] is None else f"{parts[0]}/{parts[1]}"
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
hexadecimal = st.sampled_from([("sha256", 64), ("sha384", 96), ("sha512", 128)]).flatmap(
    lambda kind: st.text("0123456789abcdef", min_size=kind[1], max_size=kind[1]).map(lambda hex_: f"{kind[0]}:{hex_}")
)
references = st.builds(ImageRef, names, st.none() | tags, st.none() | hexadecimal)


@given(ref=references)
def test_what_the_grammar_makes_is_read_back(ref: ImageRef) -> None:
    assert ImageRef.parse(str(ref)) == ref


@given(text=st.text() | st.text("ab:/@.-_ sha256\n<{$", max_size=20))
@example("a:1\n")
@example("a\u0660:1")
def test_any_text_is_read_back_unchanged_or_refused(text: str) -> None:
    try:
        ref = ImageRef.parse(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017  # the law is about every error
    else:
        assert str(ref) == text
        assert text.isascii()


@given(ref=references, data=st.data())
def test_one_changed_character_never_passes_for_a_digest(ref: ImageRef, data: st.DataObject) -> None:
    assume(ref.digest is not None)
    text = str(ref)
    position = data.draw(st.integers(text.index("@"), len(text)))
    junk = data.draw(st.sampled_from(["", "\n", " ", "g", "A", "٣", "@", ":", "#", "a"]))
    cut = data.draw(st.integers(0, 1))
    changed = text[:position] + junk + text[position + cut :]
    assume(changed != text)
    try:
        read = ImageRef.parse(changed)
    except ValueError:
        return
    assert str(read) == changed
    if read.digest is not None:
        assert re.fullmatch(r"(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})", read.digest, re.ASCII)
