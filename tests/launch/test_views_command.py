import json
import re
from dataclasses import replace

import pytest

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.stats import StatsConfig, compute_stats
from data_sharding.stream.loader import LoaderConfig
from data_sharding.stream.order import OrderConfig
from launch.__main__ import main
from launch.run_config import save_run_config
from launch.views_sheet import SheetDrawer, share_of_batch, write_views_sheet
from pretrain.config import BatchConfig, DataConfig
from pretrain.views import TextViewConfig, ViewsConfig
from tiny import tiny_pretrain, tiny_run
from tiny_corpus import write_image, write_rows, write_tone

EVIL = "<script>alert(1)</script> red"
MASKED = ViewsConfig(text=TextViewConfig(mask_probability=(1.0, 0.0)))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """16 samples: some have two texts, some no picture, some no sound."""
    folder = tmp_path_factory.mktemp("views") / "corpus"
    folder.mkdir()
    rows = []
    for number in range(16):
        write_image(folder / f"{number}.jpg", number)
        write_tone(folder / f"{number}.wav", number, seconds=0.5)
        row = {"id": str(number), "text": [EVIL, f"blue {number}"]}
        row |= {"image": f"{number}.jpg"} if number % 4 else {}
        rows.append(row | ({"audio": f"{number}.wav"} if number % 5 else {}))
    write_rows(folder, rows)
    shard_corpus(folder, folder.parent / "shards", ShardingConfig())
    compute_stats(folder.parent / "shards", StatsConfig())
    return folder.parent / "shards"


def a_config(shards, **changes):
    order = OrderConfig(block_samples=1, window_blocks=4, lanes=4)
    loader = LoaderConfig(num_workers=0, order=order)
    return tiny_pretrain(shards, data=DataConfig(shards=str(shards), loader=loader), **changes)


def run_command(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["views", *map(str, arguments)])
    assert not end.value.code


def test_the_page_shows_each_sample_and_both_views_and_needs_no_other_file(
    shards, tmp_path, capsys
):
    run = tiny_run(tmp_path / "run", shards)
    save_run_config(replace(run, pretrain=a_config(shards, views=MASKED)))
    page = tmp_path / "views.html"
    run_command("--config", tmp_path / "run" / "config.json", "--out", page, "--num-samples", 16)
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text()
    assert text.count("<section") == 16
    assert "<script" not in text
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    assert text.count('<img src="data:image/png;base64,') == 3 * (12 + 12)
    assert text.count('src="data:audio/flac;base64,') == 3 * 12
    assert text.count("not in this sample") == 4 + 4
    assert "<mark" in text
    assert "[MASK]" not in text


def test_a_recipe_and_bare_shards_can_be_drawn(shards, tmp_path):
    small = ["--num-samples", 2, "--out", tmp_path / "a.html"]
    order = ["--pretrain.data.loader.order.block-samples", 1]
    run_command("demo", "--pretrain.data.shards", shards, *small, *order)
    recipe = (tmp_path / "a.html").read_text()
    run_command(shards, *small, "--seed", 3)
    assert recipe != (tmp_path / "a.html").read_text()


def test_without_anything_to_draw_the_choices_are_named(capsys):
    with pytest.raises(SystemExit):
        main(["views"])
    assert "give shards, a run, a recipe or --config" in capsys.readouterr().err


def test_the_sheet_shows_what_training_sees(shards):
    config = a_config(shards, views=MASKED)
    drawer = SheetDrawer(config)
    first, again = drawer.draw(4), SheetDrawer(config).draw(8)[:4]
    assert first == again  # however many are drawn
    other_seed = SheetDrawer(replace(config, seed=5)).draw(4)
    assert [sample.key for sample in other_seed] == [sample.key for sample in first]
    assert other_seed != first
    assert drawer.draw(4, epoch=0) == first
    assert drawer.draw(4, epoch=7) != first
    for sample in first:
        assert set(sample.text_views[0].split()) == {"[MASK]"}
        assert "[MASK]" not in sample.text_views[1]
        assert len(sample.texts) == 2
        assert sample.alternatives == {"text": 1, "image": 0, "audio": 0}


def test_only_as_much_of_a_large_batch_is_decoded_as_the_sheet_shows(shards):
    config = a_config(shards, batch=BatchConfig(global_samples=1024))
    part = share_of_batch(config, 8)
    assert (part.global_batch, part.world_size) == (1024, 128)
    assert share_of_batch(config, 9).world_size == 64  # whole groups of mixup


def test_the_report_gets_its_sheet_without_the_weight_of_sound(shards, tmp_path):
    path = write_views_sheet(a_config(shards), tmp_path)
    samples = json.loads(path.read_text())["samples"]
    assert len(samples) == 8
    for sample in samples:
        assert sample["text"]
        assert len(sample["text_views"]) == 2
        assert len(sample["image_views"]) == (2 if sample["image"] else 0)
        assert "sound" not in sample
