import logging
import os
import pickle
import resource
import shutil
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_sharding.index import decode_index, encode_index, read_index
from data_sharding.manifest import Generation, ShardSet, write_manifest
from data_sharding.reading.reader import ReaderConfig, ShardReader
from data_sharding.schema import SampleFault, ShardError
from tiny_shards import QUICK, content, members_of, write_set

CONFIG = ReaderConfig(retry=QUICK)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("original") / "set")


@pytest.fixture
def copy(original, tmp_path):
    shutil.copytree(original.folder, tmp_path / "copy")
    return ShardSet.open(tmp_path / "copy")


def outcome(reader, sample_id):
    """A sample's content, or the kind of error in its place."""
    try:
        return content(reader.read(sample_id))
    except ShardError as error:
        return type(error)


def overwrite(path, place, new):
    with path.open("r+b") as file:
        file.seek(place)
        file.write(new)


def part_range(shard_set, number, row, suffix):
    index = read_index(shard_set.folder / shard_set.shards[number].index_file)
    return next(part for part in index.parts_of(row, index.parts) if part.suffix == suffix)


def test_every_sample_is_read_as_it_was_written(original):
    reader = ShardReader(original)
    assert len(reader) == 18
    for sample_id in (17, 0, 11, 6, 7, 3, 12):
        assert content(reader.read(sample_id)) == members_of(sample_id)


def test_samples_of_several_sets_follow_on(original, tmp_path):
    other = write_set(tmp_path / "other", sizes=(2, 3))
    reader = ShardReader([other, original])
    assert len(reader) == 23
    assert content(reader.read(4)) == members_of(4)
    assert content(reader.read(5)) == members_of(0)
    assert reader.locate(5 + 8) == (original.shards[1], "000001-000001")
    assert reader.location_of(13) == f"{original.location}/shard-000001.tar"
    assert reader.read(13).key == "000001-000001"


def test_a_foreign_tar_keeps_its_name_in_the_keys(copy):
    folder = copy.folder
    for suffix in ("tar", "idx"):
        (folder / f"shard-000001.{suffix}").rename(folder / f"laion-07.{suffix}")
    shards = [copy.shards[0], replace(copy.shards[1], file="laion-07.tar"), copy.shards[2]]
    write_manifest(folder, shards, [Generation(num_shards=3)])
    reader = ShardReader(ShardSet.open(folder))
    assert reader.read(9).key == reader.locate(9)[1] == "laion-07-000002"
    assert content(reader.read(9)) == members_of(9)


def test_only_the_wanted_parts_are_read(original):
    reader = ShardReader(original)
    assert content(reader.read(3, ("txt",))) == {"txt": members_of(3)["txt"]}
    assert reader.counters().bytes_read == len(members_of(3)["txt"])
    assert content(reader.read(3, ("webm",))) == {}


def test_a_number_outside_the_sets_is_refused(original):
    with pytest.raises(IndexError, match="has 18 samples, not 18"):
        ShardReader(original).read(18)
    with pytest.raises(IndexError, match="not -1"):
        ShardReader(original).locate(-1)


def test_a_pickled_reader_opens_its_own_shards(original):
    reader = ShardReader(original)
    reader.read(0)
    twin = pickle.loads(pickle.dumps(reader))
    reader.close()
    assert content(twin.read(0)) == members_of(0)
    assert content(reader.read(0)) == members_of(0)


def test_a_flipped_byte_names_shard_key_member_and_byte(copy):
    part = part_range(copy, 1, 3, "jpg")
    overwrite(copy.folder / "shard-000001.tar", part.start + 700, b"\x00\x01\x02")
    reader = ShardReader(copy, CONFIG)
    with pytest.raises(SampleFault, match=rf"from byte {part.start} on do not match") as caught:
        reader.read(10)
    fault = caught.value
    assert fault.shard == f"{copy.location}/shard-000001.tar"
    assert (fault.key, fault.member) == ("000001-000003", "jpg")
    assert content(reader.read(9)) == members_of(9)
    assert content(reader.read(11)) == members_of(11)


