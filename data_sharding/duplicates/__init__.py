"""What is alike in a corpus: signatures of a few hundred bytes a row -> copies and clusters.

Everything lies in files, and memory does not grow with the number of rows. This package knows
nothing of corpora, shards or jobs.
"""

from data_sharding.duplicates.config import DuplicatesConfig
from data_sharding.duplicates.search import Alike, find_alike
from data_sharding.duplicates.signatures import SIGNATURE, Signer
from data_sharding.duplicates.table import SignatureFile, SignatureFiles
from data_sharding.duplicates.union import UnionFile

__all__ = [
    "SIGNATURE",
    "Alike",
    "DuplicatesConfig",
    "SignatureFile",
    "SignatureFiles",
    "Signer",
    "UnionFile",
    "find_alike",
]
