"""A release goes onto the Hub in one commit, or nothing of it can be seen there."""

import shutil
import socket
import types
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.utils._http
import numpy as np
import pytest
from huggingface_hub import HfApi

from eval.release.push import PushError, find_target, plan_push, push
from eval.release.release_checks import SUMS_FILE, write_checksums
from fake_hub import REPO, TOKEN, running_hub
from launch.commands import COMMANDS

# huggingface_hub's own client calls its HTTP library in a way that the library would rather not.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch):
    """A Hub that the client takes for the real one; it does not wait between its retries."""
    with running_hub() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        quick = types.SimpleNamespace(sleep=lambda seconds: None)
        monkeypatch.setattr(huggingface_hub.utils._http, "time", quick)
        huggingface_hub.utils.disable_progress_bars()
        yield hub
        huggingface_hub.utils.enable_progress_bars()
        huggingface_hub.utils.close_session()


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.url, token=TOKEN)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def published(hub):
    return {name: content for name, content in hub.files.items() if name != ".gitattributes"}


def pushed(folder, api, overwrite=False):
    plan = plan_push(folder, find_target(REPO, api), overwrite)
    return push(folder, plan, "Publish small", api)


def changed(release, folder, gone=None):
    """Another release: one file more in the probes, and perhaps one file less."""
    out = shutil.copytree(release, folder)
    (out / "probes").mkdir()
    (out / "probes" / "more.json").write_text("{}")
    if gone:
        (out / gone).unlink()
    write_checksums(out)
    return out


def test_a_release_goes_in_one_commit_and_a_second_push_does_nothing(release, hub, api):
    address = pushed(release, api)
    assert published(hub) == contents(release)
    assert address == f"{hub.url}/{REPO}/commit/{hub.commits[-1]}"
    assert len(hub.commits) == 2
    plan = plan_push(release, find_target(REPO, api), overwrite=False)
    assert plan.lines() == [
        f"{REPO}, branch main at {hub.commits[-1][:12]}: this release is there already"
    ]
    push(release, plan, "again", api)
    assert len(hub.commits) == 2


def test_what_was_pushed_can_be_downloaded_verified_and_used(release, hub, api, tmp_path, capsys):
    pushed(release, api)
    out = tmp_path / "down"
    huggingface_hub.snapshot_download(REPO, local_dir=out, endpoint=hub.url, token=TOKEN)
    assert {".gitattributes", ".cache", SUMS_FILE} <= {path.name for path in out.iterdir()}
    cache = tmp_path / "cache"
    linked = huggingface_hub.snapshot_download(REPO, cache_dir=cache, endpoint=hub.url, token=TOKEN)
    assert (Path(linked) / SUMS_FILE).is_symlink()
    (tmp_path / "a.txt").write_text("a frog")
    for backbone in (str(out), linked):
        assert COMMANDS["verify-backbone"]([backbone]) == 0
        assert "features as published" in capsys.readouterr().out
        table = tmp_path / "e.npy"
        words = [str(tmp_path / "a.txt"), "--backbone", backbone, "--out", str(table)]
        assert COMMANDS["embed"]([*words, "--overwrite"]) == 0
        assert np.isfinite(np.load(table)).all()


def test_a_file_that_is_gone_from_the_repository_is_pushed_again(release, hub, api):
    pushed(release, api)
    del hub.files["model.safetensors"]
    pushed(release, api)
    assert published(hub) == contents(release)


def test_overwrite_pushes_even_what_seems_to_be_there(release, hub, api):
    pushed(release, api)
    hub.files["stats.json"] = b"{}"  # edited on the Hub's own page: its sums stay as they were
    pushed(release, api)
    assert hub.files["stats.json"] == b"{}"
    pushed(release, api, overwrite=True)
    assert published(hub) == contents(release)


def test_the_plan_lists_what_would_go_and_sends_nothing(release, hub, api):
    plan = plan_push(release, find_target(REPO, api), overwrite=False)
    lines = plan.lines()
    size = (release / "model.safetensors").stat().st_size
    assert f"  + model.safetensors  {size:,}" in lines
    assert len(lines) == 1 + len(contents(release))
    assert (hub.requests, published(hub)) == ([], {})


@pytest.mark.parametrize("where", ["/lfs/", "/commit/", "/preupload/", "/objects/batch"])
def test_a_connection_that_dies_half_way_leaves_nothing_and_a_retry_works(release, hub, api, where):
    hub.dies_at = where
    with pytest.raises(PushError, match="push again"):
        pushed(release, api)
    assert (published(hub), len(hub.commits)) == ({}, 1)
    hub.dies_at = None
    pushed(release, api)
    assert published(hub) == contents(release)


