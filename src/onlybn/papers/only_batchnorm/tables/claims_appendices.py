"""The claims of the paper's appendices alone, judged by the experiments of the appendices."""

from functools import partial

from onlybn.judging import WORDS, caption, shown
from onlybn.papers.only_batchnorm.claims import CLAIMS
from onlybn.papers.only_batchnorm.tables import claims

__all__ = ["WORDS", "caption", "numbers", "shown"]

numbers = partial(claims.numbers, claims=[claim for claim in CLAIMS if claim.section.startswith("Appendix")])
