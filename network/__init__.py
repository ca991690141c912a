"""Networks: tensors in, tensors out."""

from network.build import build_cpn

__all__ = ["build_cpn"]
