"""The room that reads a dataset: arrays and samples by number, as numpy, zarr, or for Hugging Face. Writes nothing."""
