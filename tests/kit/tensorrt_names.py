"""Which names of TensorRT the sources touch, and on what.

Examined are modules that import TensorRT, plainly, inside a function or by `import_module` beside the string "tensorrt", and those that are
handed it under the name `trt`, or an `Any` under a name of CONVENTIONS. What an expression is follows from, in this order:

1. what was assigned. TensorRT's own signatures say that `builder.create_builder_config()` is an `IBuilderConfig` and `network[0]` an
   `ILayer`. What comes from another library or a literal, or has an annotation other than `Any` and TensorRT's classes, is of no
   interest;
2. its name, without leading underscores, as in CONVENTIONS: a `config` that is handed over as `Any` is an `IBuilderConfig`.

An `Any` that neither tells is a failure where something is read from it, because TensorRT may hide there; so is `getattr` with a
computed name.

Names are attributes read or written, `hasattr` and `getattr` with a literal, and the public methods of a subclass of TensorRT's,
which it calls by name.
"""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.kit.tensorrt_bindings import Names

__all__ = ["CONVENTIONS", "Use", "examined", "uses_in"]

MODULES = {"tensorrt", "tensorrt_rtx"}

# What an `Any` of that name is.
CONVENTIONS = {
    "trt": "trt",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "parser": "OnnxParser",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
    "layer": "ILayer",
    "tensor": "ITensor",
    "cache": "ITimingCache",
    "monitor": "IProgressMonitor",
    "logger": "Logger",
}

FOREIGN = ""
OPAQUE = "?"


@dataclass(frozen=True)
class Use:
    """A name read from something of TensorRT's.

    Attributes:
        owner: as in the bindings' names: `trt`, a class of it, or `?` where it cannot be told.
        name: `?` where it is computed.
        where: path and line.
        function: the outermost function or method around it, after its path; the path alone at the top of the module.
        is_question: only asks whether the name is there (`hasattr`, or `getattr` with a default).
        is_negated: the question is `not hasattr`.
    """

    owner: str
    name: str
    where: str
    function: str
    is_question: bool = False
    is_negated: bool = False


def examined(sources: Mapping[str, str]) -> dict[str, str]:
    """Those of some modules, path to source, that touch TensorRT."""
    return {path: source for path, source in sources.items() if _touches_tensorrt(_parsed(source))}


def uses_in(sources: Mapping[str, str], names: Names) -> list[Use]:
    """Every use of TensorRT in modules that touch it, in their order.

    Args:
        sources: path to source, read together: one module may get its objects from another's functions and dataclasses.
        names: of all releases together.
    """
    trees = {path: _parsed(source) for path, source in sources.items()}
    reader = _Reader(names)
    for tree in trees.values():
        reader.learn_returns(tree)
    for _ in range(2):  # the first round learns what fields hold, which may be read above or in another module
        reader.uses.clear()
        for path, tree in trees.items():
            reader.read(path, tree)
    return list(reader.uses)


