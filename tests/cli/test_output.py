"""What is printed does nothing to the terminal."""

import json
import shutil

import pytest

from embedkit_cli._output import count_of, plain, print_json, print_message, print_table

NASTY = "a\x1b]0;owned\x07\n\r\x9b2J\u202eb.jpg"
SHOWN = r"a\x1b]0;owned\x07\n\r\x9b2J\u202eb.jpg"


def test_control_characters_are_escaped(capsys):
    assert plain(NASTY) == SHOWN
    assert plain("photos/ü 日本.jpg") == "photos/ü 日本.jpg"
    print_table(("name",), [(NASTY,)])
    print_message(f"one\n{NASTY}".replace("\n\r", "\r"))
    printed = capsys.readouterr()
    assert printed.out == f"name\n{SHOWN}\n"
    assert printed.err == "one\n" + SHOWN.replace(r"\n", "") + "\n"


def test_json_holds_no_nan(capsys):
    print_json({"a": [1.5, float("nan")], "b": (float("-inf"), "nan")})
    assert json.loads(capsys.readouterr().out) == {"a": [1.5, None], "b": [None, "nan"]}


def test_count_of():
    assert [count_of(n, "image") for n in (0, 1, 1200)] == ["0 images", "1 image", "1,200 images"]


@pytest.mark.parametrize("damaged", [False, True])
def test_no_command_prints_a_name_raw(embedkit, photos, tmp_path, damaged):
    folder = shutil.copytree(photos, tmp_path / "my\x1bphotos")
    (folder / "x\n\x1b[2J.jpg").write_bytes(b"")
    store, merged = tmp_path / "s\x1b.h5", tmp_path / "m\x1b.h5"
    embedkit("--quiet", "extract", folder, "-o", store, "-b", "tiny")
    if damaged:
        data = bytearray(store.read_bytes())
        data[-9] ^= 4
        store.write_bytes(data)
    told = [
        embedkit("info", store),
        embedkit("info", store, "--failures"),
        embedkit("verify", store),
        *([] if damaged else [embedkit("merge", store, "-o", merged)]),
        *([] if damaged else [embedkit("export", store, "--to", "npy", "-o", tmp_path / "\x1b")]),
    ]
    for ended in told:
        assert "\x1b" not in ended.out + ended.err
        assert (ended.out + ended.err).count(r"\x1b") >= 1
    if not damaged:
        assert r"x\n\x1b[2J.jpg" in told[1].out
