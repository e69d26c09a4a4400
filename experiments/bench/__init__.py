"""What `experiments.benchmark` measures with: workers, each a process of its own, and the PyTorch baseline."""
