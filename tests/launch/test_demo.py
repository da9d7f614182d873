"""The demo, shortened to two steps and two splits: every part of the way is real."""

import json
import subprocess
import sys

from data_sharding.manifest import ShardSet
from eval.release.publish import verify_published


def test_the_demo_goes_from_raw_files_to_a_published_backbone(tmp_path):
    out = tmp_path / "demo"
    short = ["--steps", "2", "--splits", "2"]
    command = [sys.executable, "-m", "launch", "demo", "--out", str(out), *short]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for word in ("majority", "shuffled", "random", "pretrained", "fused", "report.html"):
        assert word in done.stdout, word
    reports = sorted((out / "run" / "probes").glob("*/sample-topics.json"))
    assert [path.parent.name for path in reports] == ["step-00000001", "step-00000002"]
    names = {"text", "image", "audio", "fused", "late"}
    assert set(json.loads(reports[0].read_text())["subsets"]) == names
    page = (out / "run" / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert ShardSet.open(out / "shards").licence == "GPL-2.0"
    verify_published(out / "backbone")


def test_the_demo_never_replaces_a_folder_it_did_not_make(tmp_path):
    (tmp_path / "mine").write_text("keep")
    command = [sys.executable, "-m", "launch", "demo", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no demo made it" in done.stderr
    assert (tmp_path / "mine").read_text() == "keep"
