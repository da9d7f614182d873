"""A full disk is told as a sentence that somebody can act on."""

import errno

import pytest
from safetensors import SafetensorError

from pretrain.disk_room import NoRoomError, free_bytes, room_named

BY_SAFETENSORS = "Error while serializing: I/O error: No space left on device (os error 28)"


def by_python():
    with open("/dev/full", "w") as file:
        file.write("x")


def by_safetensors():
    raise SafetensorError(BY_SAFETENSORS)


def by_a_quota():
    raise OSError(errno.EDQUOT, "Disk quota exceeded", "/somewhere/temporary")


@pytest.mark.parametrize("fail", [by_python, by_safetensors, by_a_quota])
def test_the_place_and_what_to_do_are_told_whichever_library_met_the_full_disk(tmp_path, fail):
    out = tmp_path / "not" / "there yet"
    with pytest.raises(NoRoomError) as told, room_named(out, "take the other one"):
        fail()
    assert str(told.value).startswith(f"{out}: not written: ")
    assert "MB are free there); make room, or take the other one, and run" in str(told.value)
    assert "Errno" not in str(told.value)


def test_other_failures_pass_as_they_are(tmp_path):
    refusal = OSError(errno.EACCES, "Permission denied")
    with pytest.raises(OSError, match="Permission denied") as told, room_named(tmp_path):
        raise refusal
    assert told.value is refusal


def test_the_room_of_a_folder_that_is_not_there_is_that_of_the_one_above(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") > 0