def test_what_was_uploaded_before_the_connection_died_is_not_sent_again(release, hub, api):
    hub.dies_at = "/commit/"
    with pytest.raises(PushError):
        pushed(release, api)
    uploads = hub.requests.count("PUT")
    assert uploads == sum(name.endswith(".safetensors") for name in contents(release))
    hub.dies_at = None
    pushed(release, api)
    assert hub.requests.count("PUT") == uploads


def test_a_branch_that_moved_since_the_plan_is_refused(release, hub, api):
    plan = plan_push(release, find_target(REPO, api), overwrite=False)
    hub.files["notes.md"] = b"of a colleague"
    hub.commits.append("1" * 40)
    with pytest.raises(PushError, match=r"has moved on from 000000000000.*nothing was pushed"):
        push(release, plan, "Publish small", api)
    assert published(hub) == {"notes.md": b"of a colleague"}


def test_another_release_replaces_the_first_only_when_told_to(release, hub, api, tmp_path):
    before = changed(release, tmp_path / "before")
    pushed(before, api)
    with pytest.raises(PushError, match="another backbone is published there; --overwrite"):
        pushed(release, api)
    pushed(release, api, overwrite=True)
    assert published(hub) == contents(release)  # and what only the first one had is gone


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_repository_of_other_things_is_never_touched(release, hub, api, overwrite):
    hub.files["thesis.tex"] = b"years of work"
    with pytest.raises(PushError, match=r"holds thesis\.tex"):
        pushed(release, api, overwrite)
    assert published(hub) == {"thesis.tex": b"years of work"}


def test_a_release_that_was_changed_or_tells_a_path_does_not_go(release, hub, api, tmp_path):
    target = find_target(REPO, api)
    out = shutil.copytree(release, tmp_path / "out")
    (out / "stats.json").write_text("{}")
    with pytest.raises(ValueError, match=r"stats\.json differs"):
        plan_push(out, target, overwrite=False)
    (out / "stats.json").write_text('{"a": "/home/ann/shards/x"}')
    write_checksums(out)
    with pytest.raises(ValueError, match=r"stats\.json would give away"):
        plan_push(out, target, overwrite=False)


@pytest.mark.parametrize("repo", ["", "small", "a/b/c", "ann/small.git", "ann/../x", "ann/ sm"])
def test_a_bad_repository_name_is_told_without_a_request(hub, api, repo):
    with pytest.raises(PushError, match="is no name of a repository"):
        find_target(repo, api)


def test_no_token_a_wrong_token_and_a_missing_repository_are_told(hub, api, monkeypatch):
    monkeypatch.setattr("eval.release.push.get_token", lambda: None)
    with pytest.raises(PushError, match=r"no token for the Hub.*hf auth login"):
        find_target(REPO, HfApi(endpoint=hub.url))
    with pytest.raises(PushError, match="the Hub refuses"):
        find_target(REPO, HfApi(endpoint=hub.url, token="hf_wrong"))
    with pytest.raises(PushError, match="hf repo create ann/absent"):
        find_target("ann/absent", api)


def test_no_network_is_told(hub):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(PushError, match=f"{url} cannot be reached"):
            find_target(REPO, HfApi(endpoint=url, token=TOKEN))


def test_the_command_looks_at_the_repository_before_it_works(release, hub, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.release.push.get_token", lambda: None)
    run, out = str(release.parent / "run"), tmp_path / "out"
    terms = ["--licence", "cc-by-4.0", "--name", "small", "--without-probes"]
    with pytest.raises(PushError, match="no token"):
        COMMANDS["publish"]([run, str(out), *terms, "--push-to", REPO])
    with pytest.raises(ValueError, match="--dry-run is about --push-to"):
        COMMANDS["publish"]([run, str(out), *terms, "--dry-run"])
    assert not out.exists()


def test_the_command_publishes_lists_and_pushes(release, hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "launch.publish_command.HfApi", lambda: HfApi(endpoint=hub.url, token=TOKEN)
    )
    run, out = str(release.parent / "run"), tmp_path / "out"
    terms = ["--licence", "cc-by-4.0", "--name", "small", "--without-probes", "--push-to", REPO]
    assert COMMANDS["publish"]([run, str(out), *terms, "--dry-run"]) == 0
    assert "one commit of" in capsys.readouterr().out
    assert published(hub) == {}
    assert COMMANDS["publish"]([run, str(out), *terms]) == 0
    assert f"{hub.url}/{REPO}/commit/" in capsys.readouterr().out
    assert published(hub)[SUMS_FILE] == (out / SUMS_FILE).read_bytes()
