"""What all tests share."""

import importlib.util
import logging
import random
import sys
from pathlib import Path

import hypothesis
import object_stores
import pytest

_BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
_LOGGER = logging.getLogger("embedkit")
hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow
hypothesis.settings.load_profile("any machine")
_AS_IMPORTED = [*_LOGGER.handlers], _LOGGER.propagate


def pytest_collection_modifyitems(items):
    """The guides, which take longest, come first: no process waits for the other at the end."""
    items.sort(key=lambda item: item.path.name != "test_guides.py")


@pytest.fixture(autouse=True)
def _own_logging(caplog):
    """No test sees what a command of another one, or a library, set up for messages."""
    handlers, _LOGGER.propagate = _AS_IMPORTED
    _LOGGER.handlers, _LOGGER.disabled = [*handlers], False
    logging.disable(logging.NOTSET)
    caplog.set_level(logging.WARNING, "embedkit")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Tests neither read nor fill the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def s3():
    """The URL of a bucket on an S3 server; skips the test if there is none."""
    with object_stores.s3_server() as url:
        yield url


@pytest.fixture
def memory():
    """The URL of a bucket in this process's memory, empty."""
    yield "memory://bucket"
    object_stores.clear_memory()


@pytest.fixture(params=["memory", "s3"])
def bucket(request):
    """The URL of an empty place on an object store of either kind."""
    url = request.getfixturevalue(request.param)
    return url if request.param == "memory" else f"{url}/{random.randrange(10**9)}"


@pytest.fixture
def one_core():
    """Keeps faiss to one thread: for small problems it would rather wait than compute."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture
def script(monkeypatch):
    """Loads a benchmark, or a module of its folders, such as ``support.timing``."""
    monkeypatch.syspath_prepend(str(_BENCHMARKS))

    def load(name):
        if "." in name:
            return importlib.import_module(name)
        file = _BENCHMARKS / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
        spec.loader.exec_module(module)
        return module

    return load
