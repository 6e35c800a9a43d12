"""Everything that ``scripts/gpu_check`` measures on a CUDA device, one module a step."""
