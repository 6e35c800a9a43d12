"""What all tests share."""

import logging

import pytest

_LOGGER = logging.getLogger("embedkit")
_AS_IMPORTED = [*_LOGGER.handlers], _LOGGER.propagate


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


@pytest.fixture
def one_core():
    """Keeps faiss to one thread: for small problems it would rather wait than compute."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)
