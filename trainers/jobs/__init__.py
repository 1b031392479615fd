"""Training as jobs: the runner of one process, tasks, and the engines that spread them over processes and machines."""
