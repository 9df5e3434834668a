"""Generated documents: what a model writes from seeds (`synthesize`), problems and Chinese prose that are computed."""
