"""The shape of the package: who imports whom, what is public, what importing costs."""

import re
import subprocess
import sys

import pytest

import vae_mnist

from .helpers.project import ROOT


def test_layers_import_only_from_below():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "4 kept, 0 broken" in result.stdout


@pytest.mark.parametrize("name", vae_mnist.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(vae_mnist, name).__doc__
    assert name in dir(vae_mnist)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="VEA"):
        _ = vae_mnist.VEA


def test_importing_the_package_and_its_settings_does_not_wait_for_torch():
    for modules in ("vae_mnist", "vae_mnist.settings, vae_mnist.cli"):
        code = f"import sys, {modules}; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.split() == ["False", "False"]


def test_nothing_waits_for_matplotlib_before_a_figure_is_drawn():
    code = "import sys, vae_mnist.pipeline_registry, vae_mnist.datasets.pictures; print('matplotlib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False"]


def sources():
    return "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))


def lines_of(pattern):
    return {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "src").rglob(pattern)}


def test_no_file_has_more_than_300_lines():
    assert {path.name: lines for path, lines in lines_of("*.py").items() if lines > 300} == {}


def test_a_pipeline_is_a_table_of_less_than_60_lines():
    tables = lines_of("pipelines/*/pipeline.py")
    assert len(tables) == 6
    assert {path.parent.name: lines for path, lines in tables.items() if lines >= 60} == {}


def test_the_loop_fits_on_a_screen():
    assert lines_of("training/loop.py").popitem()[1] < 80


def test_the_size_of_an_image_is_that_of_the_data():
    """The 28 x 28 pixels of MNIST, hidden in a view(-1, 784), are a mistake of public code."""
    assert not re.search(r"784|28 \* 28", sources())


def test_nothing_is_unpickled():
    assert "weights_only=True" in sources()
    assert "weights_only=False" not in sources()
    assert "pickle.load" not in sources()
