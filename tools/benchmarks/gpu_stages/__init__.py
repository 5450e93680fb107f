"""What ``tools/benchmarks/gpu.py`` measures."""