@dataclass
class _Reader(ast.NodeVisitor):
    """Walks a module in order, knows what each name holds, and writes down uses."""

    names: Names
    path: str = ""
    says_tensorrt: bool = False
    returns: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    scopes: list[dict[str, str]] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    bases: list[str] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    negated: ast.expr | None = None

    def learn_returns(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                _keep(self.returns, node.name, _annotated(node.returns))

    def read(self, path: str, tree: ast.Module) -> None:
        self.path, self.says_tensorrt, self.scopes = path, _says_tensorrt(tree), [{}]
        self.visit(tree)

    # What holds what

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            self.scopes[-1][name.asname or name.name.partition(".")[0]] = "trt" if name.name in MODULES else FOREIGN

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for name in node.names:
            if node.module in MODULES:
                self._use("trt", name.name, node)
            self.scopes[-1][name.asname or name.name] = self._member("trt", name.name) if node.module in MODULES else FOREIGN

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.functions.append(node.name)
        self.scopes.append({})
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            is_self = argument.arg == "self" and bool(self.bases)
            self._bind(argument.arg, self.bases[-1] if is_self else _annotated(argument.annotation))
        self.generic_visit(node)
        self.scopes.pop()
        self.functions.pop()

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.scopes.append({argument.arg: CONVENTIONS.get(argument.arg, FOREIGN) for argument in node.args.args})
        self.generic_visit(node)
        self.scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        base = next((kind for kind in map(self._kind, node.bases) if kind.startswith("trt.")), FOREIGN).removeprefix("trt.")
        for child in node.body:
            if base and isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
                self._use(base, child.name, child)
            if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
                _keep(self.fields, child.target.id, _named(child.target.id, _annotated(child.annotation)))
        self.bases.append(base)
        self.generic_visit(node)
        self.bases.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)
            self._assign(target, self._kind(node.value))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        kind = _annotated(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            kind = kind or self._kind(node.value)
        self.visit(node.target)
        self._assign(node.target, kind)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._assign(node.target, self._kind(node.value))

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self._assign(node.target, self._element(node.iter))
        for child in (*node.body, *node.orelse):
            self.visit(child)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._assign(item.optional_vars, self._kind(item.context_expr))
        for child in node.body:
            self.visit(child)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._assign(node.target, self._element(node.iter))
        self.generic_visit(node)

    def _visit_comprehension_first(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        for generator in node.generators:
            self.visit(generator)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.comprehension):
                self.visit(child)

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _visit_comprehension_first  # noqa: N815

    # What is used

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr in self.fields | self.returns:
            return
        self._use(self._kind(node.value), node.attr, node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self.negated = node.operand if isinstance(node.op, ast.Not) else None
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in {"getattr", "hasattr", "setattr"}:
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else "?"
            asks = node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3)
            self._use(self._kind(node.args[0]), str(name), node, is_question=asks)

    def _use(self, owner: str, name: str, node: ast.AST, *, is_question: bool = False) -> None:
        if owner and owner[0] not in "[(":
            function = f"{self.path}:{self.functions[0]}" if self.functions else self.path
            where = f"{self.path}:{getattr(node, 'lineno', 0)}"
            self.uses.append(Use(owner.removeprefix("trt."), name, where, function, is_question, node is self.negated))

    # What something is

    def _kind(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name):
                return next((scope[name] for scope in reversed(self.scopes) if name in scope), FOREIGN)
            case ast.Attribute(value=value, attr=name):
                owner = self._kind(value)
                return self._member(owner, name) or self.fields.get(name, FOREIGN)
            case ast.Call(func=ast.Name(id="getattr"), args=[value, ast.Constant(value=str(name)), *_]):
                return self._member(self._kind(value), name)
            case ast.Call(func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"), args=[argument, *_]):
                return "trt" if self._may_name_tensorrt(argument) else FOREIGN
            case ast.Call(func=ast.Attribute(attr="enter_context"), args=[manager]):
                return self._kind(manager)
            case ast.Call(func=function, args=arguments):
                return self._result(function, arguments)
            case ast.Subscript(value=value):
                return self._element(value)
            case ast.BoolOp(values=values):
                return next(filter(None, map(self._kind, values)), FOREIGN)
            case ast.IfExp(body=body, orelse=otherwise):
                return self._kind(body) or self._kind(otherwise)
            case ast.NamedExpr(value=value):
                return self._kind(value)
            case ast.ListComp(elt=element) | ast.GeneratorExp(elt=element) | ast.DictComp(value=element) | ast.List(elts=[element, *_]):
                return _many(self._kind(element))
            case ast.Tuple(elts=elements):
                return _tuple(map(self._kind, elements))
            case ast.Dict(values=values):
                return _tuple(map(self._kind, values))
        return FOREIGN

    def _may_name_tensorrt(self, argument: ast.expr) -> bool:
        return argument.value in MODULES if isinstance(argument, ast.Constant) else self.says_tensorrt

    def _result(self, function: ast.expr, arguments: list[ast.expr]) -> str:
        kind = self._kind(function)
        if kind != FOREIGN:
            return kind.removeprefix("trt.")
        match function:
            case ast.Name(id=name) if name in dir(builtins):  # enumerate(network), list(network)
                return OPAQUE if any(map(self._kind, arguments)) else FOREIGN
            case ast.Name(id=name) | ast.Attribute(attr=name):
                return self.returns.get(name, FOREIGN)
        return FOREIGN

    def _member(self, owner: str, name: str) -> str:
        return OPAQUE if owner == OPAQUE else self.names.get(owner.removeprefix("trt."), {}).get(name, FOREIGN)

    def _element(self, node: ast.expr) -> str:
        kind = self._kind(node)
        if kind[:1] in {"[", "("}:
            [*kinds] = set(kind[1:-1].split("|"))
            return kinds[0] if len(kinds) == 1 else OPAQUE
        return kind if kind in {FOREIGN, OPAQUE} else self._member(kind, "__getitem__")

    def _assign(self, target: ast.expr, kind: str) -> None:
        match target:
            case ast.Name(id=name):
                self._bind(name, kind)
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                _keep(self.fields, name, _named(name, kind))
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                kinds = kind[1:-1].split("|") if kind.startswith("(") else [OPAQUE if kind == OPAQUE else FOREIGN] * len(elements)
                for element, part in zip(elements, kinds, strict=False):
                    self._assign(element, part)

    def _bind(self, name: str, kind: str) -> None:
        _keep(self.scopes[-1], name, _named(name, kind))


@functools.cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _touches_tensorrt(tree: ast.Module) -> bool:
    return any(map(_is_tensorrt, ast.walk(tree))) or (_says_tensorrt(tree) and any(map(_imports_computed, ast.walk(tree))))


def _is_tensorrt(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(name.name in MODULES for name in names)
        case ast.ImportFrom(module=module):
            return module in MODULES
        case ast.arg(arg=name, annotation=annotation) if _annotated(annotation) == OPAQUE and name.lstrip("_") in CONVENTIONS:
            return True
        case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
            return name.lstrip("_") == "trt"
    return False


def _says_tensorrt(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Constant) and node.value in MODULES for node in ast.walk(tree))


def _imports_computed(node: ast.AST) -> bool:
    return isinstance(node, ast.Name | ast.Attribute) and "import_module" in {getattr(node, "id", None), getattr(node, "attr", None)}


def _annotated(annotation: ast.expr | None) -> str:
    """What an annotation says: a class of TensorRT's, something else, or that it may be anything."""
    match annotation:
        case None:
            return FOREIGN
        case ast.Constant(value=str(text)):
            return _annotated(ast.parse(text, mode="eval").body)
        case ast.Attribute(value=ast.Name(id="trt"), attr=name):
            return name
        case ast.Subscript(value=ast.Name(id="dict" | "Mapping")):
            return FOREIGN
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=elements)):
            return _tuple(map(_annotated, elements))
    return OPAQUE if any(isinstance(node, ast.Name) and node.id in {"Any", "ModuleType"} for node in ast.walk(annotation)) else FOREIGN


def _many(kind: str) -> str:
    """A list of what is all the same; a tuple's parts may differ."""
    return f"[{kind}]" if kind else FOREIGN


def _tuple(kinds: Iterable[str]) -> str:
    parts = list(kinds)
    return f"({'|'.join(parts)})" if any(parts) else FOREIGN


def _named(name: str, kind: str) -> str:
    """What something is; where that is open, by its name."""
    return CONVENTIONS.get(name.lstrip("_"), OPAQUE) if kind == OPAQUE else kind


def _keep(kinds: dict[str, str], name: str, kind: str) -> None:
    """Remember what a name holds; one that ever held TensorRT's stays so."""
    kinds[name] = kind or kinds.get(name, FOREIGN)
