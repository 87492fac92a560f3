"""A crash at any chosen moment of writing, moving and cutting files."""

from pathlib import Path


class _File:
    """A file whose operations may crash."""

    def __init__(self, file, crash):
        self._file, self._crash = file, crash

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def seek(self, place):
        return self._file.seek(place)

    def truncate(self, length):
        return self._crash.passing(lambda: self._file.truncate(length))

    def write(self, content):
        def half():
            self._file.write(memoryview(content)[: len(content) // 2])
            self._file.flush()

        return self._crash.passing(lambda: self._file.write(content), half)


class Crash:
    """Crash at a moment: before an operation on files, after half of it, or after it.

    ``path.open`` for writing, what is written through it, and ``path.replace`` are the operations.
    """

    def __init__(self, patch, moment, crash):
        self.moment, self.passed, self._crash = moment, 0, crash
        opened, replaced = Path.open, Path.replace

        def open_(path, mode="r", *arguments, **options):
            if not set(mode) & set("wa+"):
                return opened(path, mode, *arguments, **options)
            return _File(self.passing(lambda: opened(path, mode, *arguments, **options)), self)

        patch.setattr(Path, "open", open_)
        patch.setattr(
            Path, "replace", lambda path, target: self.passing(lambda: replaced(path, target))
        )

    def passing(self, operation, half=lambda: None):
        """Carry an operation out, unless the moment is now."""
        self._pass(lambda: None)
        self._pass(half)
        result = operation()
        self._pass(getattr(result, "close", lambda: None))
        return result

    def _pass(self, before_the_crash):
        self.passed += 1
        if self.passed - 1 == self.moment:
            before_the_crash()
            self._crash()


def interrupt():
    raise KeyboardInterrupt
