"""Which part of a network a parameter belongs to."""

from data_sharding.schema import MODALITIES

TOWERS = (*MODALITIES, "fusion", "heads")
"""The encoders by modality, the fusion, and every other part of an objective's network."""


def tower_of(parameter: str) -> str:
    """The tower of a parameter by its name in an online or target network."""
    parts = parameter.split(".")
    if parts[:2] == ["backbone", "encoders"] and parts[2] in MODALITIES:
        return parts[2]
    return "fusion" if parts[:2] == ["backbone", "fusion"] else "heads"
