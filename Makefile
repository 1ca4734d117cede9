.DEFAULT_GOAL := help
.PHONY: help install run sample viz test slow lint format types check clean

help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install:  ## Install the project with everything a developer needs
	python -m pip install -c constraints.txt -e ".[dev]"

run:  ## Ingest, train, evaluate, report: the main job
	kedro run

sample:  ## The same on 5,000 digits, in less than a minute, without network
	kedro run --params=ingest.source=sample,run=sample,data_root=data/sample

viz:  ## Look at pipelines and results in a browser
	kedro viz run

test:  ## Run the tests that take five minutes
	pytest

slow:  ## Run the other ones
	pytest -m "slow and not soak"

lint:  ## Check style, imports and layers
	ruff check .
	ruff format --check .
	lint-imports

format:  ## Put the code into its format
	ruff check --fix .
	ruff format .

types:  ## Check types, strictly
	mypy

check:  ## All that decides whether a change lands
	bash .ci/run

clean:  ## Remove caches and builds; data and runs stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
