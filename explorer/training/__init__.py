"""Training on what was rescued: SFT, DPO and GRPO as TRL does them, in child processes that talk through files.

The only importers of trl and peft are here. Ours is what TRL has not: which traces, exact token ids, the rescued trace
that enters its group (`grpo.py`), groups of equal rewards that teach (`zero_variance.py`), the folder that outlives its
process (`folder.py`), and the honest comparison (`evaluate.py`, `claim.py`).
"""
