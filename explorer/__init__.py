"""LatentRevise Explorer: a language model's failed reasoning, revised in latent space (arXiv 2606.29938)."""

import os

__version__ = "0.1.0"

# Must stand before torch loads. Its threads wait for each other by spinning; when a browser that draws in software
# takes one of two cores, decoding fell from about 80 to 10 tokens/s. Bounded spinning keeps it near 80 (GNU only).
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
