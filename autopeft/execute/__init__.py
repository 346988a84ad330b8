"""Running trials: `workbench` does the work, `worker` is the process it lives in, `local` starts workers."""
