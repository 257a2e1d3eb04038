"""A disk that loses power: what a broker wrote and did not synchronise is there afterwards, or is not, sector by sector."""

import ctypes
import mmap
import os
import pathlib
import random
import shutil
import subprocess

from dunlin import ROOT

SECTOR = 512

# As in power.c.
FAIL_WRITE, FAIL_SYNC, FAIL_READ, FAIL_OPEN, IGNORES_SYNC, SYNC_DELAY = range(6)
DIE_AT_CALL, DIE_AT_DATABASE_WRITE, WRITES, LOG_SYNCS, OTHER_SYNCS, DIRECTORY_SYNCS, FAULTS = range(6, 13)


def library():
    """Compiles the layer if it is not there."""
    source = pathlib.Path(__file__).with_name("power.c")
    built = ROOT / ".build/power.so"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        built.parent.mkdir(exist_ok=True)
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        subprocess.run(["cc", *flags, "-o", built, source, "-ldl", "-lpthread"], check=True)
    return built


class Disk:
    """A directory, and what of it is on the disk. A node sees it with `environment`, its data directory is `data`."""

    def __init__(self, directory):
        directory = pathlib.Path(os.path.realpath(directory))
        self.root, self._objects = directory / "disk", directory / "objects"
        self._names, self._control = directory / "names", directory / "control"
        # What the last cut left, before a node has changed it.
        self.left = directory / "left"
        self.data = str(self.root / "data")
        self.root.mkdir(parents=True)
        self._control.write_bytes(bytes(32 * 4))
        with open(self._control, "r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 32 * 4)
        self.control = (ctypes.c_int32 * 32).from_buffer(self._shared)
        # Over all cuts: sectors that were not synchronised, and those of them that were lost.
        self.unsynced = self.lost = 0
        self.settle()
        self.environment = {
            "LD_PRELOAD": str(library()),
            "POWER_ROOT": str(self.root),
            "POWER_OBJECTS": str(self._objects),
            "POWER_NAMES": str(self._names),
            "POWER_CONTROL": str(self._control),
        }

    def set(self, which, value):
        self.control[which] = value

    def empty(self):
        """Another disk takes its place."""
        shutil.rmtree(self.root)
        self.root.mkdir()
        self.settle()

    def put(self, content):
        """A copy of another directory is what is on the disk."""
        shutil.rmtree(self.root)
        shutil.copytree(content, self.root)
        self.settle()

    def settle(self):
        """All that is in the directory is on the disk."""
        for part in (self._objects, self._names):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
        for path in sorted(self.root.rglob("*")):
            name = self._names / path.relative_to(self.root)
            if path.is_dir():
                name.mkdir()
            elif _is_content(path):
                shutil.copyfile(path, name)
                os.link(name, self._objects / str(path.stat().st_ino))

    def differing(self):
        """The files that are not on the disk as they are."""
        files = _below(self.root, _is_content)
        return [path for path in files if (self.root / path).read_bytes() != self._durable(self.root / path)]

    def _durable(self, path):
        """What of a file is on the disk: nothing of one that was only just made."""
        durable = self._objects / str(path.stat().st_ino)
        return durable.read_bytes() if durable.exists() else b""

    def cut(self, seed, kept):
        """The power fails, with no node running: each sector and name that was not synchronised is kept in so many of a
        hundred cases."""
        generator = random.Random(seed)
        self.control[DIE_AT_CALL] = self.control[DIE_AT_DATABASE_WRITE] = 0
        shutil.rmtree(self.left, ignore_errors=True)
        self.left.mkdir()

        def is_kept():
            return generator.randrange(100) < kept

        for path in _below(self.root, pathlib.Path.is_dir):
            if (self._names / path).is_dir() or is_kept():
                (self.left / path).mkdir(parents=True)
        places = {}
        for on_disk, live in self._files():
            # A rename has come about or has not.
            path = on_disk if on_disk == live or not is_kept() else live
            if path and (path not in places or path == on_disk) and (self.left / path.parent).is_dir():
                places[path] = on_disk, live
        for path, (on_disk, live) in sorted(places.items()):
            durable = (self._names / on_disk).read_bytes() if on_disk else b""
            if live:
                durable = self._mix(self._durable(self.root / live), (self.root / live).read_bytes(), is_kept)
            (self.left / path).write_bytes(durable)
        for path in _below(self.root, lambda path: path.name.endswith("-shm")):
            # It may be there or not, and is of no use.
            if (self.left / path.parent).is_dir() and is_kept():
                shutil.copyfile(self.root / path, self.left / path)
        self.put(self.left)

    def _files(self):
        """What each file's name is on the disk, and what it is now; None for none."""
        pairs = {}
        for path in _below(self._names, pathlib.Path.is_file):
            pairs[(self._names / path).stat().st_ino] = [path, None]
        for path in _below(self.root, _is_content):
            durable = self._objects / str((self.root / path).stat().st_ino)
            key = durable.stat().st_ino if durable.exists() else path
            pairs.setdefault(key, [None, None])[1] = path
        return sorted(pairs.values(), key=str)

    def _mix(self, durable, live, is_kept):
        size = len(live) if is_kept() else len(durable)
        mixed = bytearray(durable[:size].ljust(size, b"\0"))
        for start in range(0, max(len(live), len(durable)), SECTOR):
            new = live[start : start + SECTOR]
            if new == durable[start : start + SECTOR]:
                continue
            self.unsynced += 1
            if start < size and new and is_kept():
                mixed[start : min(start + SECTOR, size)] = new[: size - start].ljust(
                    min(SECTOR, size - start), b"\0"
                )
            else:
                self.lost += 1
        return bytes(mixed)


def _is_content(path):
    """It is a file, and not the index of SQLite's log, which is memory."""
    return path.is_file() and not path.name.endswith("-shm")


def _below(directory, is_wanted):
    """Paths of what is below a directory, relative to it, in order."""
    return sorted(path.relative_to(directory) for path in directory.rglob("*") if is_wanted(path))
