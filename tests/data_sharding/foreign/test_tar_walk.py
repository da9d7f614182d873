"""Tars as others write and break them; above 300 lines, for each fault makes its own tar."""

import io
import json
import tarfile
import tempfile
from collections import Counter
from contextlib import contextmanager, suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from webdataset import TarWriter

from data_sharding.foreign.headers import BLOCK, padded, parse_header, walk_headers
from data_sharding.foreign.walk import split_name, walk_samples
from data_sharding.schema import ShardError


def tar_of(*members, form=tarfile.USTAR_FORMAT):
    """Bytes of a tar with (name, content) members, or ready-made TarInfos without content."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return raw.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@contextmanager
def opened(raw):
    with tempfile.TemporaryFile() as file:
        file.write(raw)
        yield file


def walk(raw, ignored=None):
    with opened(raw) as file:
        return list(walk_samples(file, "x.tar", ignored))


def verdicts(raw):
    """Key, parts and reason of every sample."""
    return [
        (sample.key, "+".join(sample.members), sample.fault.reason if sample.fault else "")
        for sample in walk(raw)
    ]


def keys_before(raw):
    """Keys of the samples that come, and the error that follows them."""
    found = []

    def collect(file):
        for sample in walk_samples(file, "x.tar"):
            found.append(sample.key)

    with opened(raw) as file, pytest.raises(ShardError) as broken:
        collect(file)
    return found, str(broken.value)


def refused_headers(raw, match):
    with opened(raw) as file, pytest.raises(ShardError, match=match):
        list(walk_headers(file, "x.tar"))


SIX = tar_of(*((f"k{n}.{kind}", b"x" * 700) for n in range(3) for kind in ("txt", "jpg")))
SAMPLE = 2 * (BLOCK + padded(700))


def test_members_are_grouped_and_located_as_the_bytes_lie():
    raw = tar_of(("a/1.txt", b"one"), ("a/1.JPEG", b"J" * 600), ("a/2.caption", b"two"))
    first, second = walk(raw)
    assert (first.key, second.key) == ("a/1", "a/2")
    assert list(first.members) == ["txt", "jpg"]
    for member, content in zip(first.members.values(), (b"one", b"J" * 600), strict=True):
        assert raw[member.start : member.start + member.length] == content
    assert (first.start, first.stop, second.start) == (0, second.start, first.stop)
    assert second.members["txt"].name == "a/2.caption"


def test_webdatasets_own_writer_with_float_mtimes_and_long_names_is_read(tmp_path):
    # pax headers for float mtimes; webdataset 1.0.2, src/webdataset/writer.py, TarWriter:
    # https://github.com/webdataset/webdataset/blob/main/src/webdataset/writer.py
    path = tmp_path / "x.tar"
    with TarWriter(str(path)) as writer:
        for number in range(3):
            key = f"{'long' * 40}/{number}"
            writer.write({"__key__": key, "txt": f"t{number}", "cls": number, "json": {"n": 1}})
    ignored = Counter()
    with path.open("rb") as file:
        found = list(walk_samples(file, "x.tar", ignored))
    raw = path.read_bytes()
    texts = [sample.members["txt"] for sample in found]
    assert [raw[text.start : text.start + text.length] for text in texts] == [b"t0", b"t1", b"t2"]
    assert all(len(sample.key) > 160 and sample.fault is None for sample in found)
    assert ignored == {".cls": 3}


def test_the_layout_of_img2dataset_is_read():
    # 00000.tar with KEY.jpg, KEY.txt, KEY.json and a parquet beside it:
    # https://github.com/rom1504/img2dataset/blob/main/img2dataset/writer.py, WebDatasetSampleWriter
    card = json.dumps({"caption": "c", "url": "http://x", "key": "000000012", "status": "success"})
    raw = tar_of(
        ("000000012.jpg", b"jpeg"), ("000000012.json", card.encode()), ("000000012.txt", b"c")
    )
    assert verdicts(raw) == [("000000012", "jpg+json+txt", "")]


def test_the_layout_of_laion_and_cc12m_with_folders_and_class_files_is_read():
    # KEY.jpg and KEY.txt, three files a sample, as in
    # https://huggingface.co/datasets/data-archetype/cc12_imagenet21k_recap_hq_bucketed, packed by
    # "tar --sort=name -cf dataset.tar dataset/", https://webdataset.github.io/webdataset/creating/
    raw = tar_of(
        special("./", tarfile.DIRTYPE),
        special("./00000", tarfile.DIRTYPE),
        ("./00000/000000001.cls", b"7"),
        ("./00000/000000001.jpg", b"jpeg"),
        ("./00000/000000001.txt", b"words"),
        form=tarfile.GNU_FORMAT,
    )
    ignored = Counter()
    (sample,) = walk(raw, ignored)
    assert (sample.key, list(sample.members)) == ("./00000/000000001", ["jpg", "txt"])
    assert ignored == {"folder": 2, ".cls": 1}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read_in_every_form_of_tar(form):
    name = f"{'d' * 60}/{'n' * 80}"
    accents = "é花" if form != tarfile.USTAR_FORMAT else "e"
    assert verdicts(tar_of((f"{name}.txt", b"x"), (f"{accents}.txt", b"y"), form=form)) == [
        (name, "txt", ""),
        (accents, "txt", ""),
    ]


# Fault 1: truncated tar.
@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        (SAMPLE + 1, []),  # within a header, which may have been one of k0
        (SAMPLE + BLOCK + 10, ["k0"]),
        (2 * SAMPLE - 1000, ["k0"]),
        (2 * SAMPLE + BLOCK, ["k0", "k1"]),
    ],
)
def test_a_cut_off_tar_gives_its_whole_samples_and_then_an_error_with_the_byte(cut, whole):
    found, message = keys_before(SIX[:cut])
    assert found == whole
    assert "x.tar" in message
    assert f"byte {cut}" in message
    assert f"{len(whole)} samples come before" in message


def test_a_tar_cut_off_between_two_members_does_not_pass_as_a_short_one():
    found, message = keys_before(SIX[: SAMPLE + SAMPLE // 2])
    assert found == ["k0"]
    assert "without the end mark" in message


# Fault 2: zero-byte shard.
def test_an_empty_file_is_named():
    assert keys_before(b"") == ([], "x.tar: empty file, no tar; fetch or make it again"
                                    " (0 samples come before)")  # fmt: skip


# Fault 3: garbage after a valid header.
def test_garbage_after_whole_samples_is_an_error_and_never_a_silent_end():
    broken = bytearray(SIX)
    broken[2 * SAMPLE : 2 * SAMPLE + BLOCK] = b"\xa7" * BLOCK
    found, message = keys_before(bytes(broken))
    assert found == ["k0"]  # k1 may have gone on
    assert f"no valid header at byte {2 * SAMPLE}" in message


def test_a_second_tar_behind_the_end_mark_is_an_error():
    found, message = keys_before(SIX + SIX)
    assert found == ["k0", "k1"]
    assert f"a second tar, at byte {len(SIX)}" in message


def test_a_compressed_tar_is_told_from_a_broken_one():
    assert "must be unpacked" in keys_before(b"\x1f\x8b" + bytes(range(256)) * 4)[1]


# Fault 11: the same key twice, adjacent.
def test_a_repeated_sample_is_left_out_and_the_first_is_kept():
    raw = tar_of(("k.txt", b"1"), ("k.jpg", b"1"), ("k.txt", b"2"), ("k.jpg", b"2"), ("l.txt", b""))
    assert verdicts(raw) == [
        ("k", "txt+jpg", ""),
        ("k", "txt+jpg", "duplicate-key"),
        ("l", "txt", "empty-sample"),
    ]


def test_parts_of_one_key_that_cannot_be_told_apart_are_all_left_out():
    raw = tar_of(("k.txt", b"1"), ("k.txt", b"2"), ("k.jpg", b"?"))
    assert verdicts(raw) == [("k", "txt", "split-sample"), ("k", "txt+jpg", "split-sample")]


# Fault 12: the same key, not adjacent.
def test_a_sample_whose_parts_lie_apart_is_never_streamed_in_part():
    raw = tar_of(("a.txt", b"1"), ("b.txt", b"2"), ("a.jpg", b"3"))
    assert verdicts(raw) == [
        ("a", "txt", "split-sample"),
        ("b", "txt", ""),
        ("a", "jpg", "split-sample"),
    ]
    assert "'a.txt' at byte 0" in walk(raw)[2].fault.detail


def test_a_whole_sample_that_comes_again_later_is_left_out():
    raw = tar_of(("a.txt", b"1"), ("b.txt", b"2"), ("a.txt", b"3"))
    assert [reason for _, _, reason in verdicts(raw)] == ["", "", "duplicate-key"]


# Fault 13: keys with dots.
def test_keys_with_dots_are_never_merged_into_one_sample():
    raw = tar_of(*((f"k.{n}.txt", b"x") for n in (0, 7, 8)), ("v1.0/a.txt", b"y"))
    ignored = Counter()
    assert [(s.key, s.fault.reason if s.fault else "") for s in walk(raw, ignored)] == [
        ("k", "empty-sample"),
        ("v1.0/a", ""),
    ]
    assert ignored == {".0.txt": 1, ".7.txt": 1, ".8.txt": 1}


# Fault 14: suffixes that differ in case.
def test_case_colliding_suffixes_are_named_both():
    raw = tar_of(("K1.TXT", b"a"), ("K1.txt", b"b"))
    first, second = walk(raw)
    assert first.fault is None
    assert second.fault.reason == "duplicate-key"
    assert "'K1.txt'" in second.fault.detail
    assert "'K1.TXT'" in second.fault.detail


def test_two_pictures_of_one_sample_are_refused_rather_than_chosen_from():
    raw = tar_of(("k.jpg", b"a"), ("k.png", b"b"), ("k.txt", b"c"))
    assert verdicts(raw) == [("k", "jpg+png+txt", "two-of-a-kind")]


# Fault 15: names and kinds of members that could lead out.
def test_links_devices_and_pipes_are_counted_and_never_used():
    raw = tar_of(
        ("k.txt", b"x"),
        special("k.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        special("k.flac", tarfile.LNKTYPE, "k.txt"),
        special("k.wav", tarfile.CHRTYPE),
        special("k.ogg", tarfile.FIFOTYPE),
    )
    ignored = Counter()
    (sample,) = walk(raw, ignored)
    assert list(sample.members) == ["txt"]
    assert ignored == {"symbolic link": 1, "hard link": 1, "device": 1, "fifo": 1}


def test_names_that_lead_out_are_text_and_touch_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("../../etc/x.txt", "/abs/y.txt", "a\nb.txt", "..txt", ".txt")
    raw = tar_of(*((name, b"x") for name in names))
    assert [sample.key for sample in walk(raw)] == ["../../etc/x", "/abs/y", "a\nb"]
    assert list(tmp_path.iterdir()) == []


# Fault 16: pickles and their kind.
def test_pickles_and_arrays_are_counted_by_kind_and_never_located():
    raw = tar_of(*((f"k.{kind}", b"\x80\x04.") for kind in ("pkl", "pyd", "pth", "npy", "txt")))
    ignored = Counter()
    (sample,) = walk(raw, ignored)
    assert list(sample.members) == ["txt"]
    assert set(ignored) == {".pkl", ".pyd", ".pth", ".npy"}


def test_many_kinds_of_members_do_not_fill_memory():
    raw = tar_of(("k.txt", b"x"), *((f"k.kind{n}", b"") for n in range(500)))
    ignored = Counter()
    walk(raw, ignored)
    assert len(ignored) <= 65
    assert ignored.total() == 500


@pytest.mark.parametrize(
    "record", [b"9 path=\n", b"30 path=short\n", b"x", b"20 size=-5 padding\n"]
)
def test_a_broken_pax_header_is_an_error(record):
    info = tarfile.TarInfo("pax")
    info.size, info.type = len(record), tarfile.XHDTYPE
    raw = info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(BLOCK, b"\0") + tar_of(("k.txt", b"x"))
    refused_headers(raw, "pax header")


@pytest.mark.parametrize("size", [-512, -1024, 2**40])
def test_a_header_with_an_impossible_size_neither_loops_nor_fills_memory(size):
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        info = tarfile.TarInfo("k.txt")
        info.size, info.type = size, kind
        raw = info.tobuf(tarfile.GNU_FORMAT) + bytes(4 * BLOCK)
        refused_headers(raw, r"x\.tar")


def test_a_sparse_file_is_not_taken_for_its_content():
    info = tarfile.TarInfo("k.jpg")
    info.type = tarfile.GNUTYPE_SPARSE
    ignored = Counter()
    assert walk(tar_of(info, form=tarfile.GNU_FORMAT), ignored) == []
    assert ignored == {"sparse file": 1}


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000))
def test_no_bytes_bring_anything_but_samples_or_a_shard_error(raw):
    for content in (raw, SIX[: len(raw)] + raw):
        with suppress(ShardError):
            walk(content)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, len(SIX) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_never_makes_samples_that_were_not_there(at, bit):
    broken = bytearray(SIX)
    broken[at] ^= 1 << bit
    with suppress(ShardError):
        assert len(walk(bytes(broken))) <= 6


@settings(max_examples=200, deadline=None)
@given(
    name=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=120),
    size=st.integers(0, 2**40),
    kind=st.sampled_from([tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE]),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT]),
)
@example(name="d" * 100, size=0, kind=tarfile.DIRTYPE, form=tarfile.USTAR_FORMAT)  # all prefix
def test_headers_are_understood_as_the_standard_library_does(name, size, kind, form):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    with suppress(ValueError):  # what ustar cannot hold
        block = info.tobuf(form, "utf-8", "surrogateescape")[-BLOCK:]
        theirs = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        assert parse_header(block) == (theirs.name, theirs.type, theirs.size)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=BLOCK, max_size=BLOCK), st.booleans())
def test_any_block_is_a_header_exactly_where_the_standard_library_says_so(block, mended):
    if mended:
        total = 256 + sum(block[:148]) + sum(block[156:])
        block = block[:148] + b"%06o\0 " % total + block[156:]
    try:
        theirs = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return  # it also reads dates and owners, which do not matter here
    assert parse_header(block) == (theirs.name, theirs.type, theirs.size)


def test_key_and_suffix_follow_webdataset():
    assert split_name("a/b.c/k.0.TXT") == ("a/b.c/k", "0.txt")
    assert split_name("k.JPEG") == ("k", "jpg")
    assert split_name("noextension") is None
    assert split_name("__meta__/x.json") is None
