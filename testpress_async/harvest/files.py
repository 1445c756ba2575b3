"""Where a dataset lies: the handful of file operations it needs, on a disk or in an object store.

Everything here blocks: call it in a thread. Failures are `OSError`, whatever the place.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Literal, ParamSpec, Protocol, TypeVar

from testpress_async.errors import ConfigError, DatasetError

if sys.platform != "win32":
    import fcntl

P = ParamSpec("P")
R = TypeVar("R")

CHUNK_BYTES = 1 << 20
SPOOLED_BYTES = 8 << 20  # an object stays in memory up to here while it is put together
_NO_LINKS: int = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag
_NO_WAIT: int = getattr(os, "O_NONBLOCK", 0)  # or a FIFO would make us wait for its other end
_BINARY: int = getattr(os, "O_BINARY", 0)
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Files(Protocol):
    """Named files in one place; a name is relative and has at most one folder: ``table/part.jsonl``.

    Attributes:
        exclusive: Whether `lock` keeps other writers out. Where it does not, writers are told apart by
            `create` alone, and nothing may be removed that another could be about to name.
    """

    exclusive: bool

    def place(self, name: str = "") -> str:
        """Full name for people."""
        ...

    def check(self, folders: Iterable[str]) -> None:
        """Raise if nothing can be written here or in one of *folders*. Changes nothing."""
        ...

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Make the place if there is none, and keep other writers out: BlockingIOError if one is here."""
        ...

    def create(self, name: str, data: bytes) -> None:
        """A new file, durable, whole or not there at all. FileExistsError if the name is taken."""
        ...

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """A file, durable, whole or not there at all; one of that name before is replaced."""
        ...

    def append(self, name: str, lines: Sequence[bytes]) -> None:
        """More lines for a file, durable; a crash may leave the first part of them."""
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """Content, in pieces."""
        ...

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Names in *folder*, without it, in order, with their bytes; none if there is no such folder."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file that nothing names."""
        ...


