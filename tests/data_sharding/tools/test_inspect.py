import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_sharding.manifest import Generation, write_manifest
from data_sharding.schema import RawSample, SampleFault
from data_sharding.tools.inspection import InspectConfig, inspect_set, spread
from data_sharding.tools.inspection_cards import make_card
from data_sharding.tools.inspection_charts import draw_counts, draw_histogram, short
from data_sharding.tools.inspection_sheet import render, write_sheet
from data_sharding.tools.inspection_text import bytes_short, describe
from data_sharding.writer import ShardWriter

HOSTILE = '<script>alert("x")</script>'


def picture(width, height):
    encoded = io.BytesIO()
    pixels = np.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(encoded, "JPEG")
    return encoded.getvalue()


def sound(seconds, rate=16_000):
    encoded = io.BytesIO()
    time = np.arange(round(seconds * rate)) / rate
    soundfile.write(encoded, 0.3 * np.sin(2 * np.pi * 440 * time), rate, format="FLAC")
    return encoded.getvalue()


def card(number):
    content = {
        "id": f"{HOSTILE}{number}",
        "labels": {"mood": "glad" if number % 2 else HOSTILE},
        "metadata": {"language": "ar" if number % 2 else "de"},
    }
    return json.dumps(content).encode()


@pytest.fixture
def folder(tmp_path):
    """Six samples: hostile text, right-to-left text, one without sound, one broken picture."""
    rows = [
        {"txt": HOSTILE.encode(), "jpg": picture(40, 30), "flac": sound(0.5), "json": card(0)},
        {"txt": "مرحبا بالعالم".encode(), "jpg": picture(60, 90), "json": card(1)},
        {"txt": b"three", "jpg": b"<html>", "flac": sound(2.0), "json": card(2)},
        {"flac": sound(0.01)},
        {"txt": b"five", "json": b"[[1]]"},
        {"jpg": picture(40, 30)},
    ]
    entries = []
    for number, split in enumerate(("test", "train")):
        with ShardWriter(tmp_path, number) as writer:
            for row in rows[3 * number : 3 * number + 3]:
                writer.add(row)
            entries.append(writer.publish(tmp_path, split))
    generation = Generation(
        num_shards=2, sources=({"file": HOSTILE},), licence="cc0", rejects={"bad-image": 7}
    )
    write_manifest(tmp_path, entries, [generation])
    return tmp_path


def test_counts_come_from_every_sample_and_measures_from_their_headers(folder):
    found = inspect_set(str(folder), InspectConfig())
    assert found.combinations == {
        "text + image + audio": 2,
        "text + image": 1,
        "text": 1,
        "audio": 1,
        "image": 1,
    }
    sizes = {part.suffix: (part.count, part.total) for part in found.parts}
    assert sizes["txt"] == (4, len(HOSTILE) + 25 + 5 + 4)
    assert found.values("width") == [40, 60, 40]
    assert found.values("seconds") == [0.5, 2.0, 0.01]
    assert found.languages == {"de": 2, "ar": 1}
    assert found.labels == {"mood": {HOSTILE: 2, "glad": 1}}
    assert [fact.unreadable for fact in found.facts].count(("jpg",)) == 1


def test_the_text_tells_counts_rejects_licences_and_how_much_was_measured(folder):
    text = describe(inspect_set(str(folder), InspectConfig(measured=3)))
    for line in (
        "6 samples in 2 shards",
        "licence cc0",
        "test: 3 samples in 1 shards",
        "rejected: bad-image 7",
        "measured on 3 of 6 samples, spread evenly",
        "image               4   66.7 %",
    ):
        assert line in text


def test_one_split_can_be_looked_at(folder):
    found = inspect_set(str(folder), InspectConfig(split="train"))
    assert found.shard_set.num_samples == 3
    assert len(found.facts) == 3


def test_what_a_terminal_would_obey_is_not_printed(folder):
    with ShardWriter(folder, 0) as writer:
        writer.add({"json": b'{"labels": {"\\u001b[2J": "\\u001b[31m"}}'})
        entry = writer.publish(folder, "train")
    write_manifest(folder, [entry], [Generation(num_shards=1, licence="\x1b[5m")])
    assert "\x1b" not in describe(inspect_set(str(folder), InspectConfig()))


class Page(HTMLParser):
    """Collects tags, attributes and the addresses that a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]


def test_the_page_fetches_nothing_runs_nothing_and_shows_everything(folder, tmp_path):
    path = write_sheet(inspect_set(str(folder), InspectConfig()), tmp_path / "out" / "sheet.html")
    text = path.read_text("utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert all(source.startswith("data:") for source in page.sources)
    assert page.tags.count("article") == 6
    assert page.tags.count("audio") == 3
    assert page.tags.count("img") == 3 + 3  # pictures and spectrograms
    assert "&lt;script&gt;" in text
    assert 'dir="auto">مرحبا' in text
    assert re.search(r'class="problem"[^>]*>jpg: ', text)


def test_the_page_shows_a_sample_that_cannot_be_read_as_its_fault(folder):
    with (folder / "shard-000001.tar").open("r+b") as file:
        file.seek(600)
        file.write(b"broken")
    text = render(inspect_set(str(folder), InspectConfig()))
    assert "CRC32" in text


def test_a_picture_bomb_is_named_and_not_decoded():
    bomb = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
    sample = RawSample(shard="s.tar", key="k", sample_id=0, members={"png": bomb.getvalue()})
    made = make_card(sample)
    assert made.picture == ""
    assert "png: " in made.problems[0]


def test_a_fault_is_a_card_with_its_words():
    assert make_card(SampleFault("s.tar", "k", "jpg", "gone")).problems == ("s.tar: k.jpg: gone",)


def test_samples_are_spread_from_the_first_to_the_last():
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(3, 10) == [0, 1, 2]
    assert spread(5, 1) == [0]
    assert spread(0, 3) == []


def test_charts_hold_every_value_and_escape_names():
    svg = draw_histogram("w", [1.0] * 5 + [1000.0] * 3, "px")
    assert "5 in 1 to" in svg
    assert "3 in " in svg
    counts = draw_counts("labels", {HOSTILE: 3, **{f"n{place}": 1 for place in range(20)}})
    assert "<script" not in counts
    assert "and 7 more, 7 together" in counts


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.317, "0.317"), (130, "130"), (16_000, "16k"), (2.5e6, "2.5M")]
)
def test_numbers_are_short(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 B"), (64.2, "64.2 B"), (1500, "1.5 kB"), (5.46e6, "5.46 MB")]
)
def test_bytes_are_short(count, text):
    assert bytes_short(count) == text
