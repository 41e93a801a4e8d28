"""LatentRevise Explorer: a language model's failed reasoning, revised in latent space, step by step (arXiv
2606.29938)."""

__version__ = "0.1.0"
