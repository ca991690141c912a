"""Networks: tensors in, tensors out."""

from network.cpn import build_cpn

__all__ = ["build_cpn"]
