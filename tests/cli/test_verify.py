def test_all_is_well(embedkit, store):
    ended = embedkit("verify", store)
    assert (ended.code, ended.err) == (0, "")
    assert "no problems found" in ended.out


def test_damage_is_named(embedkit, store):
    data = bytearray(store.read_bytes())
    data[len(data) // 2] ^= 1
    store.write_bytes(data)
    ended = embedkit("verify", store)
    assert ended.code == 1
    assert str(store) in ended.out
    assert embedkit("verify", store, "--json").json[0]["problems"]


def test_bad_shard_is_named(embedkit, photos, tmp_path):
    folder = tmp_path / "store"
    options = ("-b", "tiny", "--sharded", "--shard-rows", "3")
    assert embedkit("extract", photos, "-o", folder, *options).code == 0
    assert embedkit("verify", folder).code == 0
    shard = folder / "shard-000001.h5"
    data = bytearray(shard.read_bytes())
    data[-9] ^= 4
    shard.write_bytes(data)
    ended = embedkit("verify", folder)
    assert ended.code == 1
    assert "shard-000001.h5" in ended.out
    assert "shard-000000.h5" not in ended.out
