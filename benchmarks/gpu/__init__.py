"""`python -m benchmarks.gpu`: what a CUDA GPU does with the built-in study."""
