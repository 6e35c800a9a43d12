"""cleanvision on a folder of images: which it flags, per kind of issue. Prints JSON.

PYTHON cleanvision_issues.py FOLDER
"""

import contextlib
import io
import json
import sys
import time
from importlib import metadata
from pathlib import Path

from cleanvision import Imagelab

_KINDS = ("dark", "light", "blurry", "low_information", "grayscale", "odd_size", "odd_aspect_ratio")


def main() -> None:
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        lab = Imagelab(data_path=sys.argv[1])
        lab.find_issues({kind: {} for kind in _KINDS}, n_jobs=1)
    seconds = time.perf_counter() - began
    found = {
        kind: [Path(name).name for name in lab.issues.index[lab.issues[f"is_{kind}_issue"]]]
        for kind in _KINDS
    }
    print(
        json.dumps(
            {
                "name": f"cleanvision {metadata.version('cleanvision')}",
                "issues": found,
                "seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