@settings(max_examples=40, deadline=None)
@given(sample=st.integers(0, 6), share=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_flipped_byte_of_content_is_noticed(original, tmp_path_factory, sample, share, flip):
    reader = ShardReader(original)
    index = read_index(original.folder / "shard-000000.idx")
    for part in index.parts_of(sample, index.parts):
        folder = tmp_path_factory.mktemp("flip") / "set"
        shutil.copytree(original.folder, folder)
        place = part.start + int(share * part.length)
        tar = folder / "shard-000000.tar"
        overwrite(tar, place, bytes([tar.read_bytes()[place] ^ flip]))
        with pytest.raises(SampleFault) as caught:
            ShardReader(ShardSet.open(folder), CONFIG).read(sample)
        assert caught.value.member == part.suffix
        shutil.rmtree(folder)
    assert content(reader.read(sample)) == members_of(sample)


def test_garbage_after_a_valid_header_is_noticed_and_the_rest_is_read(copy):
    start = part_range(copy, 0, 2, "txt").start
    stop = part_range(copy, 0, 5, "txt").start - 512
    overwrite(copy.folder / "shard-000000.tar", start, os.urandom(stop - start))
    reader = ShardReader(copy, CONFIG)
    found = [outcome(reader, sample_id) for sample_id in range(7)]
    assert found[2:5] == [SampleFault] * 3
    assert found[:2] + found[5:] == [members_of(number) for number in (0, 1, 5, 6)]


def test_a_truncated_shard_gives_its_whole_samples_and_says_what_is_lost(copy, caplog):
    tar = copy.folder / "shard-000000.tar"
    os.truncate(tar, part_range(copy, 0, 4, "flac").start + 10)
    reader = ShardReader(copy, CONFIG)
    with caplog.at_level(logging.WARNING):
        found = [outcome(reader, sample_id) for sample_id in range(18)]
        reader.close()
        reader.read(0)
    assert found[:4] == [members_of(number) for number in range(4)]
    assert found[4:7] == [SampleFault] * 3
    assert found[7:] == [members_of(number) for number in range(7, 18)]
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == 1
    assert f"{tar}: " in warnings[0]
    assert "3 of 7 samples are cut off" in warnings[0]


def test_a_sample_whose_padding_alone_is_cut_off_is_whole(copy):
    last = part_range(copy, 0, 6, "json")
    os.truncate(copy.folder / "shard-000000.tar", last.start + last.length)
    reader = ShardReader(copy, CONFIG)
    assert content(reader.read(6)) == members_of(6)


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_a_shard_of_which_nothing_is_left_is_a_broken_shard(copy, size):
    os.truncate(copy.folder / "shard-000001.tar", size)
    reader = ShardReader(copy, CONFIG)
    with pytest.raises(
        ShardError, match=r"shard-000001.tar: .* all 5 samples are cut off"
    ) as caught:
        reader.read(8)
    assert not isinstance(caught.value, SampleFault)
    assert content(reader.read(0)) == members_of(0)


def test_a_shard_truncated_while_it_is_read_is_noticed(copy):
    reader = ShardReader(copy, CONFIG)
    reader.read(0)
    os.truncate(copy.folder / "shard-000000.tar", part_range(copy, 0, 5, "txt").start)
    with pytest.raises(SampleFault, match="000000-000005: cut off"):
        reader.read(5)
    assert content(reader.read(4)) == members_of(4)
    os.truncate(copy.folder / "shard-000000.tar", 0)
    assert outcome(reader, 4) is SampleFault
    assert outcome(reader, 4) is ShardError


def test_a_longer_file_is_not_the_shard_that_was_indexed(copy):
    with (copy.folder / "shard-000000.tar").open("ab") as file:
        file.write(bytes(512))
    with pytest.raises(ShardError, match="another file than the one that was indexed"):
        ShardReader(copy, CONFIG).read(0)


def test_a_missing_shard_is_tried_again_and_then_named(copy):
    (copy.folder / "shard-000001.tar").unlink()
    reader = ShardReader(copy, CONFIG)
    with pytest.raises(ShardError, match=r"shard-000001.tar: cannot be opened .* after 3 tries"):
        reader.read(7)
    assert reader.counters().retries == 2


def test_a_shard_that_comes_back_is_read(copy):
    tar = copy.folder / "shard-000001.tar"
    away = tar.rename(copy.folder / "away")
    patient = replace(QUICK, attempts=1000)
    reader = ShardReader(copy, ReaderConfig(retry=patient))
    timer = threading.Timer(0.2, lambda: away.rename(tar))
    timer.start()
    assert content(reader.read(7)) == members_of(7)
    timer.join()
    assert reader.counters().retries > 0


def test_a_shard_that_may_not_be_read_is_named(copy):
    tar = copy.folder / "shard-000001.tar"
    tar.unlink()
    tar.symlink_to(tar)  # permissions stop no superuser; a link to itself stops everybody
    with pytest.raises(ShardError, match=r"shard-000001.tar: cannot be opened \(Too many levels"):
        ShardReader(copy, CONFIG).read(7)


def test_a_missing_index_is_named(copy):
    (copy.folder / "shard-000002.idx").unlink()
    with pytest.raises(ShardError, match=r"No such file or directory: .*shard-000002\.idx"):
        ShardReader(copy, CONFIG).read(17)


def test_an_altered_index_is_refused(copy):
    overwrite(copy.folder / "shard-000002.idx", 200, b"\xff")
    with pytest.raises(ShardError, match=r"shard-000002\.idx: .*altered"):
        ShardReader(copy, CONFIG).read(17)


def test_the_index_of_another_shard_is_refused(copy):
    shutil.copy(copy.folder / "shard-000001.idx", copy.folder / "shard-000000.idx")
    with pytest.raises(ShardError, match="belongs to another shard set"):
        ShardReader(copy, CONFIG).read(0)


def test_parts_in_any_order_and_unknown_ones_are_no_trouble(copy):
    path = copy.folder / "shard-000000.idx"
    index = decode_index(path.read_bytes(), "x")
    turned = replace(
        index,
        parts=("cls", *reversed(index.parts[1:])),
        part_offsets=index.part_offsets[:, [0, 3, 2, 1]],
        part_lengths=index.part_lengths[:, [0, 3, 2, 1]],
        part_crc32=index.part_crc32[:, [0, 3, 2, 1]],
    )
    path.write_bytes(encode_index(turned))
    found = content(ShardReader(copy, CONFIG).read(3))
    assert found == {k: v for k, v in members_of(3).items() if k != index.parts[0]}


def test_too_many_open_files_closes_the_oldest_shard(tmp_path):
    shard_set = write_set(tmp_path / "many", sizes=(1,) * 60, media_bytes=100)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    reader = ShardReader(shard_set, CONFIG)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12, hard))
    try:
        for sample_id in (*range(60), *range(60)):
            assert content(reader.read(sample_id)) == members_of(sample_id, 100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert reader.counters().retries == 0
