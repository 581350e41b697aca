"""The sentence beside each code of why something was left: read from where the codes are, so that there is one."""

import ast
import inspect
from functools import cache

from relay.core.reasons import SkipReason


@cache
def sentences() -> dict[str, str]:
    """Return code and sentence, in the order of the source: links, parts, whole messages."""
    (declared,) = ast.parse(inspect.getsource(SkipReason)).body
    found: dict[str, str] = {}
    name = ""
    for line in declared.body if isinstance(declared, ast.ClassDef) else []:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)]):
                pass
            case ast.Expr(value=ast.Constant(value=str(sentence))) if name:
                found[SkipReason[name].value] = " ".join(sentence.split())
            case _:
                pass
    return found