class LocalFiles:
    """A directory. Files hold personal data: only their owner may read them, and no link is followed."""

    exclusive = True

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def place(self, name: str = "") -> str:
        return str(self.root / name)

    def check(self, folders: Iterable[str]) -> None:
        if self.root.is_symlink():
            raise DatasetError(
                str(self.root), "is a symbolic link", f"Name the directory itself: {self.root.resolve()}"
            )
        if not self.root.exists():
            _require_writable(next(above for above in self.root.absolute().parents if os.path.lexists(above)))
            return
        _require_writable(self.root)
        for folder in folders:
            if os.path.lexists(self.root / folder):
                _require_folder(self.root / folder)
                _require_writable(self.root / folder)

    @contextlib.contextmanager
    def lock(self) -> Generator[None]:
        self._make_root(self.root)
        path = self.root / ".lock"
        handle = _open_file(path, os.O_RDWR | os.O_CREAT)
        try:
            _lock(handle)
            yield
        finally:
            os.close(handle)

    def create(self, name: str, data: bytes) -> None:
        self._land(name, (data,), self._link)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        self._land(name, chunks, lambda aside, path: self._call(os.replace, aside, path))

    def append(self, name: str, lines: Sequence[bytes]) -> None:
        path = self.root / name
        self._make_folder(path.parent)
        handle = self._call(_open_file, path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            self._write(handle, b"".join(line + b"\n" for line in lines))
            self._call(os.fsync, handle)
        except OSError as error:
            error.filename = str(path)
            raise
        finally:
            os.close(handle)
        self._sync_folder(path.parent)

    def read(self, name: str) -> Iterator[bytes]:
        handle = _open_file(self.root / name, os.O_RDONLY)
        try:
            while chunk := os.read(handle, CHUNK_BYTES):
                yield chunk
        finally:
            os.close(handle)

    def sizes(self, folder: str = "") -> dict[str, int]:
        try:
            with os.scandir(self.root / folder) as found:
                each = sorted(found, key=lambda entry: entry.name)
                return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in each}
        except FileNotFoundError:
            return {}

    def remove(self, name: str) -> None:
        self._call(os.unlink, self.root / name)

    # --- inside ------------------------------------------------------------------------------------

    def _call(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Every call that changes the disk or makes a change durable passes here."""
        return operation(*args, **kwargs)

    def _land(self, name: str, chunks: Iterable[bytes], put: Callable[[Path, Path], None]) -> None:
        """Write aside → sync → *put* in place → sync the folder."""
        path = self.root / name
        self._make_folder(path.parent)
        aside = path.parent / f".{path.name}.tmp"
        try:
            self._fill(aside, chunks)
            put(aside, path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                self._call(os.unlink, aside)
            if isinstance(error, OSError) and error.filename in (None, str(aside)):
                error.filename = str(path)
            raise
        self._sync_folder(path.parent)

    def _fill(self, path: Path, chunks: Iterable[bytes]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            handle = self._call(_open_file, path, flags)
        except FileExistsError:  # a leftover, or something planted: it is not written through
            self._call(os.unlink, path)
            handle = self._call(_open_file, path, flags)
        try:
            for chunk in chunks:
                self._write(handle, chunk)
            self._call(os.fsync, handle)
        finally:
            os.close(handle)

    def _write(self, handle: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._call(os.write, handle, rest) :]

    def _link(self, aside: Path, path: Path) -> None:
        """Give *aside* its name only if that is free, in one step."""
        try:
            self._call(os.link, aside, path)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if os.path.lexists(path):  # no race: the lock is held
                raise _refusal(errno.EEXIST, path) from None
            self._call(os.replace, aside, path)
        else:
            self._call(os.unlink, aside)

    def _make_folder(self, folder: Path) -> None:
        if not os.path.lexists(folder):
            self._call(os.mkdir, folder, 0o700)
            self._sync_folder(folder.parent)
        _require_folder(folder)

    def _make_root(self, folder: Path, mode: int = 0o700) -> None:
        if folder.is_dir():
            return
        if not folder.parent.exists():
            self._make_root(folder.parent, 0o777)
        with contextlib.suppress(FileExistsError):  # another export may have been faster
            self._call(os.mkdir, folder, mode)
        with contextlib.suppress(PermissionError):  # some may be written to and not be read
            self._sync_folder(folder.parent)

    def _sync_folder(self, folder: Path) -> None:
        sync_folder(folder, partial(self._call, os.fsync))


def sync_folder(folder: Path, sync: Callable[[int], object] = os.fsync) -> None:
    """Make new names in *folder* durable. Windows cannot open folders and does this by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        sync(handle)
    except OSError as error:
        error.filename = str(folder)
        raise
    finally:
        os.close(handle)


def _open_file(path: Path, flags: int) -> int:
    """Open a plain file, for its owner only, without following a link or waiting for a FIFO's other end."""
    handle = os.open(path, flags | _NO_LINKS | _NO_WAIT | _BINARY, 0o600)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "is no plain file", str(path))
    return handle


def _refusal(code: int, path: str | Path) -> OSError:
    """As the system would refuse; Python makes it the subclass that belongs to *code*."""
    return OSError(code, os.strerror(code), str(path))


def _require_folder(folder: Path) -> None:
    mode = os.lstat(folder).st_mode
    if stat.S_ISLNK(mode):
        raise _refusal(errno.ELOOP, folder)
    if not stat.S_ISDIR(mode):
        raise _refusal(errno.ENOTDIR, folder)


def _require_writable(folder: Path) -> None:
    if not folder.is_dir():
        raise _refusal(errno.ENOTDIR, folder)
    effective = os.access in os.supports_effective_ids
    if os.access(folder, os.W_OK | os.X_OK, effective_ids=effective):
        return
    read_only = sys.platform != "win32" and os.statvfs(folder).f_flag & os.ST_RDONLY
    code = errno.EROFS if read_only else errno.EACCES
    raise _refusal(code, folder)


def _lock(handle: int) -> None:
    """Take the lock or raise BlockingIOError. On Windows only the entries' numbers keep exports apart."""
    if sys.platform != "win32":
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_REMEDIES: Mapping[int, str] = {
    errno.ENOSPC: "Free some space and export again: what was committed stays",
    errno.EDQUOT: "Free some space and export again: what was committed stays",
    errno.EIO: "Check the disk and export again: what was committed stays",
    errno.EACCES: "Get the right to write there, or name another directory",
    errno.EPERM: "Get the right to write there, or name another directory",
    errno.EROFS: "Name a directory that can be written",
    errno.ENOTDIR: "Name a new or empty directory",
    errno.ELOOP: "Put the directory or file itself in the link's place",
    errno.EINVAL: "Move it away",
    errno.EISDIR: "Move it away",
    errno.EMFILE: "Allow more open files (ulimit -n) and export again: what was committed stays",
    errno.ENFILE: "Close other programs and export again: what was committed stays",
}


