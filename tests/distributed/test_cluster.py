"""Connecting to Ray lets no worker import from a folder that the driver doesn't import from."""

from __future__ import annotations

import os
import sys
import threading
import types

import pytest

from embedkit.distributed.cluster import connected


@pytest.fixture
def folders(monkeypatch):
    """The current folder at each connection to a Ray that does nothing."""
    found = []
    ray = types.ModuleType("ray")
    ray.is_initialized = lambda: False
    ray.init = lambda *args, **settings: found.append(os.getcwd())
    ray.shutdown = lambda: None
    monkeypatch.setitem(sys.modules, "ray", ray)
    return found


def test_workers_import_nothing_from_the_current_folder(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with connected("local"):
        assert os.getcwd() == str(tmp_path)
    assert folders == [sys.prefix]


@pytest.mark.parametrize("place", ["", "the folder"])
def test_but_where_this_process_does(folders, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path) if place else "", *sys.path])
    with connected("local"):
        pass
    assert folders == [str(tmp_path)]


def test_another_thread_leaves_the_folder_alone(folders, tmp_path, monkeypatch):
    def connect():
        with connected("local"):
            pass

    monkeypatch.chdir(tmp_path)
    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    assert folders == [str(tmp_path)]


def test_the_folder_is_the_same_after_an_error(folders, tmp_path, monkeypatch):
    def refuse(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["ray"], "init", refuse)
    with pytest.raises(KeyboardInterrupt), connected("local"):
        pass
    assert os.getcwd() == str(tmp_path)
