import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import save_file

from eval.release.privacy import find_path, refuse_private, strip_private
from eval.release.release_checks import (
    SUMS_FILE,
    checksums,
    received_files,
    refuse_non_finite,
    refuse_pickles,
    verify_checksums,
)


@pytest.fixture
def folder(tmp_path):
    save_file({"weight": torch.ones(4)}, tmp_path / "model.safetensors")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "config.json").write_text("{}")
    (tmp_path / SUMS_FILE).write_text(checksums(tmp_path))
    return tmp_path


def test_a_whole_folder_passes(folder):
    verify_checksums(folder)
    refuse_pickles(folder)
    refuse_non_finite(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "text/config.json"])
def test_a_flipped_byte_is_found_and_its_file_named(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} differs from"):
        verify_checksums(folder)


def test_a_missing_file_is_named(folder):
    (folder / "text" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        verify_checksums(folder)


def test_a_file_too_many_is_named(folder):
    (folder / "extra.json").write_text("{}")
    with pytest.raises(ValueError, match=r"extra\.json is no part"):
        verify_checksums(folder)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "weights.pt", "harmless.json", "a.safetensors"]
)
def test_a_pickle_is_refused_whatever_its_name(folder, name):
    (folder / name).write_bytes(pickle.dumps({"a": 1}, protocol=4))
    with pytest.raises(ValueError, match="may hold a pickle"):
        refuse_pickles(folder)


def test_torchs_zip_of_pickles_is_refused_under_another_name(folder):
    torch.save({"a": torch.ones(1)}, folder / "model.json")
    with pytest.raises(ValueError, match="may hold a pickle"):
        refuse_pickles(folder)


def test_a_link_is_refused(folder):
    (folder / "link.json").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="only plain files"):
        refuse_pickles(folder)


def download(folder, way, out):
    """The folder as it comes back from the Hub: `hf download --local-dir`, a clone, the cache."""
    if way == "cache":
        blobs = out.parent / "blobs"
        for number, path in enumerate(p for p in sorted(folder.rglob("*")) if p.is_file()):
            place, blob = out / path.relative_to(folder), blobs / str(number)
            for parent in (place.parent, blobs):
                parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, blob)
            place.symlink_to(os.path.relpath(blob, place.parent))
    else:
        shutil.copytree(folder, out)
        beside = out / {"local": ".cache/huggingface/download", "clone": ".git"}[way]
        beside.mkdir(parents=True)
        (beside / "state").write_bytes(pickle.dumps(1, protocol=4))
    (out / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    return out


@pytest.mark.parametrize("way", ["local", "clone", "cache"])
def test_a_download_is_checked_without_what_came_beside_it(folder, tmp_path_factory, way):
    out = download(folder, way, tmp_path_factory.mktemp("hub") / "out")
    verify_checksums(out, received_files)
    refuse_pickles(out, received_files)
    with pytest.raises(ValueError, match=r"is no part|only plain files"):
        verify_checksums(out)  # but so it is not given out
    (out / "text" / ".gitattributes").write_text("hidden")
    with pytest.raises(ValueError, match=r"text/\.gitattributes is no part"):
        verify_checksums(out, received_files)


def test_a_changed_file_of_a_download_is_found_behind_its_link(folder, tmp_path_factory):
    out = download(folder, "cache", tmp_path_factory.mktemp("hub") / "out")
    (out / "text" / "config.json").resolve().write_text("{} ")
    with pytest.raises(ValueError, match=r"text/config\.json differs from"):
        verify_checksums(out, received_files)


def test_links_of_a_download_to_folders_or_to_nothing_are_refused(folder, tmp_path_factory):
    for name, target in (("loop", folder), ("gone", folder / "absent")):
        out = shutil.copytree(folder, tmp_path_factory.mktemp("hub") / "out")
        (out / name).symlink_to(target)
        with pytest.raises(ValueError, match=f"{name}: is no file"):
            verify_checksums(out, received_files)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(folder, bad):
    save_file({"fine": torch.ones(2), "broken": torch.tensor([1.0, bad])}, folder / "m.safetensors")
    with pytest.raises(ValueError, match="tensor broken holds NaN"):
        refuse_non_finite(folder)


def test_a_truncated_safetensors_file_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        refuse_non_finite(folder)


def test_paths_lose_their_folders_and_personal_keys_go():
    record = {
        "shards": "/home/ann/corpora/stamps",
        "log": ["written to /scratch/ann/run-3/log.txt."],
        "uri": "file:///home/ann/x.json",
        "user": "ann",
        "source": "https://example.org/a/b",
        "share": 0.5,
        "rule": "text/image, 1/J + n_test/n_learn",
    }
    stripped = strip_private(record)
    assert stripped == {
        "shards": "stamps",
        "log": ["written to log.txt."],
        "uri": "x.json",
        "source": "https://example.org/a/b",
        "share": 0.5,
        "rule": "text/image, 1/J + n_test/n_learn",
    }
    assert find_path(str(stripped)) is None
    assert find_path(str(record)) is not None


def test_all_wrong_files_are_named(folder):
    (folder / "text" / "config.json").unlink()
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"model\.safetensors differs.*config\.json is missing"):
        verify_checksums(folder)


def test_names_in_the_sums_are_never_used_as_paths(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.txt"
    outside.write_text("mine")
    with (folder / SUMS_FILE).open("a") as sums:
        sums.write(f"{'0' * 64}  ../{outside.parent.name}/secret.txt\n")
    with pytest.raises(ValueError, match=r"secret\.txt is missing"):
        verify_checksums(folder)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("s3://key:pass@host/bucket", "s3://…host/bucket"),
        ("https://h/x?X-Amz-Signature=abc123&part=1", "https://h/x?…&part=1"),
        ("token hf_abcdefghijklmnopqrstuvwx", "token …"),
        ("AKIAABCDEFGHIJKLMNOP", "…"),
        ("written by ann@example.org", "written by …"),
        ("C:\\Users\\ann\\corpus.csv", "corpus.csv"),
    ],
)
def test_secrets_addresses_and_windows_paths_are_taken_out(text, kept):
    assert strip_private([text]) == [kept]


@pytest.mark.parametrize("key", ["max_tokens", "group_key", "token_dim", "num_nodes", "accounted"])
def test_settings_that_merely_sound_private_stay(key):
    assert strip_private({key: 7}) == {key: 7}


@pytest.mark.parametrize(
    "key", ["hf_token", "account", "API_KEY", "aws_secret_access_key", "Email"]
)
def test_keys_of_secrets_and_names_go_with_their_values(key):
    assert strip_private({"a": {key: "x"}}) == {"a": {}}


def test_a_folder_is_searched_for_paths_names_and_secrets(folder, monkeypatch):
    refuse_private(folder)
    monkeypatch.setattr("socket.gethostname", lambda: "gpu-node-17.example.org")
    found = {
        '{"a": "/home/ann/shards/x"}': r"text/config\.json would give away '/home/ann/shards/x'",
        '{"a": "gpu-node-17"}': "name of this user or host",
        '{"a": "hf_abcdefghijklmnopqrstuvwx"}': "a password or a token",
    }
    for content, message in found.items():
        (folder / "text" / "config.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            refuse_private(folder)


def test_the_name_of_this_host_is_taken_out(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "gpu-node-17")
    assert strip_private({"note": "ran on gpu-node-17 twice"}) == {"note": "ran on … twice"}
