"""The published recipes as data, from which the files in ``configs/`` are put together.

Values are those of JMP (Shoghi et al., ICLR 2024, arXiv:2310.16802; appendices D, F and H) and of
the study of upstream data under a budget (Ghunaim et al., 2025, arXiv:2502.11085; section 4 and
appendix D). What the papers leave open follows JMP's published configurations, and says so.
"""
