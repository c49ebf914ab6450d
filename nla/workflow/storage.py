"""Where Ray keeps the checkpoints of trainings and searches: a folder a fingerprint, in a folder or at a URL."""

from __future__ import annotations

from pyarrow import fs as pa_fs

from nla.workflow.paths import project_root
from nla.workflow.runs import LOCK


def absolute(storage: str) -> str:
    """A folder for any working folder, a relative one being of the project; a URL as it is."""
    return storage if "://" in storage else str(project_root() / storage)


def forget(storage: str, name: str) -> None:
    """Removes what the folder `name` of `storage` holds, but its lock; Ray would go on from the checkpoints in it."""
    filesystem, path = pa_fs.FileSystem.from_uri(absolute(storage))
    folder = f"{path}/{name}"
    if filesystem.get_file_info(folder).type == pa_fs.FileType.Directory:
        for entry in filesystem.get_file_info(pa_fs.FileSelector(folder)):
            if entry.type == pa_fs.FileType.Directory:
                filesystem.delete_dir(entry.path)
            elif entry.base_name != LOCK:
                filesystem.delete_file(entry.path)
