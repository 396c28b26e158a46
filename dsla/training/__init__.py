"""The loop, a step, the folder of a run, processes, the recorder."""
