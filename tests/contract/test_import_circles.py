"""No two modules need each other, not even for annotations (`TYPE_CHECKING`) or inside a function."""

from __future__ import annotations

import grimp

HOUSE = ("edge_runtime", "calibration", "train", "export")


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles_in(grimp.build_graph(*HOUSE, cache_dir=None)) == []


def test_a_circle_is_found_however_long_it_is() -> None:
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "a")):
        graph.add_import(importer=importer, imported=imported)
    assert circles_in(graph) == [["a", "b", "c"]]


def circles_in(graph: grimp.ImportGraph) -> list[list[str]]:
    """The modules of each circle."""
    imports = [(importer, imported) for importer in graph.modules for imported in graph.find_modules_directly_imported_by(importer)]
    chains = [graph.find_shortest_chain(importer=imported, imported=importer) for importer, imported in imports]
    return sorted(map(list, {tuple(sorted(chain)) for chain in chains if chain}))
