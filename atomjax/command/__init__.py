"""The console command ``atomjax``: one word for each thing that people do.

It adds no logic: trainings go to ``python -m atomjax.launch``, conversions to
``python -m atomjax.convert``, the rest to the functions of `atomjax`.
"""
