# The recipes of this project. `just` alone lists them; each is one or two commands that work without just, too.

_default:
    @just --list

# Run the tests; arguments go to pytest, as in `just test tests/test_docs.py -x`.
test *arguments:
    pytest {{ arguments }}

# Check style and the boundaries between modules; changes nothing.
lint:
    ruff check .
    ruff format --check .
    lint-imports

# Mend what ruff can mend, and format.
fix:
    ruff check --fix .
    ruff format .

# Check types.
types:
    mypy

# Write the generated parts of docs/ anew.
docs:
    python docs/generate.py
    python docs/tasks.py

# Write the golden outputs in tests/golden/ anew: look at the difference before you commit it.
golden:
    TASKMIX_GOLDEN=write pytest tests/golden

# Compare the compiler with Jinja on many more generated templates and rows.
long:
    TASKMIX_LONG=1 pytest tests/test_compiler.py -s

# Let every request of a push go wrong in every way; writes the table in docs/push.md.
pushes *arguments:
    python -m tests.push_sweep --docs {{ arguments }}

# Break the compiler on purpose, one place at a time: its tests must notice.
mutations:
    python tests/mutations.py

# Measure a build of real data; see docs/benchmarks.md.
bench *arguments:
    python benchmarks/build.py {{ arguments }}
