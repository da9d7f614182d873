"""The four tools as a user types them."""

import pytest
from webdataset import TarWriter

from data_sharding.manifest import ShardSet
from data_sharding.schema import ShardError
from launch.shard_tools import (
    export_index_command,
    index_command,
    inspect_command,
    verify_command,
)
from tiny_shards import write_set

COMMANDS = {
    "index": index_command,
    "verify": verify_command,
    "inspect": inspect_command,
    "export-index": export_index_command,
}


@pytest.fixture
def foreign(tmp_path):
    for shard in range(2):
        with TarWriter(str(tmp_path / f"x-{shard:03d}.tar")) as writer:
            for number in range(3):
                writer.write({"__key__": f"{shard}{number}", "txt": "t", "cls": 1})
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_the_command_is_for(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        COMMANDS[name](["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: triptych {name}" in shown
    assert "(default" in shown or "required" in shown


def test_foreign_tars_go_through_all_four_tools(foreign, capsys):
    pattern = str(foreign / "x-{000..001}.tar")
    assert index_command([pattern, "--licence", "cc0-1.0", "--workers", "1"]) == 0
    assert "6 samples (6 with text) in 2 tars" in capsys.readouterr().out
    assert verify_command([str(foreign)]) == 0
    assert "whole (every byte): 6 samples in 2 shards" in capsys.readouterr().out
    page = foreign / "sheet.html"
    assert inspect_command([str(foreign), "--html", str(page), "--samples", "2"]) == 0
    assert "licence cc0-1.0" in capsys.readouterr().out
    assert page.read_text().count("<article") == 2
    assert export_index_command([str(foreign), "--format", "wids"]) == 0
    assert "wids-train.json" in capsys.readouterr().out


def test_verify_exits_with_1_and_prints_the_broken_bytes(tmp_path, capsys):
    write_set(tmp_path / "set")
    with (tmp_path / "set" / "shard-000001.tar").open("r+b") as file:
        file.seek(512)
        file.write(b"!")
    assert verify_command([str(tmp_path / "set")]) == 1
    told = capsys.readouterr()
    assert "shard-000001.tar: bytes 512-" in told.out
    assert "(000001-000000.txt): CRC32 differs" in told.out
    assert "1 files are broken" in told.err
    assert verify_command([str(tmp_path / "set"), "--depth", "quick"]) == 0
    assert "no tar was read" in capsys.readouterr().out


def test_an_altered_manifest_is_damage_and_a_wrong_path_a_mistake(tmp_path, capsys):
    write_set(tmp_path / "set")
    manifest = tmp_path / "set" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("train", "trash"))
    assert verify_command([str(tmp_path / "set")]) == 1
    assert "does not match its content" in capsys.readouterr().out
    with pytest.raises(ShardError, match="no shard set"):
        verify_command([str(tmp_path / "nothing")])


def test_no_tars_at_all_is_told():
    with pytest.raises(ValueError, match="give tars"):
        index_command([])


def test_an_index_run_again_reads_nothing_again(foreign, capsys):
    words = [str(foreign), "--workers", "1"]
    index_command(words)
    digest = ShardSet.open(foreign).digest
    capsys.readouterr()
    index_command(words)
    assert "0 read, the others were indexed already" in capsys.readouterr().out
    assert ShardSet.open(foreign).digest == digest
