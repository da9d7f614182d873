"""The fault drill in its short form: a run is killed, each file of a checkpoint is damaged."""

import json
import subprocess
import sys
from pathlib import Path

import drill
import drill_table
from drill_looks import INTERVAL, LeftOutError, expect
from drill_run import Ground


def test_the_short_fault_drill_sees_what_it_should(tmp_path, drill_ground):
    out = tmp_path / "drill.json"
    drill_ground(kills=1)
    command = [sys.executable, drill.__file__, "--quick", "--check", "--out", str(out)]
    command += ["--kills", "1", "--keep", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    kills, files = (json.loads(out.read_text())["scenes"][name] for name in drill.QUICK)
    assert kills["times"] == 1
    assert kills["steps_lost"] <= 2 * INTERVAL
    assert kills["seconds"]["to the end of all ranks"]["high"] < 60
    assert files["times"] >= 2 * 3 * 8


def test_what_the_drill_did_not_expect_or_left_out_or_broke_on_is_shown_and_fails_its_check():
    def refused(ground):
        raise LeftOutError("may not mount")

    scenes = {
        "6 steps lost": lambda ground: expect(False, "6 steps lost"),
        "left out: may not mount": refused,
        "KeyError('w')": lambda ground: {}["w"],
    }
    ground = Ground(folder=Path(), shards=Path(), seed=0, kills=0)
    for seen, act in scenes.items():
        row = drill_table.play(drill_table.Scene("a fault", "nothing", act), ground)
        assert not row.as_expected
        assert f"**NOT AS EXPECTED**: {seen}" in row.show()
    assert drill.exit_code(False, check=True) == 1
