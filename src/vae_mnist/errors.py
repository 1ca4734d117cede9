"""Every error this project raises on purpose. Each says what was expected, what came and what to do."""


class VaeMnistError(Exception):
    """Base of all errors below; `except VaeMnistError` catches every one of them."""


class ConfigError(VaeMnistError, ValueError):
    """A parameter is unknown, of the wrong type, out of range, or impossible on this machine."""


class DataError(VaeMnistError, ValueError):
    """Images or their files are missing, damaged, or not those a run was trained on."""


class MissingImagesError(DataError):
    """Images are neither in files nor served by a mirror."""


class CheckpointError(VaeMnistError, ValueError):
    """A checkpoint is missing, unreadable, or of another format."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint holds other bytes than those that were written."""


class ResumeError(CheckpointError):
    """A run cannot go on: its settings or data differ from those of its newest checkpoint."""


class WriteError(VaeMnistError, OSError):
    """A file cannot be written: the disk is full, read-only, forbidden or gone."""


class RunInUseError(VaeMnistError, RuntimeError):
    """Another process works on the same run, or another thread of this process on any run."""


class InputError(VaeMnistError, ValueError):
    """An argument has the wrong shape, type or range."""


class NonFiniteLossError(VaeMnistError, ArithmeticError):
    """The training loss became infinite or not a number."""
