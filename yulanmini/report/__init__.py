"""The report of a run: `collect` reads its figures, `write_report` writes them as a page and as JSON."""

from yulanmini.report.collect import collect
from yulanmini.report.page import render, write_report

__all__ = ["collect", "render", "write_report"]
