import os
import socket

import pytest

from data_sharding import storage
from tiny_shards import served


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "www" / "sub").mkdir(parents=True)
    (tmp_path / "www" / "a.bin").write_bytes(bytes(range(200)))
    (tmp_path / "www" / "sub" / "b.txt").write_bytes(b"hello")
    return tmp_path / "www"


@pytest.fixture(params=["local", "http"])
def place(request, folder):
    """The same files on a disk and on a web server."""
    if request.param == "local":
        yield str(folder)
        return
    with served(folder) as server:
        yield server.url


def test_files_are_read_whole_and_in_ranges(place):
    location = storage.join(place, "a.bin")
    assert storage.size(location) == 200
    assert storage.read_bytes(location) == bytes(range(200))
    assert storage.read_bytes(location, 10, 20) == bytes(range(10, 20))
    assert storage.exists(location)
    assert storage.read_bytes(storage.join(place, "sub/b.txt")) == b"hello"


def test_a_file_can_be_read_piece_by_piece(place):
    with storage.open_binary(storage.join(place, "a.bin")) as file:
        file.seek(150)
        assert file.read(10) == bytes(range(150, 160))
        assert file.tell() == 160
        file.seek(0)
        assert file.read() == bytes(range(200))


def test_what_the_caller_raises_inside_a_file_stays_what_it_is(place):
    with (
        pytest.raises(ValueError, match="mine"),
        storage.open_binary(storage.join(place, "a.bin")),
    ):
        raise ValueError("mine")


def test_an_absent_file_is_named(place):
    location = storage.join(place, "absent.bin")
    assert not storage.exists(location)
    with pytest.raises(FileNotFoundError, match=r"absent\.bin"):
        storage.read_bytes(location)
    with pytest.raises(FileNotFoundError, match=r"absent\.bin"):
        storage.size(location)


def test_a_server_without_byte_ranges_is_refused(folder):
    with served(folder) as server:
        server.knows_ranges = False
        with pytest.raises(OSError, match="ignores byte ranges"):
            storage.read_bytes(f"{server.url}/a.bin", 10, 20)


def test_a_server_that_fails_or_is_not_there_is_a_named_os_error(folder):
    with served(folder) as server:
        server.failures = 1
        with pytest.raises(OSError, match=rf"{server.url}/a\.bin: .*503"):
            storage.read_bytes(f"{server.url}/a.bin")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.bin"
        with pytest.raises(OSError, match=url):
            storage.read_bytes(url)


def test_files_are_listed_in_order(folder):
    assert list(storage.list_files(str(folder))) == ["a.bin", "sub/b.txt"]
    assert list(storage.list_files(str(folder), (".txt",))) == ["sub/b.txt"]


def test_links_to_folders_are_not_followed(folder):
    os.symlink(folder, folder / "sub" / "loop")
    assert list(storage.list_files(str(folder))) == ["a.bin", "sub/b.txt"]


@pytest.mark.parametrize("location", ["pipe:cat /etc/passwd", "zip://x::http://y/z", "ssh://h/x"])
def test_commands_and_unknown_schemes_are_refused(location):
    with pytest.raises(ValueError, match=r"refused|is none of"):
        storage.is_remote(location)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "..", "a\0b"])
def test_a_name_cannot_lead_out_of_its_folder(name):
    with pytest.raises(ValueError, match="is no name below"):
        storage.join("/data/set", name)
