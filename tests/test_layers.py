"""The shape of the package: who imports whom, what is public, what importing costs."""

import ast
import subprocess
import sys

import pytest

import vae_mnist

from .helpers.project import ROOT


def test_layers_import_only_from_below():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "3 kept, 0 broken" in result.stdout


def test_public_names_are_those_of_all():
    tree = ast.parse((ROOT / "src" / "vae_mnist" / "__init__.py").read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = sorted(alias.name for statement in typed.body for alias in statement.names)
    assert imported == sorted(vae_mnist.__all__) == sorted(vae_mnist._HOMES)


@pytest.mark.parametrize("name", vae_mnist.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(vae_mnist, name).__doc__
    assert name in dir(vae_mnist)


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(AttributeError, match="no attribute 'VEA'; it offers VAE, "):
        _ = vae_mnist.VEA


def test_importing_the_package_and_its_settings_does_not_wait_for_torch():
    code = "import sys, vae_mnist.settings, vae_mnist.cli; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def test_no_file_outgrows_three_hundred_lines():
    long = {
        path.name: lines
        for path in (ROOT / "src").rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 330
    }
    assert long == {}


def test_nothing_is_unpickled():
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert "weights_only=True" in sources
    assert "weights_only=False" not in sources
    assert "pickle.load" not in sources
