"""gateway.yaml: read strictly, every mistake at its place."""
