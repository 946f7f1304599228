"""INT8 graphs of a bundle, calibrated on normal footage: ranges, Q/DQ nodes, and which nodes are better left in float."""
