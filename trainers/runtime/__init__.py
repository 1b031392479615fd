"""The process and its machine: device, memory, process group, signals, checkpoints, provenance."""
