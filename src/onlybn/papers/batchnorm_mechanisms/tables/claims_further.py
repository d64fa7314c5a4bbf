"""The claims whose experiments a first look leaves out: ℓp norms, and a grid of learning rates."""

from functools import partial

from onlybn.judging import WORDS, caption, shown
from onlybn.papers.batchnorm_mechanisms.claims import CLAIMS
from onlybn.papers.batchnorm_mechanisms.tables import claims

__all__ = ["WORDS", "caption", "numbers", "shown"]

FURTHER = ("l5-rates", "p1-norms", "p1-deep-linear")
numbers = partial(claims.numbers, claims=[claim for claim in CLAIMS if claim.id in FURTHER])
