"""How a cleaning run goes: inputs in units, texts and signals, verdicts, kept and dropped documents, the summary."""
