"""Probes: classifiers and regressors trained on stored embeddings, and their evaluation."""

from embedkit.probe.model import KnnProbe, LinearProbe, Probe
from embedkit.probe.run import ProbeResult, ProbeRun, run_probe
from embedkit.probe.serialization import load_probe, save_probe

__all__ = [
    "KnnProbe",
    "LinearProbe",
    "Probe",
    "ProbeResult",
    "ProbeRun",
    "load_probe",
    "run_probe",
    "save_probe",
]
