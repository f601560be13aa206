# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What no Python file of the collection may hold: a shell, SQL put together from strings, an early end of a module."""

from __future__ import annotations

import ast
import itertools
import pathlib
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._errors import CODES
from support import tree

PLUGINS = tree.below("plugins", ".py")
UTILS = [path for path in PLUGINS if path.parts[1] == "module_utils"]
#: The two places where an error becomes a module's result.
ENDS = {"_module.py", "_module_local.py"}
#: Functions that take a statement, and the position of it among their arguments.
STATEMENT = {"execute": 0, "executemany": 0, "copy_expert": 0, "row": 1, "rows": 1}
#: 300 is the aim; a little over it is for the reader of the change to judge.
UTIL_LINES = 350

each_plugin = pytest.mark.parametrize("path", PLUGINS, ids=str)
each_util = pytest.mark.parametrize("path", UTILS, ids=lambda path: path.name)


def parsed(path: pathlib.Path) -> ast.Module:
    return ast.parse(tree.text(path), str(path), feature_version=(3, 9))


def calls(module: ast.AST) -> t.Iterator[ast.Call]:
    return (node for node in ast.walk(module) if isinstance(node, ast.Call))


def name_of(call: ast.Call) -> str:
    """The called name, with the names it is an attribute of: C(subprocess.run), C(cursor.execute)."""
    return ast.unparse(call.func)


def forbidden_calls(source: ast.AST) -> list[str]:
    found = []
    for call in calls(source):
        if any(
            word.arg in ("shell", "use_unsafe_shell") and not (isinstance(word.value, ast.Constant) and word.value.value is False) for word in call.keywords
        ):
            found.append("line %d: a shell" % call.lineno)
        if name_of(call) in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "eval", "exec", "pickle.loads", "yaml.load"):
            found.append("line %d: %s" % (call.lineno, name_of(call)))
    return found


def is_put_together(node: ast.AST) -> bool:
    """Whether an expression is a string made from parts. What psycopg2.sql composes is not a string."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mod, ast.Add)):
        return any(isinstance(side, ast.Constant) and isinstance(side.value, str) or is_put_together(side) for side in (node.left, node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join", "replace"):
        return isinstance(node.func.value, ast.Constant)
    return False


def put_together_sql(source: ast.AST) -> list[str]:
    """Statements that are strings made from parts, in the call itself or in a name given to it in the same function."""
    found = []
    for scope in itertools.chain([source], (node for node in ast.walk(source) if isinstance(node, ast.FunctionDef))):
        made = {
            target.id
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign) and is_put_together(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in calls(scope):
            name = name_of(call).rpartition(".")[2]
            position = STATEMENT.get(name)
            if position is None:
                continue
            # execute() is a cursor's method and a helper of ours that takes the connection first.
            for argument in call.args[position : position + 2] if name == "execute" else call.args[position : position + 1]:
                if is_put_together(argument) or isinstance(argument, ast.Name) and argument.id in made and isinstance(scope, ast.FunctionDef):
                    found.append("line %d: %s" % (call.lineno, ast.unparse(argument)[:80]))
    return found


@each_plugin
def test_plugins_are_written_for_python_3_9(path: pathlib.Path) -> None:
    source = parsed(path)
    # Annotations of later Pythons are only fine where they are not evaluated.
    if any(isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) for node in ast.walk(source)):
        assert "from __future__ import annotations" in tree.text(path)


@each_plugin
def test_no_shell_and_no_evaluated_text(path: pathlib.Path) -> None:
    assert forbidden_calls(parsed(path)) == []


@each_plugin
def test_no_sql_is_put_together_from_strings(path: pathlib.Path) -> None:
    assert put_together_sql(parsed(path)) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("cursor.execute('DROP TABLE %s' % name)", True),
        ("cursor.execute(f'DROP TABLE {name}')", True),
        ("cursor.execute('DROP TABLE {}'.format(name))", True),
        ("rows(conn, 'SELECT * FROM ' + name)", True),
        ("def f():\n    statement = 'DROP TABLE %s' % name\n    execute(conn, statement)", True),
        ("cursor.execute('SELECT 1 WHERE a = %s', (name,))", False),
        ("execute(conn, sql.SQL('DROP TABLE {}').format(sql.Identifier(name)))", False),
        ("row(conn, 'SELECT %(a)s', {'a': 'x%s' % name})", False),
    ],
)
def test_the_search_for_sql_finds_what_it_should(source: str, found: bool) -> None:
    assert bool(put_together_sql(ast.parse(source))) is found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("subprocess.run(x, shell=True)", True),
        ("subprocess.run(x, shell=flag)", True),
        ("os.system(x)", True),
        ("subprocess.run(x, shell=False)", False),
        ("run([x])", False),
    ],
)
def test_the_search_for_shells_finds_what_it_should(source: str, found: bool) -> None:
    assert bool(forbidden_calls(ast.parse(source))) is found


@each_util
def test_utils_raise_and_never_end_a_module(path: pathlib.Path) -> None:
    used = {node.attr for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)} & {"fail_json", "exit_json", "fail_from_exception"}
    assert used == ({"fail_json", "exit_json"} if path.name in ENDS else set())


@each_util
def test_utils_are_private_and_say_so(path: pathlib.Path) -> None:
    assert path.name.startswith("_")
    text = tree.text(path)
    assert "PRIVATE to the collection" in text
    assert "GNU General Public License v3.0+" in text
    assert "__all__" in text


@each_util
def test_utils_are_short(path: pathlib.Path) -> None:
    assert len(tree.text(path).splitlines()) <= UTIL_LINES


@each_plugin
def test_an_error_code_that_is_raised_is_registered(path: pathlib.Path) -> None:
    raised = [
        word.value.value
        for call in calls(parsed(path))
        if name_of(call).rpartition(".")[2] == "MigrationError"
        for word in call.keywords
        if word.arg == "code" and isinstance(word.value, ast.Constant)
    ]
    assert set(raised) <= set(CODES)
