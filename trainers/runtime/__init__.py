"""The runtime environment: device, memory, process group, signals, checkpoints and provenance."""
