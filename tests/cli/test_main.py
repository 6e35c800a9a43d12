import embedkit as library


def test_help_lists_the_commands(embedkit):
    ended = embedkit("--help")
    assert ended.code == 0
    for name in ("models", "extract", "info", "verify", "merge", "export", "search", "demo"):
        assert name in ended.out


def test_version(embedkit):
    assert embedkit("--version").out.strip() == f"embedkit {library.__version__}"


def test_unknown_command_is_bad_usage(embedkit):
    ended = embedkit("extrakt")
    assert ended.code == 2
    assert "extrakt" in ended.err


def test_unknown_option_is_bad_usage(embedkit):
    assert embedkit("models", "--jason").code == 2


def test_escape_sequences_of_names_stay_out_of_errors(embedkit):
    ended = embedkit("info", "no\x1b[31mthing\n.h5")
    assert ended.code == 1
    assert "\x1b" not in ended.err
    assert len(ended.err.strip().splitlines()) == 1
