"""The claims about ℓp norms alone, judged by the experiments that vary the norm."""

from functools import partial

from onlybn.judging import WORDS, caption, shown
from onlybn.papers.batchnorm_mechanisms.claims import CLAIMS
from onlybn.papers.batchnorm_mechanisms.tables import claims

__all__ = ["WORDS", "caption", "numbers", "shown"]

numbers = partial(claims.numbers, claims=[claim for claim in CLAIMS if claim.section == "[S] Figure 5"])
