from embedkit.backbones import BACKBONES


def test_table_names_every_backbone_and_the_warning(embedkit):
    ended = embedkit("models")
    assert ended.code == 0
    for name in BACKBONES:
        assert name in ended.out
    assert "resnext101_32x16d_swsl (!)" in ended.out
    assert "CC-BY-NC-4.0" in ended.out


def test_json_tells_everything(embedkit):
    told = {entry["name"]: entry for entry in embedkit("models", "--json").json}
    assert set(told) == set(BACKBONES)
    swsl = told["resnet50_swsl"]
    assert (swsl["feature_dim"], swsl["sha8"]) == (2048, "16a12f1b")
    assert (swsl["paper_top1"], swsl["timm_top1"]) == (81.2, 81.146)
    assert told["efficientnet_lite0"]["weights_path"]
    assert told["resnext101_32x16d_swsl"]["warning"]
    sscd = told["sscd_disc_large"]
    assert (sscd["licence"], sscd["feature_dim"], sscd["pooling"]) == ("MIT", 1024, "gem")


def test_weights_that_are_here_are_shown(embedkit, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path))
    before = {entry["name"]: entry for entry in embedkit("models", "--json").json}
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / before["resnet18_ssl"]["filename"]).write_bytes(b"x")
    after = {entry["name"]: entry for entry in embedkit("models", "--json").json}
    assert before["resnet18_ssl"]["weights_path"] is None
    expected = tmp_path / "weights" / before["resnet18_ssl"]["filename"]
    assert after["resnet18_ssl"]["weights_path"] == str(expected)
