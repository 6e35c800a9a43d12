"""``python -m embedkit``: the command line."""

from embedkit_cli.main import run

if __name__ == "__main__":
    run()
