"""Requests to a server that speaks the OpenAI protocol (vLLM, SGLang, `transformers serve`), and the answers kept."""
