"""Sources on an S3 server, whose files are read by ranges."""

import io
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_stores import s3_server, write

from embedkit.sources import ImageReader, open_source

IMAGES = {f"{name}.jpg": name.encode() * 5000 for name in "abc"}


@pytest.fixture(scope="module")
def bucket():
    with s3_server() as url:
        write(f"{url}/list.txt", "".join(f"{url}/photos/{name}\n" for name in IMAGES).encode())
        for name, data in IMAGES.items():
            write(f"{url}/photos/{name}", data)
        tar, archive, table = io.BytesIO(), io.BytesIO(), io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as file:
            for name, data in IMAGES.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
        with zipfile.ZipFile(archive, "w") as file:
            for name, data in IMAGES.items():
                file.writestr(name, data)
        pq.write_table(pa.table({"id": [*IMAGES], "image": [*IMAGES.values()]}), table)
        for name, made in (("a.tar", tar), ("a.zip", archive), ("a.parquet", table)):
            write(f"{url}/{name}", made.getvalue())
        yield url


@pytest.mark.parametrize(
    "source", ["photos", "photos/*.jpg", "list.txt", "a.tar", "a.zip", "a.parquet"]
)
def test_every_kind_of_source(bucket, source):
    records = [*open_source(f"{bucket}/{source}").scan()]
    with ImageReader(max_bytes=2**20) as reader:
        assert [bytes(reader.read(record)) for record in records] == [*IMAGES.values()]
