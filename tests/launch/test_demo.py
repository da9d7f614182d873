"""The demo, shortened to two steps and two splits: every part of the way is real."""

import json

import pytest

from data_sharding.manifest import ShardSet
from eval.release.publish import verify_published
from launch.__main__ import main
from warm_ranks import start_warm


def test_the_demo_goes_from_raw_files_to_a_published_backbone(tmp_path, capfd):
    out = tmp_path / "demo"
    assert start_warm(["demo", "--out", str(out), "--steps", "2", "--splits", "2"]).wait() == 0
    said = capfd.readouterr().out
    for word in ("majority", "shuffled", "random", "pretrained", "fused", "report.html"):
        assert word in said, word
    reports = sorted((out / "run" / "probes").glob("*/sample-topics.json"))
    assert [path.parent.name for path in reports] == ["step-00000001", "step-00000002"]
    names = {"text", "image", "audio", "fused", "late"}
    first, last = (json.loads(path.read_text()) for path in reports)
    assert set(first["subsets"]) == names
    assert first["protocol"] == last["protocol"]  # one curve
    page = (out / "run" / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert ShardSet.open(out / "shards").licence == "GPL-2.0"
    verify_published(out / "backbone")


def test_the_demo_never_replaces_a_folder_it_did_not_make(tmp_path, capsys):
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(SystemExit) as refused:
        main(["demo", "--out", str(tmp_path)])
    assert refused.value.code == 2
    assert "no demo made it" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "keep"
