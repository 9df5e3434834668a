"""The report of a run: `collect` reads its figures, `write_report` writes them as a page and as JSON."""

from yulanmini.report.collect import collect, collect_training
from yulanmini.report.page import render, write_report, write_training_report

__all__ = ["collect", "collect_training", "render", "write_report", "write_training_report"]
