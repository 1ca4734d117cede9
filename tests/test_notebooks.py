import nbclient
import nbformat
import pytest

from .helpers.project import ROOT

FOLDER = ROOT / "notebooks"


@pytest.fixture
def notebook():
    return nbformat.read(FOLDER / "first_steps.ipynb", as_version=4)


def test_notebooks_are_committed_without_outputs(notebook):
    assert [path.name for path in FOLDER.glob("*.ipynb")] == ["first_steps.ipynb"]
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert not any(line.startswith(("def ", "class ")) for cell in cells for line in cell.source.splitlines())


# jupyter_client asks which path conventions its ports follow; tornado closes its sockets in the end
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.slow
def test_the_notebook_runs_after_a_finished_run(finished, notebook):
    resources = {"metadata": {"path": str(finished.root / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 3
    assert any("5,000-digit sample" in str(output) for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"]
