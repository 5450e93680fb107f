"""What ``tools/benchmarks/gpu.py`` measures, one module a part."""
