"""What the DAG files share: specs as the scheduler reads them, defaults, the pipeline's calls, the executor."""
