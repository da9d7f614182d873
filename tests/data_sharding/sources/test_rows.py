from hypothesis import given
from hypothesis import strategies as st

from data_sharding.schema import Medium, Record, Rejection
from data_sharding.sources.rows import Row, decode_row, encode_row

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
MEDIA = st.none() | st.builds(
    Medium, path=TEXTS, start=st.none() | st.integers(0), length=st.none() | st.integers(0)
)
VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
RECORDS = st.builds(
    Record,
    id=TEXTS,
    text=st.none() | TEXTS,
    image=MEDIA,
    audio=MEDIA,
    split=TEXTS,
    labels=st.dictionaries(TEXTS, TEXTS),
    metadata=st.dictionaries(TEXTS, VALUES | TEXTS | st.lists(VALUES)),
)


@given(st.integers(1, 10**12), RECORDS)
def test_a_row_survives_the_plan_as_one_line(number, record):
    row = Row(number=number, content=record)
    line = encode_row(row)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode_row(line) == row
    assert encode_row(decode_row(line)) == line


def test_a_rejection_survives_the_plan_even_with_half_a_character():
    row = Row(number=7, content=Rejection("bad-row", "odd \udc80"))
    content = decode_row(encode_row(row)).content
    assert isinstance(content, Rejection)
    assert (content.reason, content.detail) == ("bad-row", "odd ?")
