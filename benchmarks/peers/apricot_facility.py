"""apricot's facility location on rows of unit length, by its lazy greedy. Prints JSON.

PYTHON apricot_facility.py rows.npy COUNT
"""

import json
import sys
import time
from importlib import metadata
from pathlib import Path

import apricot
import numpy as np


def main() -> None:
    rows, count = np.load(sys.argv[1]), int(sys.argv[2])
    began, cpu = time.perf_counter(), time.process_time()
    cosines = np.maximum(rows @ rows.T, 0).astype(np.float64)
    selector = apricot.FacilityLocationSelection(count, metric="precomputed", optimizer="lazy")
    selector.fit(cosines)
    status = Path("/proc/self/status").read_text()
    print(
        json.dumps(
            {
                "name": f"apricot {metadata.version('apricot-select')}",
                "rows": np.asarray(selector.ranking).tolist(),
                "seconds": time.perf_counter() - began,
                "cpu": time.process_time() - cpu,
                "peak_mib": int(status.split("VmHWM:")[1].split()[0]) / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
