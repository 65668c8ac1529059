"""ggml's allocator, replayed: where results lie decides the buffer's size."""

from corral.planner.estimate_allocator import Graph, buffer_bytes


def test_a_chain_needs_two_results_at_a_time() -> None:
    graph = Graph()
    current = graph.input(100)
    for _ in range(10):
        current = graph.op(100, current)
    assert buffer_bytes(graph, 1) == 200


def test_an_operation_in_place_needs_no_room() -> None:
    graph = Graph()
    current = graph.input(100)
    for _ in range(10):
        current = graph.changed(current)
    assert buffer_bytes(graph, 1) == 100


def test_nothing_is_written_over_what_is_still_needed() -> None:
    graph = Graph()
    residual = graph.op(100, graph.input(10))
    graph.op(1, graph.changed(residual), residual)
    assert buffer_bytes(graph, 1) == 10 + 100 + 100  # the last result finds room where the input was


def test_nothing_is_written_over_through_a_view() -> None:
    graph = Graph()
    seen = graph.view(graph.op(100, graph.input(1)))
    graph.changed(seen)
    graph.op(100, seen)
    assert buffer_bytes(graph, 1) >= 200


def test_an_output_keeps_its_room() -> None:
    graph = Graph()
    output = graph.op(100, graph.input(1))
    graph.keep(output)
    graph.op(100, graph.op(100, output))
    assert buffer_bytes(graph, 1) == 301


def test_freed_neighbours_make_one_hole() -> None:
    graph = Graph()
    source = graph.input(1)
    left, right, above = graph.op(50, source), graph.op(50, source), graph.op(10, source)
    graph.use(left, right)
    graph.op(1, graph.op(100, source), above)
    assert buffer_bytes(graph, 1) == 111


def test_the_tightest_hole_is_taken() -> None:
    graph = Graph()
    source = graph.input(1)
    large, wall, small, roof = (graph.op(size, source) for size in (80, 10, 50, 10))
    graph.use(large, small)
    tight, loose = graph.op(50, source), graph.op(80, source)
    graph.use(tight, loose, wall, roof)
    assert buffer_bytes(graph, 1) == 151


def test_sizes_are_aligned() -> None:
    graph = Graph()
    graph.op(1, graph.input(1))
    assert buffer_bytes(graph, 64) == 128
