"""The JSON report is written as the standard library would, only faster."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from releasegate.report.json import indented

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner, inner),
)


@given(value=values)
def test_a_report_is_indented_as_json_dumps_does_it(value: object) -> None:
    assert indented(value) == json.dumps(value, indent=1, ensure_ascii=False)
