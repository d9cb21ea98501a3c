"""The survey: many starts, many tasks, and which measure ranks the starts.

settings    starts, tasks, and the trainings that follow from them
report      points of the study, and what they say
figures     correlations of the measures, and errors against each
"""

from atomjax.studies.survey.report import SURVEY
from atomjax.studies.survey.settings import SurveySettings

__all__ = ["SURVEY", "SurveySettings"]
