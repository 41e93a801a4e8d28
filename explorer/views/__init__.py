"""Pure functions from records and tensors to what the page draws; the only importers of plotly and umap."""