def unusable(place: str, error: OSError) -> DatasetError:
    """Our error for one of the system's."""
    path = error.filename if isinstance(error.filename, str) else os.fspath(error.filename or place)
    remedy = _REMEDIES.get(error.errno or 0, "")
    return DatasetError(str(path), error.strerror or type(error).__name__, remedy)


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """One file for its owner only, durable; the one before it stays whole until then.

    Raises:
        DatasetError: It cannot be written.
    """
    place = Path(path)
    try:
        LocalFiles(place.parent.resolve()).write(place.name, (data,))
    except OSError as error:
        raise unusable(str(place), error) from None


# --- object stores -----------------------------------------------------------------------------------


class Got(Protocol):
    """An object on its way."""

    def stream(self, min_chunk_size: int = ...) -> Iterable[bytes]: ...


class ObjectStore(Protocol):
    """What is used of a store of obstore: `S3Store`, `GCSStore`, `AzureStore`, `LocalStore`, …"""

    def put(
        self,
        path: str,
        file: bytes | Iterator[bytes],
        *,
        mode: Literal["create", "overwrite"] | None = None,
    ) -> object: ...

    def get(self, path: str) -> Got: ...

    def list(self, prefix: str | None = None) -> Iterable[Sequence[Mapping[str, object]]]: ...

    def delete(self, paths: str) -> None: ...


class ObjectFiles:
    """An object store. There is no lock: of two exports that write, the second to create an entry is refused.

    Objects appear whole. They cannot grow, so every appended line becomes an object named by its hash.
    """

    exclusive = False

    def __init__(self, store: ObjectStore) -> None:
        try:
            from obstore.exceptions import AlreadyExistsError, BaseError
        except ImportError:
            raise ConfigError(
                "Dataset", "object stores need obstore: pip install 'testpress-async[objects]'"
            ) from None
        self._store, self._taken, self._failed = store, AlreadyExistsError, BaseError

    def place(self, name: str = "") -> str:
        shown = repr(self._store)
        shown = type(self._store).__name__ if shown.startswith("<") else shown
        return f"{shown}/{name}" if name else shown

    def check(self, folders: Iterable[str]) -> None:
        """Whether one may write is known only to who tries."""

    @contextlib.contextmanager
    def lock(self) -> Generator[None]:
        yield

    def create(self, name: str, data: bytes) -> None:
        with self._told(name):
            self._store.put(name, data, mode="create")

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        with SpooledTemporaryFile(max_size=SPOOLED_BYTES) as whole:  # the store must not run our generators:
            for chunk in chunks:  # what they read may be its own objects
                whole.write(chunk)
            whole.seek(0)
            with self._told(name):
                self._store.put(name, iter(lambda: whole.read(CHUNK_BYTES), b""))

    def append(self, name: str, lines: Sequence[bytes]) -> None:
        stem, dot, suffix = name.partition(".")
        for line in lines:
            digest = hashlib.blake2b(line, digest_size=8).hexdigest()
            self.write(f"{stem}-{digest}{dot}{suffix}", (line + b"\n",))

    def read(self, name: str) -> Iterator[bytes]:
        with self._told(name):
            for chunk in self._store.get(name).stream(CHUNK_BYTES):
                yield bytes(chunk)

    def sizes(self, folder: str = "") -> dict[str, int]:
        with self._told(folder):
            found = [each for batch in self._store.list(folder or None) for each in batch]
        named = ((str(each["path"]).removeprefix(f"{folder}/"), each["size"]) for each in found)
        return dict(sorted((name, size) for name, size in named if isinstance(size, int)))

    def remove(self, name: str) -> None:
        with self._told(name):
            self._store.delete(name)

    @contextlib.contextmanager
    def _told(self, name: str) -> Generator[None]:
        """The store's errors as the system's, in one line each."""
        try:
            yield
        except self._taken:
            raise _refusal(errno.EEXIST, self.place(name)) from None
        except (self._failed, FileNotFoundError) as error:
            told = str(error).partition("\n")[0]
            raise OSError(errno.EIO, told or type(error).__name__, self.place(name)) from None
