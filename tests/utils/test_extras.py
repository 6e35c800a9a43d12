"""A missing extra is told before any work: even before the inputs are looked at."""

import sys

import pytest

import embedkit
from embedkit.engines import choose_engine
from embedkit.errors import EmbedkitError, MissingExtraError
from embedkit.utils.extras import require_extra

NOWHERE = "nowhere/x.h5"
CALLS = {
    "verify": ("cv2", lambda: embedkit.find_duplicates(NOWHERE, verify=True)),
    "verify (check)": ("cv2", lambda: embedkit.check_duplicates(NOWHERE, [NOWHERE], verify=True)),
    "verify (calibrate)": ("cv2", lambda: embedkit.calibrate(NOWHERE, [NOWHERE])),
    "map": ("umap", lambda: embedkit.plot(NOWHERE, "map.html", method="umap")),
    "map (png)": ("matplotlib", lambda: embedkit.plot(NOWHERE, "map.png")),
    "lancedb": ("lancedb", lambda: embedkit.export(NOWHERE, "x", to="lancedb")),
    "int8": ("nncf", lambda: choose_engine("openvino", "cpu", "int8")),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_missing_extra_is_told_first(name, monkeypatch):
    module, call = CALLS[name]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match="pip install") as caught:
        call()
    assert caught.value.extra == name.split()[0]


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("cv2", "dedup find nowhere.h5 -o x --verify"),
        ("cv2", "dedup check nowhere.h5 new.jpg --verify"),
        ("cv2", "demo -o x"),
        ("matplotlib", "dedup calibrate nowhere.h5 --images x --plot x.png"),
        ("matplotlib", "index eval nowhere.index --plot x.png"),
        ("matplotlib", "probe linear nowhere.h5 -o x"),
        ("matplotlib", "plot nowhere.h5 -o x.png"),
        ("lancedb", "export nowhere.h5 --to lancedb -o x"),
        ("embedding_atlas", "plot nowhere.h5 --atlas"),
        ("nncf", "extract nowhere -o x.h5 -b tiny --engine openvino --precision int8"),
    ],
)
def test_a_command_says_so_in_one_line(module, command, monkeypatch, capsys, tmp_path):
    from embedkit_cli.main import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(sys, "argv", ["embedkit", *command.split()])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "pip install 'embedkit[" in told
    assert len(told.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_installed_passes():
    require_extra("numpy", "any", "nothing")
    with pytest.raises(EmbedkitError) as caught:
        require_extra("no_such_module", "y", "x")
    assert str(caught.value) == "x needs no_such_module: pip install 'embedkit[y]'"
