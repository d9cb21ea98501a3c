"""Digests of code follow what it computes, not how it is commented."""

import importlib

import pytest

from atomjax.runtime.code import code_digest, code_of

SOURCE = '''"""A module."""

# Why.
LIMIT = 3
TEXT = """
# a line of a text
"""


def double(x):
    """Twice x."""
    return 2 * x  # exact
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('"""A module."""', '"""The same module,\n\ndescribed."""', True),
        ("# Why.\n", "\n\n# Another reason.\n", True),
        ("Twice x.", "x + x.", True),
        ("LIMIT = 3", "LIMIT = 4", False),
        ("# a line of a text", "# another line of a text", False),
        ("2 * x", "x * 2", False),
    ],
)
def test_only_code_counts(old, new, same):
    assert old in SOURCE
    assert (code_of(SOURCE) == code_of(SOURCE.replace(old, new))) is same


def test_a_package_stands_for_its_modules(tmp_path, monkeypatch):
    package = tmp_path / "some_package"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/__init__.py", "inner/deep.py"):
        (package / name).write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()

    def digest(*names):
        code_digest.cache_clear()
        return code_digest(*names)

    first, other = digest("some_package"), digest("some_package.inner", "atomjax.runtime.code")
    (package / "inner/deep.py").write_text("x = 1\n")
    assert digest("some_package") != first
    assert digest("some_package.inner", "atomjax.runtime.code") != other
    (package / "inner/deep.py").write_text("")
    assert digest("some_package") == first
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        digest("atomjax.no_such")
