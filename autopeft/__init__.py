"""Find the parameter-efficient configuration to train, for your model, data and budget."""

__version__ = "0.1.0"
