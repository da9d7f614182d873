import pytest
from hypothesis import given
from hypothesis import strategies as st
from webdataset.shardlists import expand_urls

from data_sharding.foreign.names import expand_braces, list_tars


@pytest.mark.parametrize(
    "pattern",
    [
        "x-{000..010}.tar",
        "x-{0..3}.tar",
        "x-{8..11}.tar",
        "x-{08..11}.tar",
        "{a,b}/x-{0..1}.tar",
        "s3://bucket/laion-{00098..00102}.tar",
        "plain.tar",
    ],
)
def test_a_pattern_stands_for_the_names_that_webdataset_reads(pattern):
    assert expand_braces(pattern) == expand_urls(pattern)


@given(st.integers(0, 999), st.integers(0, 30), st.integers(1, 5))
def test_every_number_of_a_range_comes_once_in_order(first, count, width):
    names = expand_braces(f"x-{{{first:0{width}d}..{first + count:0{width}d}}}.tar")
    numbers = [int(name.removeprefix("x-").removesuffix(".tar")) for name in names]
    assert numbers == list(range(first, first + count + 1))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("x-{0..3.tar", "without its partner"),
        ("x-0..3}.tar", "without its partner"),
        ("{{0..1},2}.tar", "without its partner|braces within"),
        ("x-{3..0}.tar", "must rise"),
        ("x-{}.tar", "no range"),
        ("x-{0..999999}-{0..9}.tar", "more than 1000000 names"),
        ("pipe:cat x.tar", "commands and chained URLs are never run"),
        ("a.tar::b.tar", "commands and chained URLs are never run"),
        ("gopher://x/{0..1}.tar", "scheme 'gopher' is none of"),
    ],
)
def test_a_pattern_that_is_none_is_refused_with_its_fault(pattern, message):
    with pytest.raises(ValueError, match=message):
        expand_braces(pattern)


def test_a_folder_stands_for_all_its_tars_in_order(tmp_path):
    (tmp_path / "more").mkdir()
    for name in ("b.tar", "a.tar", "a.tar.gz", "notes.txt", "more/c.tar"):
        (tmp_path / name).touch()
    expected = [f"{tmp_path}/{name}" for name in ("a.tar", "b.tar", "more/c.tar")]
    assert list_tars(str(tmp_path)) == expected
    assert list_tars(expected[1]) == [expected[1]]
    assert list_tars(str(tmp_path / "{a,b}.tar")) == expected[:2]


def test_a_missing_tar_is_named_before_work_starts(tmp_path):
    (tmp_path / "x-0.tar").touch()
    (tmp_path / "y.tar.gz").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"stands for 3 tars, but .*x-1.tar is missing"):
        list_tars(str(tmp_path / "x-{0..2}.tar"))
    with pytest.raises(ValueError, match="no such tar"):
        list_tars(str(tmp_path / "z.tar"))
    with pytest.raises(ValueError, match=r"holds no \.tar"):
        list_tars(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="compressed tars cannot be read by position"):
        list_tars(str(tmp_path / "{y,y}.tar.gz"))
    with pytest.raises(ValueError, match="no tar and no folder of tars"):
        list_tars(str(tmp_path / "y.tar.gz"))
