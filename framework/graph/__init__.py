"""The graph of random variables: which nodes each one is simulated from and inferred from."""

from framework.graph.build_graph import build_graph
from framework.graph.graph import Graph, inference_order
from framework.graph.labels import parameter_names
from framework.graph.node import Node
from framework.graph.observations import check_shapes, load_array, with_rows

__all__ = [
    "Graph",
    "Node",
    "build_graph",
    "check_shapes",
    "inference_order",
    "load_array",
    "parameter_names",
    "with_rows",
]
