"""The version, as the installed package states it: that of the git tag it was built from."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("embedkit")
except PackageNotFoundError:  # run from a folder, without being installed
    __version__ = "0+unknown"
