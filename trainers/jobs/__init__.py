"""Training jobs: the runner of one process, tasks, and engines that distribute them to processes and machines."""
