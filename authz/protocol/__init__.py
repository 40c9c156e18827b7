"""The rules of the specifications: values in, values out."""
