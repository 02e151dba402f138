"""What lies in a folder: regular files below a root, found without following anything out of it."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from tocsin.data.names import LONGEST, counted, id_of, inside, listed


class Entry(NamedTuple):
    """A file as the scan saw it. The three numbers say later whether it is still the same one.

    The change time is there beside the modification time because the latter can be set back by anyone who rewrites
    a file: a poisoned picture must not be answered from the cache of the clean one.
    """

    id: str
    path: str
    size: int
    modified: int
    changed: int


class Skips:
    """Names left out, by reason; each reason becomes one note."""

    def __init__(self) -> None:
        self._names: defaultdict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, noun: str, reason: str, name: str) -> None:
        self._names[noun, reason].append(name)

    def notes(self) -> list[str]:
        return [f"{counted(len(names), noun)} left out, {reason}: {listed(sorted(names))}" for (noun, reason), names in self._names.items()]


def entry_of(name: str, path: str, status: os.stat_result) -> Entry:
    return Entry._make((name, path, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


def is_hidden(name: str) -> bool:
    """Names that no tool means as data: with a leading dot, or the side files of macOS archives."""
    return name[0] == "." or name == "__MACOSX"


def walk(root: Path, skips: Skips) -> list[Entry]:
    """Regular files at any depth below the folder ``root`` (already resolved), sorted by id.

    Hidden names are passed over silently. Links to files in the tree are followed; links to folders in it
    only if that folder is not read anyway (so loops end); what leads out, is broken, or is no regular file goes to ``skips``.
    """
    base = str(root)
    status = os.stat(base)
    seen = {(status.st_dev, status.st_ino)}
    found: list[Entry] = []
    folders, links = [(base, "")], list[tuple[str, str]]()
    while folders or links:
        if folders:
            _read_folder(*folders.pop(), base, seen, folders, links, found, skips)
            continue
        # Links to folders come after all real ones: a link to a class must not hide the class itself.
        path, relative = links.pop()
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            skips.add("link", "the folder it points to is read already", id_of(relative))
        else:
            seen.add((status.st_dev, status.st_ino))
            folders.append((path, relative + "/"))
    return sorted(found)


def _read_folder(
    folder: str,
    prefix: str,
    base: str,
    seen: set[tuple[int, int]],
    folders: list[tuple[str, str]],
    links: list[tuple[str, str]],
    found: list[Entry],
    skips: Skips,
) -> None:
    try:
        with os.scandir(folder) as scan:
            entries = [entry for entry in scan if not is_hidden(entry.name)]
    except OSError as why:
        skips.add("folder", f"cannot be read ({why.strerror})", id_of(prefix.rstrip("/")))
        return
    for entry in entries:
        relative = prefix + entry.name
        try:
            status = entry.stat(follow_symlinks=False)
            mode = status.st_mode
            if stat.S_ISLNK(mode):
                if not inside(os.path.realpath(entry.path), base):
                    skips.add("link", "it leads out of the folder", id_of(relative))
                    continue
                status = os.stat(entry.path)
                mode = status.st_mode
                if stat.S_ISDIR(mode):
                    links.append((entry.path, relative))
                    continue
        except OSError:
            skips.add("file", "broken link or no access", id_of(relative))
            continue
        if stat.S_ISDIR(mode):
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                folders.append((entry.path, relative + "/"))
        elif not stat.S_ISREG(mode):
            skips.add("file", "it is a pipe, socket or device", id_of(relative))
        elif len(relative) > LONGEST:
            skips.add("file", f"its path is longer than {LONGEST} characters", id_of(relative))
        else:
            found.append(entry_of(id_of(relative), entry.path, status))
