"""The name of a host where several of them are folders of one machine.

``AIRFLOW__CORE__HOSTNAME_CALLABLE=benchmarks.host.folder_name``: each component of a proof has a working folder of its
own, and Airflow writes down this name for every task it runs. Imports nothing: every task's process asks it.
"""

from pathlib import Path


def folder_name() -> str:
    """The name of the working folder."""
    return Path.cwd().name
