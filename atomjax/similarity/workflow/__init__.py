"""Workflow "csi": the job, its report and figures."""
