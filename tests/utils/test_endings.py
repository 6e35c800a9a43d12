"""No format is written under the ending of another."""

import pytest

from embedkit.utils.endings import refuse_other_ending


@pytest.mark.parametrize("name", ["z.npy", "z.CSV", "a/z.parquet", "z.index", "z.tar.gz", "z.jpg"])
def test_an_ending_of_another_format(name):
    with pytest.raises(ValueError, match=r"is the ending of .* choose a name that ends in \.h5"):
        refuse_other_ending(name, "an embedding store")


@pytest.mark.parametrize("name", ["z.h5", "z.HDF5", "z", "photos.v2", "a.csv/z"])
def test_own_and_free_endings(name):
    refuse_other_ending(name, "an embedding store")
