"""Reports: the same detector as at the edge, held against labels."""
